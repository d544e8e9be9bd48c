"""NVlabs networks as passive module nodes: tensors under state_dict names, and what attributes state."""

import re
from collections.abc import Callable, Iterator
from itertools import islice

from convert_weights.checkpoint import ConversionError, Unfit, listed, shown
from convert_weights.keywords import nested, unknown
from convert_weights.pickle_machine import Node
from convert_weights.tensors import Tensor

MAX_DEPTH = 12
MAX_MODULES, MAX_TENSORS = 2000, 100  # of a network, and of one module; StyleGAN2 has 150 and 8 at 1024 px
Modules = dict[str, tuple[str, dict]]  # path -> class name, state
Scalar = int | float | str | bool | None


def modules(root: Node) -> Modules:
    """Every module below (and including) `root`: dotted path -> class name and state."""
    found = dict(islice(_walk(root, "", 0), MAX_MODULES + 1))
    if len(found) > MAX_MODULES:
        raise ConversionError(f"a network has more than {MAX_MODULES} modules; refused as hostile")
    return found


def _walk(node: object, path: str, depth: int) -> Iterator[tuple[str, tuple[str, dict]]]:
    if depth > MAX_DEPTH or type(node) is not Node or type(node.state) is not dict:
        raise Unfit(
            f"module {shown(path) or 'G'} is not a persistent module of NVlabs; the file is damaged or of "
            "another network"
        )
    yield path, (node.name, node.state)
    for name, child in _dict(node.state, "_modules", path).items():
        if child is not None:
            yield from _walk(child, f"{path}.{name}" if path else str(name), depth + 1)


def _dict(state: dict, key: str, path: str) -> dict:
    value = state.get(key)
    if type(value) is not dict:
        raise Unfit(f"module {shown(path)} has no {key}; the file is damaged")
    return value


def tensors(found: Modules) -> dict[str, Tensor]:
    """The network's state_dict: parameters and persistent buffers (frozen layers keep their weights in the latter)."""
    result: dict[str, Tensor] = {}
    for path, (_, state) in found.items():
        skipped = state.get("_non_persistent_buffers_set", set())
        if type(skipped) is not set:
            raise Unfit(f"module {shown(path)} is damaged; fetch the file again")
        parameters, buffers = _dict(state, "_parameters", path), _dict(state, "_buffers", path)
        if len(parameters) + len(buffers) > MAX_TENSORS:
            raise Unfit(f"module {shown(path)} has more than {MAX_TENSORS} tensors; refused as hostile")
        kept = {n: t for n, t in buffers.items() if n not in skipped}
        for name, tensor in [*parameters.items(), *kept.items()]:
            full = f"{path}.{name}" if path else str(name)
            if tensor is None:
                continue
            if type(tensor) is not Tensor or full in result:
                raise Unfit(f"{shown(full)} is not a tensor or appears twice; the file is damaged")
            result[full] = tensor
    return result


def generator_facts(found: Modules) -> dict:
    """What the attributes of a generator state: sizes, clamp, architecture, learning-rate multiplier, activation.

    Raises:
        Unfit: the network is not a StyleGAN2 generator, or its layers disagree.
    """
    _check_generator(found)
    _check_square(found[""][1].get("img_resolution"))
    root, layers = found[""][1], r"synthesis\.b\d+\.(conv0|conv1)"
    facts = {
        key: _scalar(root, key, "")
        for key in ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels")
        if key in root
    }
    facts["conv_clamp"] = _clamp(_common(found, rf"{layers}|synthesis\.b\d+\.torgb", "conv_clamp"))
    facts["architecture"] = _common(found, r"synthesis\.b\d+", "architecture")
    facts["use_noise"] = _common(found, layers, "use_noise")
    facts["activation"] = _common(found, rf"{layers}|mapping\.fc\d+", "activation")
    facts["mapping_lr_multiplier"] = _common(found, r"mapping\.fc\d+", "bias_gain")
    beta = _scalar(found["mapping"][1], "w_avg_beta", "mapping")
    if beta is not None:
        facts["w_avg_beta"] = beta
    return _checked(facts)


# Arguments of Generator, MappingNetwork, SynthesisNetwork, their blocks and layers, in both repositories.
KEYWORDS = frozenset((
    "z_dim", "c_dim", "w_dim", "img_resolution", "img_channels", "num_layers", "embed_features", "layer_features",
    "activation", "lr_multiplier", "w_avg_beta", "channel_base", "channel_max", "num_fp16_res", "conv_clamp",
    "architecture", "resample_filter", "use_noise", "use_fp16", "fp16_channels_last", "kernel_size", "up",
    "channels_last", "class_name",
))  # fmt: skip


