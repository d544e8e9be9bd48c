"""The canonical StyleGAN1: names and shapes that a config implies, and the config that given shapes imply.

Names are those of the canonical StyleGAN2 where both networks have the layer. The first layer, which takes the
constant, is `synthesis.b4.conv0`; the one layer of colours is `synthesis.weight` and `synthesis.bias`. All kernels are
those of a convolution after nearest-neighbour upsampling: where the original fuses both into a transposed convolution,
which turns the kernel by 180 degrees, the dialects turn it back.
"""

from collections.abc import Mapping
from typing import Any

from convert_weights.checkpoint import Part, Unfit
from convert_weights.match import Matched, fill
from convert_weights.stylegan2 import Shapes, block_sides, check_pictures, count, dim

FUSED = 128  # px from which on the original fuses upsampling and convolution, unless it was told otherwise


def layer(index: int) -> str:
    """The canonical name of a layer by its number: two per block, layer 0 takes the constant."""
    return f"synthesis.b{4 << min(index // 2, 20)}.conv{index % 2}"


def is_fused(index: int) -> bool:
    """Whether a layer upsamples by a transposed convolution by default."""
    return index % 2 == 0 and 4 << min(index // 2, 20) >= FUSED


def generator_config(shapes: Shapes) -> dict[str, Any]:
    """Reads the generator's architecture off its shapes (canonical names); other entries get their usual values.

    Raises:
        Unfit: the tensors are not those of a StyleGAN1 generator.
    """
    sides = block_sides(shapes, r"synthesis\.b(\d{1,5})\..*", "generator")
    layers = count(shapes, r"mapping\.fc(\d{1,5})\.weight", "the generator's mapping")
    if layers == 0:
        raise Unfit("the generator has no mapping network (its dense layer 0); use a file of the whole generator")
    check_pictures(dim(shapes, "synthesis.weight", 0), shapes.get("synthesis.b4.const", ()), sides[-1])
    w_dim = dim(shapes, "synthesis.b4.conv0.affine.weight", 1)
    c_dim, embed = (dim(shapes, "mapping.embed", i) if "mapping.embed" in shapes else 0 for i in (0, 1))
    made = dim(shapes, f"mapping.fc{layers - 1}.weight", 0)
    return {
        "family": "stylegan1",
        "z_dim": dim(shapes, "mapping.fc0.weight", 1) - embed,
        "c_dim": c_dim,
        "w_dim": w_dim,
        "img_resolution": sides[-1],
        "img_channels": dim(shapes, "synthesis.weight", 0),
        "mapping_layers": layers,
        "layer_features": dim(shapes, "mapping.fc0.weight", 0) if layers > 1 else w_dim,
        "embed_features": embed,
        "mapping_lr_multiplier": 0.01,
        "w_avg_beta": 0.995,
        "channels": [dim(shapes, f"synthesis.b{r}.conv0.bias", 0) for r in sides],
        "repeat_w": made != w_dim * 2 * len(sides),
        "tanh": False,
        "use_noise": True,
    }


def generator_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Every tensor of a generator with this config, in canonical names: name -> shape."""
    w, embed, channels = config["w_dim"], config["embed_features"], config["channels"]
    table: dict[str, tuple[int, ...]] = {"mapping.w_avg": (w,)}
    if config["c_dim"]:
        table["mapping.embed"] = (config["c_dim"], embed)
    made = w if config["repeat_w"] else w * 2 * len(channels)
    widths = [config["z_dim"] + embed] + [config["layer_features"]] * (config["mapping_layers"] - 1) + [made]
    for i, (fan_in, fan_out) in enumerate(zip(widths, widths[1:], strict=False)):
        table |= {f"mapping.fc{i}.weight": (fan_out, fan_in), f"mapping.fc{i}.bias": (fan_out,)}
    table["synthesis.b4.const"] = (channels[0], 4, 4)
    for index in range(2 * len(channels)):
        name, side, width = layer(index), 4 << index // 2, channels[index // 2]
        if index:
            table[f"{name}.weight"] = (width, channels[(index - 1) // 2], 3, 3)
        table |= {f"{name}.bias": (width,), f"{name}.noise_const": (side, side), f"{name}.noise_strength": (width,)}
        table |= {f"{name}.affine.weight": (2 * width, w), f"{name}.affine.bias": (2 * width,)}
    colours = config["img_channels"]
    return table | {"synthesis.weight": (colours, channels[-1], 1, 1), "synthesis.bias": (colours,)}


def generator(found: Mapping[str, Matched], config: dict[str, Any], what: str) -> Part:
    """Reads the tensors; every dialect calls this. All of them state the mean w."""
    return Part(kind="generator", config=config, arrays=fill(found, generator_shapes(config), what))
