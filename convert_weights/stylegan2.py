"""The canonical StyleGAN2: names and shapes that a config implies, and the config that given shapes imply.

Names and layouts are those of NVlabs/stylegan2-ada-pytorch (training/networks.py), without the `resample_filter`
buffers.
"""

import re
from collections.abc import Mapping

import numpy as np

from convert_weights.checkpoint import Unfit, shown

COLOURS = (1, 3)  # channels of pictures
Shapes = Mapping[str, tuple[int, ...]]


def generator_config(shapes: Shapes) -> dict:
    """Reads the generator's architecture off its shapes (canonical names); other entries get their usual values.

    Raises:
        Unfit: the tensors are not those of a StyleGAN2 generator.
    """
    resolutions = block_sides(shapes, r"synthesis\.b(\d{1,5})\..*", "generator")
    layers = count(shapes, r"mapping\.fc(\d{1,5})\.weight", "the generator's mapping")
    if layers == 0:
        raise Unfit("the generator has no mapping network (mapping.fc0.weight); use a file of the whole generator")
    last = f"synthesis.b{resolutions[-1]}"
    check_pictures(dim(shapes, f"{last}.torgb.weight", 0), shapes.get("synthesis.b4.const", ()), resolutions[-1])
    w_dim = dim(shapes, "synthesis.b4.conv1.affine.weight", 1)
    embed, c_dim = (dim(shapes, "mapping.embed.weight", i) if "mapping.embed.weight" in shapes else 0 for i in (0, 1))
    return {
        "z_dim": dim(shapes, "mapping.fc0.weight", 1) - embed,
        "c_dim": c_dim,
        "w_dim": w_dim,
        "img_resolution": resolutions[-1],
        "img_channels": dim(shapes, f"{last}.torgb.weight", 0),
        "mapping_layers": layers,
        "layer_features": dim(shapes, "mapping.fc0.weight", 0) if layers > 1 else w_dim,
        "embed_features": embed,
        "mapping_lr_multiplier": 0.01,
        "w_avg_beta": 0.995,
        "architecture": _generator_architecture(shapes, resolutions),
        "channels": [dim(shapes, f"synthesis.b{r}.conv1.bias", 0) for r in resolutions],
        "resample_filter": [0.125, 0.375, 0.375, 0.125],
        "conv_clamp": None,
        "use_noise": "synthesis.b4.conv1.noise_const" in shapes,
        "activation": "lrelu",
    }


