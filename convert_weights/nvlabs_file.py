"""NVlabs files as a whole: which of their networks are used, and the resulting checkpoint."""

from collections.abc import Mapping

from convert_weights import nvlabs
from convert_weights import nvlabs_modules as nodes
from convert_weights.builders import NAMESPACE
from convert_weights.checkpoint import Checkpoint, ConversionError, shown, together
from convert_weights.pickle_machine import Node
from convert_weights.structure import Structure
from convert_weights.tensors import Tensor

LICENCE = "NVIDIA Source Code License (non-commercial) where the weights are NVIDIA's own"
AVERAGE = "G_ema, its moving average, is used"
NO_AVERAGE = "the file has no moving average (G_ema); the plain G is used"
SILENT = (
    "a state dict does not state conv_clamp, learning-rate multipliers or the minibatch-stddev group: "
    "no clamp, 0.01 and 4 are assumed"
)


def is_snapshot(structure: Structure) -> bool:
    """Whether it holds networks as modules under NVlabs' names."""
    found = [structure.mapping.get(key) for key in ("G_ema", "G")]
    return any(isinstance(network, Node) and network.name != NAMESPACE for network in found)


def snapshot(root: dict) -> Checkpoint:
    """A pickled snapshot {"G", "D", "G_ema", …} of persistent modules."""
    known = {"G", "D", "G_ema", "augment_pipe", "training_set_kwargs"}
    odd = [str(k) for k, v in root.items() if k not in known and isinstance(v, Node)]
    if odd:
        raise ConversionError(
            f"has a network under the unknown name {shown(odd[0])}; the file is damaged or of another project"
        )
    ignored = {}
    if isinstance(root.get("augment_pipe"), Node):
        ignored["augment_pipe*"] = "training-time augmentation"
    ema = "G_ema" in root
    if ema and "G" in root:
        ignored["G.*"] = AVERAGE
    notes = () if ema else (NO_AVERAGE,)
    return _from_modules(root["G_ema" if ema else "G"], root.get("D"), ignored, notes, "pickle")


def whole_generator(root: Node) -> Checkpoint:
    """A generator that was pickled as a whole, as PTI does."""
    return _from_modules(root, None, {}, (), "whole-generator save (as PTI makes)")


def _from_modules(generator: object, discriminator: object, ignored: dict, notes: tuple, container: str) -> Checkpoint:
    found = nodes.modules(generator)  # type: ignore[arg-type]
    facts = nodes.generator_facts(found)
    network, more = nvlabs.generator(nodes.tensors(found), "G_ema" if not notes else "G", facts)
    critic = None
    if discriminator is not None:
        inside = nodes.modules(discriminator)  # type: ignore[arg-type]
        if nodes.is_stylegan2_discriminator(inside):
            critic = nvlabs.discriminator(nodes.tensors(inside), "D", nodes.discriminator_facts(inside))
        else:
            ignored["D.*"] = f"a {shown(inside[''][0])}, not the discriminator of StyleGAN2"
    repository = "stylegan3 (its StyleGAN2)" if nodes.is_stylegan3_repository(found) else "stylegan2-ada-pytorch"
    return Checkpoint(
        format=f"NVlabs {repository} {container}",
        parts=together(network, critic),
        ignored=ignored,
        notes=(*notes, *more),
        licence=LICENCE,
    )


def npz(structure: Structure) -> Checkpoint:
    """An .npz file with names "G_ema/…", "G/…", "D/…"."""
    return flat_networks(*nvlabs.state_dicts(structure.own), structure.placed)


def flat_networks(networks: Mapping[str, Mapping[str, Tensor]], ignored: dict, container: str) -> Checkpoint:
    """State dicts with NVlabs names, by network name: "G_ema" or "G", and "D"."""
    which = next((n for n in ("G_ema", "G") if n in networks), None)
    if which is None:
        raise ConversionError("has no generator (G_ema or G); a discriminator alone is not converted")
    network, notes = nvlabs.generator(networks[which], which)
    critic = nvlabs.discriminator(networks["D"], "D") if "D" in networks else None
    if which == "G":
        notes = [NO_AVERAGE, *notes]
    return Checkpoint(
        format=f"NVlabs tensors in {container}",
        parts=together(network, critic),
        ignored=ignored,
        notes=(*notes, SILENT),
    )