def unknown_keywords(found: Modules) -> list[str]:
    """Keywords of a generator that its attributes do not tell and no version of the originals has.

    Raises:
        Unfit: one of them changes the network.
    """
    kwargs = found[""][1].get("_init_kwargs")
    return unknown(dict(nested(kwargs)), KEYWORDS, "the generator") if type(kwargs) is dict else []


def _check_generator(found: Modules) -> None:
    name = found[""][0]
    inside = sorted(path for path in found if path and "." not in path)
    if "synthesis.input" in found:
        raise Unfit("this is a StyleGAN3 generator, whose networks are different; use a StyleGAN2 checkpoint")
    if name != "Generator" or inside != ["mapping", "synthesis"]:
        raise Unfit(
            f"its generator is of class {shown(name)} with parts {listed(inside)}, not the Generator of "
            "StyleGAN2; use a StyleGAN2 checkpoint"
        )


def _check_square(resolution: object) -> None:
    """Refuses a resolution that is a pair, as forks for other formats have it."""
    if isinstance(resolution, (list, tuple)) and len(resolution) == 2 and all(type(n) is int for n in resolution):
        raise Unfit(
            f"the generator makes pictures of {resolution[0]} x {resolution[1]} px; only square pictures are supported"
        )


def discriminator_facts(found: Modules) -> dict:
    """What the attributes of a discriminator state; see `generator_facts`."""
    root = found[""][1]
    blocks = r"b\d+"
    layers = r"b(?!4\.)\d+\.(fromrgb|conv0|conv1)|b4\.conv"
    facts = {key: _scalar(root, key, "") for key in ("c_dim", "img_resolution", "img_channels") if key in root}
    facts["architecture"] = _common(found, blocks, "architecture")
    facts["conv_clamp"] = _clamp(_common(found, layers, "conv_clamp"))
    facts["activation"] = _common(found, rf"{layers}|mapping\.fc\d+", "activation")
    if "mapping.fc0" in found:
        facts["mapping_lr_multiplier"] = _common(found, r"mapping\.fc\d+", "bias_gain")
    spread = found["b4.mbstd"][1] if "b4.mbstd" in found else {}
    facts["mbstd_group_size"] = _scalar(spread, "group_size", "b4.mbstd") if spread else None
    facts["mbstd_num_channels"] = _scalar(spread, "num_channels", "b4.mbstd") if spread else 0
    return _checked(facts)


def is_stylegan2_discriminator(found: Modules) -> bool:
    """Whether this is, or is named like, StyleGAN2's discriminator; other projects save other networks in its place."""
    return found[""][0] == "Discriminator" or "b4.fc" in found


def is_stylegan3_repository(found: Modules) -> bool:
    """Whether the file was written by the stylegan3 repository: its synthesis network keeps `num_fp16_res`."""
    return "num_fp16_res" in found["synthesis"][1]


def _common(found: Modules, pattern: str, key: str) -> Scalar:
    """The one value of an attribute in all modules whose path matches."""
    values = {path: _scalar(state, key, path) for path, (_, state) in found.items() if re.fullmatch(pattern, path)}
    if not values:
        raise Unfit(f"no module has {key}; the file is damaged or of another network")
    path, first = next(iter(values.items()))
    odd = next((p for p, v in values.items() if v != first), None)
    if odd is not None:
        raise Unfit(
            f"{shown(path)} has {key} {shown(str(first))} but {shown(odd)} has {shown(str(values[odd]))}; mixed "
            "networks are not supported"
        )
    return first


def _scalar(state: dict, key: str, path: str) -> Scalar:
    value = state.get(key, ...)
    if not isinstance(value, (int, float, str, type(None))):
        raise Unfit(
            f"module {shown(path)} does not state {key}; the file is damaged or of a version that is not supported"
        )
    return value


def _clamp(value: Scalar) -> float | None:
    if value is not None and not (isinstance(value, (int, float)) and value > 0):
        raise Unfit(f"conv_clamp is {shown(str(value))}; the file is damaged")
    return None if value is None else float(value)


NUMBERS: dict[str, Callable[[Scalar], bool]] = {
    "mapping_lr_multiplier": lambda v: isinstance(v, float | int) and 0 < v <= 10,
    "w_avg_beta": lambda v: isinstance(v, float | int) and 0 <= v <= 1,
    "activation": lambda v: v == "lrelu",
    "architecture": lambda v: v in ("skip", "resnet", "orig"),
    "mbstd_group_size": lambda v: v is None or (isinstance(v, int) and 0 < v < 2**16),
}


def _checked(facts: dict) -> dict:
    for key, good in NUMBERS.items():
        if key in facts and not good(facts[key]):
            raise Unfit(f"{key} is {shown(str(facts[key]))}, which is not supported by this converter")
    return facts
