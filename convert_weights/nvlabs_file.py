"""NVlabs pickles as a whole: which of the modules in them are used, and the resulting checkpoint."""

from convert_weights import nvlabs
from convert_weights import nvlabs_modules as nodes
from convert_weights.builders import NAMESPACE, NETWORK
from convert_weights.checkpoint import Checkpoint, ConversionError, Part, Unfit, listed, shown, together
from convert_weights.pickle_machine import Node
from convert_weights.places import chosen, named, role
from convert_weights.structure import Structure

LICENCE = "NVIDIA Source Code License (non-commercial) where the weights are NVIDIA's own"
NO_AVERAGE = "the file has no moving average (G_ema); the plain G is used"
USUAL = ("G_ema", "G")


def is_module(value: object) -> bool:
    """Whether an object of a pickle is a network as a module of Python."""
    return isinstance(value, Node) and value.name not in (NAMESPACE, NETWORK)


def _generators(root: dict) -> list[str]:
    """Keys of the modules that are generators, by the key or by the class."""
    nets = {str(key): value for key, value in root.items() if is_module(value)}
    return [key for key, net in nets.items() if role(key) in ("averaged", "plain") or net.name == "Generator"]


def is_snapshot(structure: Structure) -> bool:
    """Whether it holds networks as modules, one of them a generator."""
    return bool(_generators(structure.mapping))


def snapshot(root: dict) -> Checkpoint:
    """A pickled snapshot {"G", "D", "G_ema", …} of persistent modules."""
    key = chosen(_generators(root), root)
    plain = role(key) == "plain"
    known = {key, "D", "augment_pipe"}
    odd = [str(k) for k, v in root.items() if k not in known and isinstance(v, Node) and v.name != NAMESPACE]
    if plain and odd:
        raise ConversionError(
            f"has a network under the unknown name {shown(odd[0])}; the file is damaged or of another project"
        )
    ignored = {f"{k}.*": f"{shown(key)}, its moving average, is used" for k in odd if role(k) == "plain"}
    ignored |= {f"{k}.*": "not part of the networks" for k in odd if role(k) != "plain"}
    if isinstance(root.get("augment_pipe"), Node):
        ignored["augment_pipe*"] = "training-time augmentation"
    moved = [] if key in USUAL else [f"the generator was found under {shown(named(key))}"]
    return _from_modules(root[key], root.get("D"), ignored, [NO_AVERAGE] * plain + moved, "pickle", key)


def whole_generator(root: Node) -> Checkpoint:
    """A generator that was pickled as a whole, as PTI does."""
    return _from_modules(root, None, {}, [], "whole-generator save (as PTI makes)", "G_ema")


def _from_modules(
    generator: object, discriminator: object, ignored: dict, notes: list[str], container: str, what: str
) -> Checkpoint:
    found = nodes.modules(generator)  # type: ignore[arg-type]
    facts = nodes.generator_facts(found)
    network, more = nvlabs.generator(nodes.tensors(found), shown(what), facts)
    if odd := nodes.unknown_keywords(found):
        more = [
            *more,
            f"the generator was built with keywords that are not StyleGAN2's: {listed(odd)}; look at samples",
        ]
    critic = None
    if discriminator is not None:
        try:
            critic = _critic(discriminator)
        except Unfit as error:
            ignored["D.*"] = str(error)
    repository = "stylegan3 (its StyleGAN2)" if nodes.is_stylegan3_repository(found) else "stylegan2-ada-pytorch"
    return Checkpoint(
        format=f"NVlabs {repository} {container}",
        parts=together(network, critic),
        ignored=ignored,
        notes=(*notes, *(["the discriminator (D) does not fit and is not used"] if "D.*" in ignored else []), *more),
        licence=LICENCE,
    )


def _critic(root: object) -> Part:
    inside = nodes.modules(root)  # type: ignore[arg-type]
    if not nodes.is_stylegan2_discriminator(inside):
        raise Unfit(f"a {shown(inside[''][0])}, not the discriminator of StyleGAN2")
    return nvlabs.discriminator(nodes.tensors(inside), "D", nodes.discriminator_facts(inside))