def check_pictures(channels: int, const: tuple[int, ...], resolution: int) -> None:
    """Refuses pictures that are not square, and colours other than grey and RGB."""
    if len(const) == 3 and const[1:] != (4, 4):
        height, width = (side * resolution // 4 for side in const[1:])
        raise Unfit(
            f"the generator makes pictures of {width} x {height} px (width x height); only square pictures are "
            "supported"
        )
    if channels not in COLOURS:
        kind = {2: " (grey with alpha)", 4: " (RGB with alpha)"}.get(channels, "")
        raise Unfit(
            f"the generator makes pictures with {channels} channels{kind}; {COLOURS[1]} (RGB) or {COLOURS[0]} (grey) "
            "are supported: train it on pictures without alpha"
        )


def _generator_architecture(shapes: Shapes, resolutions: list[int]) -> str:
    if f"synthesis.b{resolutions[-1]}.skip.weight" in shapes:
        return "resnet"
    return "skip" if "synthesis.b4.torgb.weight" in shapes else "orig"


def generator_shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Every tensor of a generator with this config, in canonical names: name -> shape."""
    w, hidden, embed = config["w_dim"], config["layer_features"], config["embed_features"]
    table: dict[str, tuple[int, ...]] = {"mapping.w_avg": (w,)}
    if config["c_dim"]:
        table |= {"mapping.embed.weight": (embed, config["c_dim"]), "mapping.embed.bias": (embed,)}
    widths = [config["z_dim"] + embed] + [hidden] * (config["mapping_layers"] - 1) + [w]
    for i, (fan_in, fan_out) in enumerate(zip(widths, widths[1:], strict=False)):
        table |= {f"mapping.fc{i}.weight": (fan_out, fan_in), f"mapping.fc{i}.bias": (fan_out,)}
    before = None
    for k, channels in enumerate(config["channels"]):
        table |= _block_shapes(config, 4 * 2**k, before, channels)
        before = channels
    return table


def _block_shapes(config: dict, r: int, before: int | None, channels: int) -> dict[str, tuple[int, ...]]:
    """One synthesis block: `before` channels in (None at 4 px), `channels` out."""
    table: dict[str, tuple[int, ...]] = {}
    convs = [("conv1", channels)] if before is None else [("conv0", before), ("conv1", channels)]
    if before is None:
        table["const"] = (channels, 4, 4)
    for name, fan_in in convs:
        table |= {f"{name}.weight": (channels, fan_in, 3, 3), f"{name}.bias": (channels,)}
        table |= {f"{name}.affine.weight": (fan_in, config["w_dim"]), f"{name}.affine.bias": (fan_in,)}
        if config["use_noise"]:
            table |= {f"{name}.noise_const": (r, r), f"{name}.noise_strength": ()}
    if config["architecture"] == "skip" or r == config["img_resolution"]:
        table |= {"torgb.weight": (config["img_channels"], channels, 1, 1), "torgb.bias": (config["img_channels"],)}
        table |= {"torgb.affine.weight": (channels, config["w_dim"]), "torgb.affine.bias": (channels,)}
    if config["architecture"] == "resnet" and before is not None:
        table["skip.weight"] = (channels, before, 1, 1)
    return {f"synthesis.b{r}.{name}": shape for name, shape in table.items()}


def discriminator_config(shapes: Shapes) -> dict:
    """Reads the discriminator's architecture off its shapes; mbstd_group_size, which has no tensor, gets its default 4.

    Raises:
        Unfit: the tensors are not those of a StyleGAN2 discriminator.
    """
    resolutions = block_sides(shapes, r"b(\d{1,5})\..*", "discriminator")
    if len(resolutions) < 2:
        raise Unfit("the discriminator has no block above 4 px; this variant is not supported")
    top, base = resolutions[-1], dim(shapes, "b4.conv.bias", 0)
    c_dim = dim(shapes, "mapping.embed.weight", 1) if "mapping.embed.weight" in shapes else 0
    architecture = "resnet" if f"b{top}.skip.weight" in shapes else "skip" if "b4.fromrgb.weight" in shapes else "orig"
    return {
        "c_dim": c_dim,
        "img_resolution": top,
        "img_channels": dim(shapes, f"b{top}.fromrgb.weight", 1),
        "architecture": architecture,
        "channels": [base] + [dim(shapes, f"b{r}.conv0.bias", 0) for r in resolutions[1:]],
        "resample_filter": [0.125, 0.375, 0.375, 0.125],
        "conv_clamp": None,
        "cmap_dim": dim(shapes, "b4.out.weight", 0) if c_dim else 0,
        "mapping_layers": count(shapes, r"mapping\.fc(\d{1,5})\.weight", "the discriminator's mapping"),
        "mapping_lr_multiplier": 0.01,
        "mbstd_group_size": 4,
        "mbstd_num_channels": dim(shapes, "b4.conv.weight", 1) - base,
        "activation": "lrelu",
    }


def discriminator_shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Every tensor of a discriminator with this config, in canonical names: name -> shape."""
    table: dict[str, tuple[int, ...]] = {}
    cmap, channels = config["cmap_dim"], config["channels"]
    if config["c_dim"]:
        table |= {"mapping.embed.weight": (cmap, config["c_dim"]), "mapping.embed.bias": (cmap,)}
    for i in range(config["mapping_layers"]):
        table |= {f"mapping.fc{i}.weight": (cmap, cmap), f"mapping.fc{i}.bias": (cmap,)}
    for k, here in enumerate(channels):
        r = 4 * 2**k
        if config["architecture"] == "skip" or r == config["img_resolution"]:
            table |= {f"b{r}.fromrgb.weight": (here, config["img_channels"], 1, 1), f"b{r}.fromrgb.bias": (here,)}
        if k == 0:
            continue
        below = channels[k - 1]
        table |= {f"b{r}.conv0.weight": (here, here, 3, 3), f"b{r}.conv0.bias": (here,)}
        table |= {f"b{r}.conv1.weight": (below, here, 3, 3), f"b{r}.conv1.bias": (below,)}
        if config["architecture"] == "resnet":
            table[f"b{r}.skip.weight"] = (below, here, 1, 1)
    base, out = channels[0], cmap if config["c_dim"] else 1
    table |= {"b4.conv.weight": (base, base + config["mbstd_num_channels"], 3, 3), "b4.conv.bias": (base,)}
    table |= {
        "b4.fc.weight": (base, base * 16),
        "b4.fc.bias": (base,),
        "b4.out.weight": (out, base),
        "b4.out.bias": (out,),
    }
    return table


def filter_taps(filters: Mapping[str, np.ndarray], scale: float = 1.0) -> list:
    """The one resampling filter of a network: 1-D taps if the filter is their outer product, else 2-D rows.

    Args:
        filters: source name -> the filter as stored, [taps] or [h, w].
        scale: factor that makes the stored values sum to 1.
    Raises:
        Unfit: the filters differ or do not sum to 1.
    """
    first_name, first = next(iter(filters.items()))
    for name, values in filters.items():
        if values.shape != first.shape or not np.allclose(values, first, rtol=1e-5, atol=1e-7):
            raise Unfit(
                f"the resampling filters {shown(first_name, 80)} and {shown(name, 80)} differ; one per network "
                "is supported"
            )
    taps = np.asarray(first, np.float64) * scale
    if taps.ndim not in (1, 2) or not np.isfinite(taps).all() or abs(taps.sum() - 1) > 1e-4:
        raise Unfit(f"the resampling filter {shown(first_name, 80)} is not a normalised 1-D or 2-D filter")
    if taps.ndim == 2:
        row = taps.sum(axis=1)
        if taps.shape[0] != taps.shape[1] or not np.allclose(np.outer(row, row), taps, rtol=1e-4, atol=1e-7):
            return taps.tolist()
        taps = row
    return [round(t, 9) for t in taps.tolist()]


def symmetric_taps(kernels: Mapping[str, np.ndarray], scale: float, default: list) -> list:
    """`filter_taps` for dialects whose filter orientation is not settled: only symmetric ones are accepted.

    Args:
        kernels: source name -> kernel [h, w]; may be empty.
        scale: 0.25 if up-sampling kernels are stored times 4.
        default: the taps if the file has no kernels.
    """
    if not kernels:
        return default
    if any(k.ndim != 2 or not np.allclose(k, k[::-1, ::-1]) for k in kernels.values()):
        raise Unfit("has an asymmetric resampling filter, which is supported in NVlabs files only")
    return filter_taps(kernels, scale)


def block_sides(shapes: Shapes, pattern: str, what: str) -> list[int]:
    """Block resolutions 4, 8, … up to the image, without a gap."""
    found = sorted({int(m[1]) for name in shapes if (m := re.fullmatch(pattern, name))})
    expected = [4 * 2**k for k in range(len(found))]
    if not found or found != expected:
        raise Unfit(
            f"the {what} has blocks of {found} px instead of 4, 8, 16, …; it is another network or the file is damaged"
        )
    return found


def count(shapes: Shapes, pattern: str, what: str) -> int:
    """The number of layers, whose names have their number where the pattern has its group.

    Raises:
        Unfit: a number is left out.
    """
    found = {int(m[1]) for name in shapes if (m := re.fullmatch(pattern, name))}
    gap = next((k for k in range(len(found)) if k not in found), None)
    if gap is not None:
        raise Unfit(f"{what} has layers up to {max(found)}, but none of number {gap}; the file is damaged")
    return len(found)


def dim(shapes: Shapes, name: str, axis: int) -> int:
    """The size of a tensor along an axis.

    Raises:
        Unfit: there is no such tensor, or it has too few axes.
    """
    if name not in shapes or len(shapes[name]) <= axis:
        raise Unfit(f"{name} is missing or has too few axes; the file is damaged or of another network")
    return shapes[name][axis]
