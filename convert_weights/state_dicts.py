"""Generators that come as state dicts in a torch file: rosinality, pSp/e4e/HyperStyle, GenForce, NVlabs names."""

from collections.abc import Mapping

from convert_weights import genforce, nvlabs_file, rosinality
from convert_weights.checkpoint import Checkpoint, ConversionError, shown
from convert_weights.nvlabs import Network
from convert_weights.tensors import Tensor

Flat = Mapping[str, Tensor]
UNUSED = {
    "g": "g_ema, its moving average, is used",
    "generator": "generator_smooth, its moving average, is used",
    "g_optim": "optimiser state",
    "d_optim": "optimiser state",
    "optimizer": "optimiser state",
    "scheduler": "training state",
    "discriminator_state_dict": "discriminator of the encoder's training",
}


def generator_file(root: Mapping, own: Flat, parts: Mapping[str, Flat], container: str) -> Checkpoint | None:
    """The checkpoint of whichever dialect has its telling tensor; None where there is none.

    Args:
        root: the whole dict of the file.
        own: tensors directly in it.
        parts: tensors in each dict inside it.
        container: for the format's name.
    Raises:
        ConversionError: where a dialect is recognised but its tensors do not fit.
    """
    state = parts.get("state_dict", {})
    if "decoder.input.input" in state:
        return _decoder(root, state, container)
    # the dialect shows in any part, the part is chosen by name: a damaged average must not give way to the plain one
    candidates = [parts[n] for n in ("g_ema", "g") if n in parts] or [own]
    if any("input.input" in flat for flat in candidates):
        return _rosinality(root, next((n for n in ("g_ema", "g") if n in parts), ""), candidates[0], parts, container)
    candidates = [parts[n] for n in ("generator_smooth", "generator") if n in parts] or [own]
    if any(n.startswith("mapping.dense") for flat in candidates for n in flat):
        name = next((n for n in ("generator_smooth", "generator") if n in parts), "")
        return _genforce(root, name, candidates[0], parts, container)
    named = {n: parts[n] for n in ("G_ema", "G", "D") if n in parts} or {"G_ema": own}
    if any("synthesis.b4.const" in flat for flat in named.values()):
        return _nvlabs(root, named, container)
    _refuse_by_name(own, parts)
    return None


def _rosinality(root: Mapping, name: str, flat: Flat, parts: Mapping[str, Flat], container: str) -> Checkpoint:
    known = {"latent_avg", "d", name}
    _check_average(root, name, "g_ema", "g")
    latent_avg = root.get("latent_avg") if name else None
    network = rosinality.generator(flat, latent_avg if isinstance(latent_avg, Tensor) else None, name or "generator")
    d = rosinality.discriminator(parts["d"], "d") if "d" in parts else None
    return _checkpoint(
        network, d, f"rosinality stylegan2-pytorch {container}", leftovers(root, known) if name else {}, name == "g"
    )


def _decoder(root: Mapping, state: Flat, container: str) -> Checkpoint:
    """pSp, e4e, HyperStyle: the frozen or tuned generator is `decoder.`, beside an encoder."""
    flat = {n.removeprefix("decoder."): t for n, t in state.items() if n.startswith("decoder.")}
    others = sorted({n.partition(".")[0] for n in state if not n.startswith("decoder.")})
    ignored = {f"state_dict/{n}.*": "not part of the generator" for n in others} | leftovers(
        root, {"state_dict", "latent_avg"}
    )
    latent_avg = root.get("latent_avg")
    network = rosinality.generator(flat, latent_avg if isinstance(latent_avg, Tensor) else None, "decoder")
    return _checkpoint(network, None, f"pSp/e4e/HyperStyle decoder in a {container}", ignored, False)


