"""TensorFlow dialect: (G, D, Gs) of StyleGAN2 and StyleGAN2-ADA, as pickled by dnnlib.

Source of names and transforms: legacy.py of NVlabs/stylegan2-ada-pytorch. Convolutions are HWIO, dense weights [in,
out]; up-sampling kernels need a flip, style biases the 1 that TensorFlow adds at run time.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import count

import numpy as np

from convert_weights import stylegan2
from convert_weights.builders import NETWORK, Array
from convert_weights.checkpoint import Checkpoint, ConversionError, Part, Unfit, shown, together
from convert_weights.genforce import plus_one
from convert_weights.keywords import unknown
from convert_weights.match import Rule, match
from convert_weights.nvlabs import Network, finish_discriminator, finish_generator, merged
from convert_weights.pickle_machine import Node
from convert_weights.rosinality import N, first, first_two, noise_name
from convert_weights.tensors import Tensor, from_numpy

LICENCE = "NVIDIA Source Code License-NC where the weights are NVIDIA's own"
MAX_DEPTH, MAX_NETWORKS = 4, 32
AGREEING = {
    "latent_size": "z_dim",
    "label_size": "c_dim",
    "dlatent_size": "w_dim",
    "resolution": "img_resolution",
    "num_channels": "img_channels",
    "mapping_layers": "mapping_layers",
    "use_noise": "use_noise",
    "architecture": "architecture",
    "mbstd_num_features": "mbstd_num_channels",
}
HARMLESS = re.compile(
    r"truncation_(psi|cutoff)(_val)?|style_mixing_prob|structure|fmap_(base|max|min|decay)|num_fp16_res|freeze_layers|"
    r"(label|mapping)_fmaps|randomize_noise|dtype|is_(training|validation)|return_dlatents"
)


def oihw(x: np.ndarray) -> np.ndarray:
    """TensorFlow's HWIO as OIHW."""
    return x.transpose(3, 2, 0, 1)


def _oihw_flipped(x: np.ndarray) -> np.ndarray:
    return x[::-1, ::-1].transpose(3, 2, 0, 1)


def out_in(x: np.ndarray) -> np.ndarray:
    """TensorFlow's [in, out] as [out, in]."""
    return x.transpose(1, 0)


def _generator_rules(resolution: int) -> list[Rule]:
    layer = rf"synthesis/{N}x\1/(Conv0_up|Conv1|Conv|ToRGB)"
    names = {"Conv0_up": "conv0", "Conv1": "conv1", "Conv": "conv1", "ToRGB": "torgb"}
    return [
        (r"(.*/)?lod", None, "level of detail of progressive growing, not used by StyleGAN2"),
        (r"dlatent_avg", lambda m: "mapping.w_avg", ""),
        (rf"mapping/Dense{N}/weight", lambda m: f"mapping.fc{int(m[1])}.weight", out_in),
        (rf"mapping/Dense{N}/bias", lambda m: f"mapping.fc{int(m[1])}.bias", ""),
        (r"mapping/LabelEmbed/weight", lambda m: "mapping.embed.weight", out_in),
        (r"mapping/LabelEmbed/bias", lambda m: "mapping.embed.bias", ""),
        (r"synthesis/4x4/Const/const", lambda m: "synthesis.b4.const", first),
        (rf"synthesis/{N}x\1/Conv0_up/weight", lambda m: f"synthesis.b{m[1]}.conv0.weight", _oihw_flipped),
        (rf"synthesis/{N}x\1/Skip/weight", lambda m: f"synthesis.b{m[1]}.skip.weight", _oihw_flipped),
        (rf"{layer}/weight", lambda m: f"synthesis.b{m[1]}.{names[m[2]]}.weight", oihw),
        (rf"{layer}/(bias|noise_strength)", lambda m: f"synthesis.b{m[1]}.{names[m[2]]}.{m[3]}", ""),
        (rf"{layer}/mod_weight", lambda m: f"synthesis.b{m[1]}.{names[m[2]]}.affine.weight", out_in),
        (rf"{layer}/mod_bias", lambda m: f"synthesis.b{m[1]}.{names[m[2]]}.affine.bias", plus_one),
        (rf"synthesis/noise{N}", lambda m: noise_name(m[1]), first_two),
        (r"synthesis/ToRGB_lod0/weight", lambda m: f"synthesis.b{resolution}.torgb.weight", oihw),
        (r"synthesis/ToRGB_lod0/bias", lambda m: f"synthesis.b{resolution}.torgb.bias", ""),
        (r"synthesis/ToRGB_lod0/mod_weight", lambda m: f"synthesis.b{resolution}.torgb.affine.weight", out_in),
        (r"synthesis/ToRGB_lod0/mod_bias", lambda m: f"synthesis.b{resolution}.torgb.affine.bias", plus_one),
    ]


