"""Keywords that forks of StyleGAN2 add to how a network is built, and the values that leave the network as it is."""

from collections.abc import Collection, Iterator, Mapping

from convert_weights.checkpoint import Unfit, shown

ORDINARY: Mapping[str, tuple] = {
    "square": (True,),  # StyleGAN-Human: False halves the width
    "min_h": (4,),
    "min_w": (4,),
    "normalize_latents": (True,),
    "normalize_z": (True,),
    "demodulate": (True,),
    "use_wscale": (True,),
    "use_instance_norm": (False,),
    "fused_modconv": (True, False),  # another way to compute the same
    "fused_modconv_default": (True, False, "inference_only"),
}


def unknown(
    kwargs: Mapping,
    known: Collection[str],
    what: str,
    ordinary: Mapping[str, tuple] = ORDINARY,
    network: str = "StyleGAN2",
) -> list[str]:
    """The keywords that neither a list nor a table of ordinary values has; those that are None are left out.

    Raises:
        Unfit: a keyword of the table has another value, so that this is a variant of the network.
    """
    found = []
    for name, value in kwargs.items():
        if name in known or value is None:
            continue
        if name not in ordinary:
            found.append(str(name))
        elif not any(type(value) is type(usual) and value == usual for usual in ordinary[name]):
            raise Unfit(
                f"{what} was built with {shown(name)}={shown(str(value))}, {network} has "
                f"{ordinary[name][0]}; this variant of the network is not supported"
            )
    return sorted(found)


def nested(kwargs: Mapping) -> Iterator[tuple[str, object]]:
    """The keywords of a network of NVlabs, those in `mapping_kwargs` and the like at the end."""
    for name, value in kwargs.items():
        if not (str(name).endswith("_kwargs") and isinstance(value, dict)):
            yield str(name), value
    for name, value in kwargs.items():
        if str(name).endswith("_kwargs") and isinstance(value, dict):
            yield from ((str(key), inner) for key, inner in value.items())