def _genforce(root: Mapping, name: str, flat: Flat, parts: Mapping[str, Flat], container: str) -> Checkpoint:
    _check_average(root, name, "generator_smooth", "generator")
    network = genforce.generator(flat, name or "generator")
    d = genforce.discriminator(parts["discriminator"], "discriminator") if "discriminator" in parts else None
    ignored = leftovers(root, {name, "discriminator"}) if name else {}
    return _checkpoint(network, d, f"GenForce StyleGAN2 {container}", ignored, name == "generator")


def _nvlabs(root: Mapping, named: Mapping[str, Flat], container: str) -> Checkpoint:
    if "G_ema" not in named:
        _check_average(root, "G", "G_ema", "G")
    ignored = leftovers(root, set(named)) if "G_ema" not in named or "G_ema" in root else {}
    if "G" in named and "G_ema" in named:
        ignored["G/*"] = nvlabs_file.AVERAGE
    return nvlabs_file.flat_networks(named, ignored, f"a {container}")


def _check_average(root: Mapping, used: str, average: str, plain: str) -> None:
    """A plain generator is taken only where nothing else in the file could be its average under a damaged name."""
    expected = {"d", "D", "discriminator", "latent_avg", "args", *UNUSED}
    odd = [str(k) for k, v in root.items() if k not in expected and k != plain and isinstance(v, dict)]
    if used == plain and odd:
        raise ConversionError(
            f"has no {average}, but {odd[0]!r}, which is not known; the file is damaged or of another project"
        )


def _checkpoint(network: Network, d: Network | None, title: str, ignored: dict[str, str], plain: bool) -> Checkpoint:
    arrays, config, notes = network
    result, configs = {f"generator/{n}": a for n, a in arrays.items()}, {"generator": config}
    if d is not None:
        result |= {f"discriminator/{n}": a for n, a in d[0].items()}
        configs["discriminator"] = d[1]
    if plain:
        notes = [nvlabs_file.NO_AVERAGE.replace("G_ema", "an averaged generator"), *notes]
    return Checkpoint(
        kind="stylegan2", format=title, config=configs, arrays=result, ignored=ignored, notes=tuple(notes)
    )


def leftovers(root: Mapping, used: set[str]) -> dict[str, str]:
    """Parts of a training snapshot that are not weights: name -> reason.

    Raises:
        ConversionError: for tensors under an unknown name, which could be a part of the network under a damaged one.
    """
    ignored = {}
    for key, value in root.items():
        if key in used:
            continue
        inside = value.values() if isinstance(value, dict) else [value]
        if key not in UNUSED and any(isinstance(v, Tensor) for v in inside):
            raise ConversionError(
                f"has tensors under {shown(key)}, which is not known; the file is damaged or of another project"
            )
        if isinstance(value, (dict, list, Tensor)):
            ignored[f"{key}/*" if isinstance(value, dict) else str(key)] = UNUSED.get(
                str(key), "not part of the networks"
            )
    return ignored


def _refuse_by_name(own: Flat, parts: Mapping[str, Flat]) -> None:
    """Files that are often tried and are something else."""
    for flat in (own, *parts.values()):
        if any(n.startswith(("synthesis.input.", "synthesis.L0_")) for n in flat):
            raise ConversionError("is a StyleGAN3 generator, whose networks are different; use a StyleGAN2 checkpoint")
        if any(n.startswith(("net.slice", "lins.")) for n in flat):
            raise ConversionError(
                "is a whole LPIPS module; convert torchvision's vgg16-397923af.pth and "
                "lpips/weights/v0.1/vgg.pth instead, one by one"
            )
        if "g_synthesis.blocks.4x4.epi1.top_epi.noise.weight" in flat or any(
            n.startswith("synthesis.layer0.apply_noise") for n in flat
        ):
            raise ConversionError("is a StyleGAN1 generator, which is not supported; use a StyleGAN2 checkpoint")
        if "input_layer.0.weight" in flat and any(n.startswith("body.") for n in flat):
            raise ConversionError(
                "holds a face-recognition network (ArcFace) inside of something else; convert the state dict itself, "
                "model_ir_se50.pth"
            )