def _discriminator_rules(resolution: int) -> list[Rule]:
    dense = {"4x4/Dense0": "b4.fc", "Output": "b4.out", "LabelEmbed": "mapping.embed"}
    convs = {"FromRGB": "fromrgb", "Conv0": "conv0", "Conv1_down": "conv1", "Conv": "conv"}
    return [
        (r"(.*/)?lod", None, "level of detail of progressive growing, not used by StyleGAN2"),
        (rf"{N}x\1/(FromRGB|Conv0|Conv1_down|Conv)/weight", lambda m: f"b{m[1]}.{convs[m[2]]}.weight", oihw),
        (rf"{N}x\1/(FromRGB|Conv0|Conv1_down|Conv)/bias", lambda m: f"b{m[1]}.{convs[m[2]]}.bias", ""),
        (rf"{N}x\1/Skip/weight", lambda m: f"b{m[1]}.skip.weight", oihw),
        (r"FromRGB_lod0/weight", lambda m: f"b{resolution}.fromrgb.weight", oihw),
        (r"FromRGB_lod0/bias", lambda m: f"b{resolution}.fromrgb.bias", ""),
        (r"(4x4/Dense0|Output|LabelEmbed)/weight", lambda m: f"{dense[m[1]]}.weight", out_in),
        (r"(4x4/Dense0|Output|LabelEmbed)/bias", lambda m: f"{dense[m[1]]}.bias", ""),
        (rf"Mapping{N}/weight", lambda m: f"mapping.fc{int(m[1])}.weight", out_in),
        (rf"Mapping{N}/bias", lambda m: f"mapping.fc{int(m[1])}.bias", ""),
    ]


def is_networks(root: object) -> bool:
    """Whether the file holds (G, D, Gs) of dnnlib.tflib."""
    return (
        isinstance(root, (tuple, list))
        and len(root) == 3
        and all(isinstance(n, Node) and n.name == NETWORK for n in root)
    )


def networks(root: tuple) -> Checkpoint:
    """(G, D, Gs) as a checkpoint; Gs, the moving average, is the generator.

    Raises:
        ConversionError: naming other versions and conditional networks, which are not supported.
    """
    _, d, gs = root
    states = [_state(n) for n in root]
    version = states[2].get("version")
    if type(version) is not int or version < 4:
        raise ConversionError(
            f"is a TensorFlow pickle of version {shown(version)}; StyleGAN1's have 3, StyleGAN2's 4 and later"
        )
    network, notes = generator(variables_of(gs), kwargs_of(gs))
    ignored = {"G/*": "Gs, its moving average, is used"}
    critic = None
    try:
        critic = discriminator(variables_of(d), kwargs_of(d), version)
    except Unfit as error:
        notes = [*notes, f"the discriminator (D) is not used: {error}"]
        ignored["D/*"] = "does not fit, see the note"
    for prefix, node in (("Gs", gs), ("D", d)):
        ignored |= {
            f"{prefix}/{n}": "progressive growing, not used"
            for n in variables_of(node)
            if n.rpartition("/")[2] == "lod"
        }
    return Checkpoint(
        format="TensorFlow StyleGAN2 pickle" if version == 4 else "TensorFlow StyleGAN2-ADA pickle",
        parts=together(network, critic),
        ignored=ignored,
        notes=tuple(notes),
        licence=LICENCE,
    )


def generator(variables: Mapping[str, Tensor], kwargs: Mapping) -> Network:
    """The generator's variables in canonical form; see `nvlabs.generator`."""
    if any("LabelConcat" in name for name in variables):
        raise ConversionError(
            "is a conditional generator of the first StyleGAN2 (labels concatenated before one joint "
            "normalisation), which is not "
            "supported; use a model trained with stylegan2-ada"
        )
    if kwargs.get("synthesis_func", "G_synthesis_stylegan2") != "G_synthesis_stylegan2" or any(
        "StyleMod" in n for n in variables
    ):
        raise ConversionError(
            "is one of configs A-D of StyleGAN2 (a revised StyleGAN1), which is not supported; use config E or F"
        )
    found, _ = match(variables, _generator_rules(_resolution(variables, "synthesis/")), "Gs")
    facts = _facts(kwargs, {"mapping_func", "synthesis_func", "w_avg_beta", "dlatent_avg_beta"})
    facts["mapping_lr_multiplier"] = number(kwargs, "mapping_lrmul", 0.01)
    beta = kwargs.get("w_avg_beta", kwargs.get("dlatent_avg_beta", 0.995))
    facts["w_avg_beta"] = number({"w_avg_beta": 1.0 if beta is None else beta}, "w_avg_beta", 0.995)
    config = merged(stylegan2.generator_config({n: m.shape for n, m in found.items()}), facts, "Gs")
    return finish_generator(found, stylegan2.generator_shapes(config), config, "Gs")


