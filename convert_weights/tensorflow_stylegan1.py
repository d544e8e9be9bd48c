"""TensorFlow dialect of StyleGAN1: (G, D, Gs) of NVlabs/stylegan, as pickled by dnnlib (version 3).

Convolutions are HWIO, dense weights [in, out], noise strengths and scales of styles as they are. Upsampling layers from
128 px on are fused, unless `fused_scale` says otherwise.
"""

from collections.abc import Mapping

from convert_weights import stylegan1
from convert_weights.checkpoint import Checkpoint, ConversionError, Part, Unfit, shown, together
from convert_weights.genforce_stylegan1 import GROWING, lod_of, unfused
from convert_weights.keywords import unknown
from convert_weights.match import Rule, match
from convert_weights.nvlabs import merged
from convert_weights.rosinality import N, first, first_two
from convert_weights.stylegan1 import FUSED, layer
from convert_weights.tensorflow import AGREEING, HARMLESS, is_networks, kwargs_of, number, oihw, out_in, variables_of
from convert_weights.tensors import Tensor

VERSION = 3  # of dnnlib's pickles; StyleGAN2 has 4 and later
LICENCE = "CC BY-NC 4.0 where the weights are NVIDIA's own"
ORDINARY: Mapping[str, tuple] = {  # other values make another network
    "use_styles": (True,),
    "use_noise": (True,),
    "use_wscale": (True,),
    "use_pixel_norm": (False,),
    "use_instance_norm": (True,),
    "const_input_layer": (True,),
    "normalize_latents": (True,),
    "nonlinearity": ("lrelu",),
    "mapping_nonlinearity": ("lrelu",),
    "blur_filter": ([1, 2, 1],),
}
SIZES = ("latent_size", "label_size", "dlatent_size", "resolution", "num_channels", "mapping_layers")
OWN = (*SIZES, "fused_scale", "mapping_lrmul", "dlatent_avg_beta")
FUSED_FROM = {"auto": FUSED, True: 8, False: 1 << 16}  # px
NAMES = {"Const": "conv0", "Conv": "conv1", "Conv0_up": "conv0", "Conv1": "conv1"}
PARTS = {  # besides the weights that are transposed
    "bias": "bias",
    "Noise/weight": "noise_strength",
    "StyleMod/bias": "affine.bias",
}


def is_stylegan1(root: object) -> bool:
    """Whether the file holds the networks of NVlabs/stylegan."""
    return is_networks(root) and isinstance(root[2].state, dict) and root[2].state.get("version") == VERSION  # type: ignore[index]


def networks(root: tuple) -> Checkpoint:
    """(G, D, Gs) as a checkpoint; Gs, the moving average, is the generator.

    Raises:
        ConversionError: the networks were still growing, or differ from StyleGAN1.
    """
    gs = root[2]
    part = generator(variables_of(gs), kwargs_of(gs))
    return Checkpoint(
        format="TensorFlow StyleGAN1 pickle",
        parts=together(part),
        ignored={"G/*": "Gs, its moving average, is used", "D/*": "discriminators of StyleGAN1 are not supported"},
        licence=LICENCE,
    )


def generator(variables: Mapping[str, Tensor], kwargs: Mapping) -> Part:
    """The generator's variables in canonical form.

    Raises:
        ConversionError: it was still growing, or its variables or arguments are not StyleGAN1's.
    """
    _check_grown(variables)
    facts, fused_from = _facts(kwargs)
    found, _ = match(variables, rules(fused_from), "Gs")
    config = merged(stylegan1.generator_config({n: m.shape for n, m in found.items()}), facts, "Gs")
    return stylegan1.generator(found, config, "Gs")


def rules(fused_from: int) -> list[Rule]:
    """How a Gs names its variables; `fused_from` px on, layers are fused."""
    a_layer = rf"synthesis/{N}x\1/(Const|Conv|Conv0_up|Conv1)"
    fused = "|".join(str(4 << k) for k in range(1, 16) if 4 << k >= fused_from)
    return [
        (r"(synthesis/)?lod", None, GROWING),
        (r"dlatent_avg", lambda m: "mapping.w_avg", ""),
        (rf"mapping/Dense{N}/weight", lambda m: f"mapping.fc{int(m[1])}.weight", out_in),
        (rf"mapping/Dense{N}/bias", lambda m: f"mapping.fc{int(m[1])}.bias", ""),
        (r"mapping/LabelConcat/weight", lambda m: "mapping.embed", ""),
        (r"synthesis/4x4/Const/const", lambda m: "synthesis.b4.const", first),
        (rf"synthesis/({fused})x\1/Conv0_up/weight", lambda m: f"synthesis.b{m[1]}.conv0.weight", unfused),
        (rf"{a_layer}/weight", lambda m: f"synthesis.b{m[1]}.{NAMES[m[2]]}.weight", oihw),
        (rf"{a_layer}/StyleMod/weight", lambda m: f"synthesis.b{m[1]}.{NAMES[m[2]]}.affine.weight", out_in),
        (rf"{a_layer}/({'|'.join(PARTS)})", lambda m: f"synthesis.b{m[1]}.{NAMES[m[2]]}.{PARTS[m[3]]}", ""),
        (rf"synthesis/noise{N}", lambda m: f"{layer(int(m[1]))}.noise_const", first_two),
        (r"synthesis/ToRGB_lod0/weight", lambda m: "synthesis.weight", oihw),
        (r"synthesis/ToRGB_lod0/bias", lambda m: "synthesis.bias", ""),
        (rf"synthesis/ToRGB_lod{N}/(weight|bias)", None, f"colours of a lower resolution, {GROWING}"),
    ]


def _check_grown(variables: Mapping[str, Tensor]) -> None:
    """Refuses networks that were saved while they grew; the value of Gs is assigned to its synthesis network."""
    found = next((variables[name] for name in ("lod", "synthesis/lod") if name in variables), None)
    if found is not None and (lod := lod_of(found)) != 0:
        raise ConversionError(f"Gs has lod {shown(lod)}: the network was still growing; use a later snapshot")


def _facts(kwargs: Mapping) -> tuple[dict, int]:
    """What static_kwargs state about the architecture, and the resolution from which on layers are fused."""
    known = {*OWN, *(name for name in kwargs if HARMLESS.fullmatch(str(name)))}
    if odd := unknown(kwargs, known, "a TensorFlow network", ORDINARY, "StyleGAN1"):
        raise Unfit(f"a TensorFlow network was built with the unknown argument {shown(odd[0])}; it is not supported")
    facts = {AGREEING[name]: kwargs[name] for name in SIZES if kwargs.get(name) is not None}
    facts["mapping_lr_multiplier"] = number(kwargs, "mapping_lrmul", 0.01)
    beta = kwargs.get("dlatent_avg_beta", 0.995)
    facts["w_avg_beta"] = number({"dlatent_avg_beta": 1.0 if beta is None else beta}, "dlatent_avg_beta", 0.995)
    fused = kwargs.get("fused_scale", "auto")
    if type(fused) not in (str, bool) or fused not in FUSED_FROM:
        raise ConversionError(f"a TensorFlow network has fused_scale {shown(fused)}; the file is damaged")
    return facts, FUSED_FROM[fused]
