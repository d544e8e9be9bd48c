"""NVlabs dialect (stylegan2-ada-pytorch, the StyleGAN2 of stylegan3): its names are the canonical ones.

A network arrives as flat tensors (`.npz`, state dicts) or as passive module nodes of a pickle, whose attributes also
state what shapes cannot tell: clamp, learning-rate multipliers, minibatch-stddev group.
"""

import re
from collections.abc import Mapping

import numpy as np

from convert_weights import stylegan2
from convert_weights.checkpoint import Part, Unfit, shown
from convert_weights.match import Rule, fill, match
from convert_weights.tensors import Tensor, as_float32
from convert_weights.w_avg import SAMPLES, estimate_w_avg

N = r"(\d{1,5})"
GENERATOR_RULES: list[Rule] = [
    (rf"synthesis\.b{N}\.((conv0|conv1|torgb|skip)\.)?resample_filter", None, "resampling filter, kept in the config"),
    (rf"mapping\.(w_avg|(embed|fc{N})\.(weight|bias))", lambda m: m[0], ""),
    (rf"synthesis\.b{N}\.(const|skip\.weight)", lambda m: m[0], ""),
    (rf"synthesis\.b{N}\.(conv0|conv1|torgb)\.(affine\.)?(weight|bias)", lambda m: m[0], ""),
    (rf"synthesis\.b{N}\.(conv0|conv1)\.noise_(const|strength)", lambda m: m[0], ""),
]
DISCRIMINATOR_RULES: list[Rule] = [
    (rf"b{N}\.((fromrgb|conv0|conv1|skip|conv)\.)?resample_filter", None, "resampling filter, kept in the config"),
    (rf"mapping\.(embed|fc{N})\.(weight|bias)", lambda m: m[0], ""),
    (rf"b{N}\.(fromrgb|conv0|conv1)\.(weight|bias)", lambda m: m[0], ""),
    (rf"b{N}\.skip\.weight", lambda m: m[0], ""),
    (r"b4\.(conv|fc|out)\.(weight|bias)", lambda m: m[0], ""),
]
# Filters of the layers that resample. The other layers also have a filter, with the default taps, but never use it.
GENERATOR_FILTERS = rf"synthesis\.b{N}\.((conv0|skip)\.)?resample_filter"
DISCRIMINATOR_FILTERS = rf"b{N}\.((conv1|skip)\.)?resample_filter"
# config entries that shapes do not tell
FREE = ("mapping_lr_multiplier", "w_avg_beta", "conv_clamp", "mbstd_group_size", "resample_filter")
WIDE = (
    "the first mapping layer takes {z_dim} numbers, twice the {w_dim} of w: if the network was conditional, the "
    "embedding of its labels (mapping.embed) is missing; look at samples"
)
Network = tuple[Part, list[str]]  # a generator, and notes on it


def generator(tensors: Mapping[str, Tensor], what: str, known: Mapping | None = None) -> Network:
    """A generator from flat NVlabs tensors.

    Args:
        tensors: name -> tensor.
        what: where they come from, for messages.
        known: config entries that the file states elsewhere; they must agree with the shapes.
    Returns:
        the generator, and notes.
    """
    found, _ = match(tensors, GENERATOR_RULES, what)
    config = merged(stylegan2.generator_config({n: m.shape for n, m in found.items()}), known, what)
    config["resample_filter"] = _taps(tensors, GENERATOR_FILTERS, config)
    expected = stylegan2.generator_shapes(config)
    part, notes = finish_generator(found, expected, config, what)
    if "z_dim" not in (known or {}) and not config["c_dim"] and config["z_dim"] == 2 * config["w_dim"]:
        notes = [*notes, WIDE.format(**config)]
    return part, notes


def state_dict(arrays: Mapping[str, np.ndarray], config: Mapping) -> dict[str, np.ndarray]:
    """The flat NVlabs tensors of a generator, as its own `load_state_dict` takes them: the inverse of `generator`.

    Args:
        arrays: canonical.
        config: with "resample_filter", of which each block and each layer that may resample has a copy.
    """
    taps = np.asarray(config["resample_filter"], np.float32)
    taps = np.outer(taps, taps) if taps.ndim == 1 else taps
    blocks = {name.split(".")[1] for name in arrays if name.startswith("synthesis.")}
    layers = {m[0] for name in arrays if (m := re.match(rf"synthesis\.b{N}\.(conv0|conv1|skip)\.", name))}
    holders = [*(f"synthesis.{block}." for block in blocks), *layers]
    return {**arrays, **{f"{holder}resample_filter": taps for holder in sorted(holders)}}


def finish_generator(found: Mapping, expected: dict, config: dict, what: str) -> Network:
    """Reads the tensors, and estimates w_avg if the file has none; every dialect calls this."""
    if "mapping.w_avg" in found:
        return Part(kind="generator", config=config, arrays=fill(found, expected, what)), []
    arrays = fill(found, {n: s for n, s in expected.items() if n != "mapping.w_avg"}, what)
    arrays["mapping.w_avg"] = estimate_w_avg(arrays, config)
    note = f"w_avg is not in the file: estimated from {SAMPLES} samples of the mapping network (fixed seed)"
    return Part(kind="generator", config=config, arrays=arrays), [note]


def discriminator(tensors: Mapping[str, Tensor], what: str, known: Mapping | None = None) -> Part:
    """A discriminator from flat NVlabs tensors; see `generator`."""
    found, _ = match(tensors, DISCRIMINATOR_RULES, what)
    config = merged(stylegan2.discriminator_config({n: m.shape for n, m in found.items()}), known, what)
    config["resample_filter"] = _taps(tensors, DISCRIMINATOR_FILTERS, config)
    return finish_discriminator(found, config, what)


def finish_discriminator(found: Mapping, config: dict, what: str) -> Part:
    """Reads the tensors; every dialect calls this."""
    arrays = fill(found, stylegan2.discriminator_shapes(config), what)
    return Part(kind="discriminator", config=config, arrays=arrays)


def merged(config: dict, known: Mapping | None, what: str) -> dict:
    """The config from shapes, updated with the entries that the file states; both must agree wherever shapes decide."""
    for key, value in (known or {}).items():
        if key not in FREE and (not isinstance(value, (int, str)) or config.get(key) != value):
            raise Unfit(
                f"{what}: states {key} {shown(value)} but its tensors have {config.get(key)}; the file is damaged"
            )
        config[key] = value
    return config


def _taps(tensors: Mapping[str, Tensor], pattern: str, config: dict) -> list:
    filters = {n: as_float32(t) for n, t in tensors.items() if re.fullmatch(pattern, n)}
    return stylegan2.filter_taps(filters) if filters else config["resample_filter"]