def discriminator(variables: Mapping[str, Tensor], kwargs: Mapping, version: int) -> Part:
    """The discriminator's variables in canonical form; minibatch-stddev groups are 4 in version 4, else the batch."""
    found, _ = match(variables, _discriminator_rules(_resolution(variables, "")), "D")
    facts = _facts(kwargs, {"mbstd_group_size"})
    facts["mapping_lr_multiplier"] = number(kwargs, "mapping_lrmul", 0.1)
    group = kwargs.get("mbstd_group_size", 4 if version == 4 else None)
    if group is not None and (type(group) is not int or group < 1):
        raise ConversionError(f"D has mbstd_group_size {shown(group)}, which is not supported")
    config = merged(stylegan2.discriminator_config({n: m.shape for n, m in found.items()}), facts, "D")
    config["mbstd_group_size"] = group
    return finish_discriminator(found, config, "D")


def _state(node: Node) -> dict:
    if not isinstance(node, Node) or node.name != NETWORK or type(node.state) is not dict:
        raise ConversionError("a TensorFlow network has no state; the file is damaged")
    return node.state


def kwargs_of(node: Node) -> dict:
    """The arguments that a network was built with."""
    kwargs = _state(node).get("static_kwargs")
    if type(kwargs) is not dict:
        raise ConversionError("a TensorFlow network does not say how it was built; the file is damaged")
    return kwargs


def variables_of(node: Node) -> dict[str, Tensor]:
    """The variables of a network and of its components ("synthesis/..."), by name."""
    result: dict[str, Tensor] = {}
    for name, tensor in _walk(node, "", 0, count()):
        if name in result:
            raise ConversionError(f"variable {shown(name)} appears twice; the file is damaged")
        result[name] = tensor
    return result


def _walk(node: Node, prefix: str, depth: int, walked: Iterator[int]) -> Iterator[tuple[str, Tensor]]:
    state = _state(node)
    if next(walked) > MAX_NETWORKS:
        raise ConversionError(f"a TensorFlow network has more than {MAX_NETWORKS} components; refused as hostile")
    variables, components = state.get("variables"), state.get("components")
    if depth > MAX_DEPTH or type(variables) is not list or type(components) is not dict:
        raise ConversionError("a TensorFlow network lacks its variables or components; the file is damaged")
    for pair in variables:
        if type(pair) not in (tuple, list) or len(pair) != 2 or type(pair[0]) is not str:
            raise ConversionError("a TensorFlow variable is not (name, value); the file is damaged")
        yield prefix + pair[0], _tensor(*pair)
    for name, component in components.items():
        yield from _walk(component, f"{prefix}{name}/", depth + 1, walked)


def _tensor(name: str, value: object) -> Tensor:
    if isinstance(value, Array) and value.tensor is not None:
        return value.tensor
    if isinstance(value, float):  # scalars are pickled as numpy numbers
        return from_numpy(np.array(value, np.float32))
    raise ConversionError(f"TensorFlow variable {shown(name)} is not an array; the file is damaged")


def _resolution(variables: Mapping[str, Tensor], prefix: str) -> int:
    sizes = [n.removeprefix(prefix).partition("x")[0] for n in variables if n.startswith(prefix)]
    return max((int(s) for s in sizes if s.isascii() and s.isdigit() and len(s) < 6), default=0)


def _facts(kwargs: Mapping, more: set[str]) -> dict:
    """What static_kwargs state about the architecture; unknown ones are refused since they could change it."""
    facts = {key: kwargs[name] for name, key in AGREEING.items() if kwargs.get(name) is not None}
    known = {
        "conv_clamp",
        "resample_kernel",
        "nonlinearity",
        "mapping_nonlinearity",
        "mapping_lrmul",
        *AGREEING,
        *more,
    }
    harmless = {k for k in kwargs if HARMLESS.fullmatch(str(k))}
    if odd := unknown(kwargs, known | harmless, "a TensorFlow network"):
        raise Unfit(f"a TensorFlow network was built with the unknown argument {shown(odd[0])}; it is not supported")
    for name in ("nonlinearity", "mapping_nonlinearity"):
        if kwargs.get(name, "lrelu") != "lrelu":
            raise ConversionError(f"a TensorFlow network has {name} {shown(kwargs[name])}; only lrelu is supported")
    clamp = kwargs.get("conv_clamp")
    facts["conv_clamp"] = None if clamp is None else number(kwargs, "conv_clamp", 0.0)
    kernel = kwargs.get("resample_kernel", [1, 3, 3, 1]) or [1]
    if not isinstance(kernel, (list, tuple)) or any(type(k) not in (int, float) for k in kernel) or not sum(kernel):
        raise ConversionError(
            "a TensorFlow network has a resample_kernel that is not a list of numbers; it is not supported"
        )
    facts["resample_filter"] = [round(k / sum(kernel), 9) for k in kernel]
    return facts


def number(kwargs: Mapping, name: str, default: float) -> float:
    """A positive number among the arguments."""
    value = kwargs.get(name, default)
    if type(value) not in (int, float) or not 0 < value < 1e6:
        raise ConversionError(f"a TensorFlow network has {name} {shown(value)}; the file is damaged")
    return float(value)
