"""Snapshots and state dicts in a torch file: rosinality, pSp/e4e/HyperStyle, GenForce, NVlabs names, BDInvert."""

from collections.abc import Mapping

from convert_weights import basecode, genforce, nvlabs_file, rosinality
from convert_weights.checkpoint import Checkpoint, ConversionError, Part, shown, together
from convert_weights.nvlabs import Network
from convert_weights.structure import Structure
from convert_weights.tensors import Tensor

UNUSED = {
    "g": "g_ema, its moving average, is used",
    "generator": "generator_smooth, its moving average, is used",
    "g_optim": "optimiser state",
    "d_optim": "optimiser state",
    "optimizer": "optimiser state",
    "scheduler": "training state",
    "discriminator_state_dict": "discriminator of the encoder's training",
}


def is_decoder(s: Structure) -> bool:
    """Whether the state dict holds a generator under `decoder.`, as in pSp, e4e and HyperStyle files."""
    return "decoder.input.input" in s.parts.get("state_dict", {})


def decoder(s: Structure) -> Checkpoint:
    """The frozen or tuned generator beside the encoder of pSp, e4e or HyperStyle."""
    state = s.parts["state_dict"]
    flat = {n.removeprefix("decoder."): t for n, t in state.items() if n.startswith("decoder.")}
    others = sorted({n.partition(".")[0] for n in state if not n.startswith("decoder.")})
    ignored = {f"state_dict/{n}.*": "not part of the generator" for n in others}
    ignored |= leftovers(s.mapping, {"state_dict", "latent_avg"})
    network = rosinality.generator(flat, _average(s), "decoder")
    return _checkpoint(network, None, f"pSp/e4e/HyperStyle decoder in {s.placed}", ignored, False)


def is_rosinality(s: Structure) -> bool:
    """Whether the file is one of rosinality/stylegan2-pytorch, by the name of the constant input."""
    return any("input.input" in flat for flat in s.candidates("g_ema", "g").values())


def rosinality_file(s: Structure) -> Checkpoint:
    """rosinality's snapshot, or the state dict of its generator alone."""
    name, flat = next(iter(s.candidates("g_ema", "g").items()))
    _check_average(s.mapping, name, "g_ema", "g")
    network = rosinality.generator(flat, _average(s) if name else None, name or "generator")
    d = rosinality.discriminator(s.parts["d"], "d") if "d" in s.parts else None
    ignored = leftovers(s.mapping, {"latent_avg", "d", name}) if name else {}
    return _checkpoint(network, d, f"rosinality stylegan2-pytorch {s.container}", ignored, name == "g")


def is_genforce(s: Structure) -> bool:
    """Whether the file is one of GenForce, by the names of the mapping network."""
    flats = s.candidates("generator_smooth", "generator").values()
    return any(n.startswith("mapping.dense") for flat in flats for n in flat)


def genforce_file(s: Structure) -> Checkpoint:
    """GenForce's snapshot, or the state dict of its generator alone."""
    name, flat = next(iter(s.candidates("generator_smooth", "generator").items()))
    _check_average(s.mapping, name, "generator_smooth", "generator")
    network = genforce.generator(flat, name or "generator")
    d = genforce.discriminator(s.parts["discriminator"], "discriminator") if "discriminator" in s.parts else None
    ignored = leftovers(s.mapping, {name, "discriminator"}) if name else {}
    return _checkpoint(network, d, f"GenForce StyleGAN2 {s.container}", ignored, name == "generator")


def is_nvlabs(s: Structure) -> bool:
    """Whether the file holds state dicts with NVlabs names, by the name of the constant input."""
    return any("synthesis.b4.const" in flat for flat in s.candidates("G_ema", "G", "D").values())


def nvlabs_names(s: Structure) -> Checkpoint:
    """State dicts with NVlabs names under "G_ema", "G" and "D", or the state dict of a generator alone."""
    named = {name or "G_ema": flat for name, flat in s.candidates("G_ema", "G", "D").items()}
    if "G_ema" not in named:
        _check_average(s.mapping, "G", "G_ema", "G")
    ignored = leftovers(s.mapping, set(named)) if "G_ema" not in named or "G_ema" in s.mapping else {}
    if "G" in named and "G_ema" in named:
        ignored["G/*"] = nvlabs_file.AVERAGE
    return nvlabs_file.flat_networks(named, ignored, s.placed)


def basecode_encoder(s: Structure) -> Checkpoint:
    """BDInvert's snapshot of its base-code encoder, or the state dict alone."""
    ignored = leftovers(s.mapping, {"encoder"}) if "encoder" in s.parts else {}
    return basecode.encoder(s.parts.get("encoder", s.own), ignored)


def _average(s: Structure) -> Tensor | None:
    latent_avg = s.mapping.get("latent_avg")
    return latent_avg if isinstance(latent_avg, Tensor) else None


def _check_average(root: Mapping, used: str, average: str, plain: str) -> None:
    """Refuses a plain generator if another entry of the file could be its moving average under a damaged name."""
    expected = {"d", "D", "discriminator", "latent_avg", "args", *UNUSED}
    odd = [str(k) for k, v in root.items() if k not in expected and k != plain and isinstance(v, dict)]
    if used == plain and odd:
        raise ConversionError(
            f"has no {average}, but the unknown entry {shown(odd[0])!r}; the file is damaged or of another project"
        )


def _checkpoint(network: Network, d: Part | None, title: str, ignored: dict[str, str], plain: bool) -> Checkpoint:
    part, notes = network
    if plain:
        notes = [nvlabs_file.NO_AVERAGE.replace("G_ema", "an averaged generator"), *notes]
    return Checkpoint(format=title, parts=together(part, d), ignored=ignored, notes=tuple(notes))


def leftovers(root: Mapping, used: set[str]) -> dict[str, str]:
    """Parts of a training snapshot that are not weights: name -> reason.

    Raises:
        ConversionError: there are tensors under an unknown name, which could be the damaged name of a network.
    """
    ignored = {}
    for key, value in root.items():
        if key in used:
            continue
        inside = value.values() if isinstance(value, dict) else [value]
        if key not in UNUSED and any(isinstance(v, Tensor) for v in inside):
            raise ConversionError(
                f"has tensors under the unknown name {shown(key)}; the file is damaged or of another project"
            )
        if isinstance(value, (dict, list, Tensor)):
            ignored[f"{key}/*" if isinstance(value, dict) else str(key)] = UNUSED.get(
                str(key), "not part of the networks"
            )
    return ignored
