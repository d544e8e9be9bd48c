"""Small random StyleGAN2 weights in NVlabs names, and the same weights in the names and conventions of other projects.

The inverse of what `convert_weights` does, written from the formats' descriptions rather than from its tables.
"""

import re

import numpy as np
from foreign_files import T, ordered, tf_network

FILTER = np.outer([1, 3, 3, 1], [1, 3, 3, 1]).astype(np.float32) / 64


def random_generator(channels=(6, 5), w=4, z=4, layers=2, image_channels=3, seed=0):
    """An unconditional skip generator, NVlabs names."""
    rng = np.random.RandomState(seed)

    def draw(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    sd = {"mapping.w_avg": draw(w)}
    for i in range(layers):
        sd |= {f"mapping.fc{i}.weight": draw(w, w if i else z) * 100, f"mapping.fc{i}.bias": draw(w)}
    before = None
    for k, c in enumerate(channels):
        r = 4 * 2**k
        p = f"synthesis.b{r}"
        sd[f"{p}.resample_filter"] = FILTER
        if before is None:
            sd[f"{p}.const"] = draw(c, 4, 4)
        for name, fan_in in [("conv0", before), ("conv1", c)] if before else [("conv1", c)]:
            sd |= {f"{p}.{name}.weight": draw(c, fan_in, 3, 3), f"{p}.{name}.bias": draw(c)}
            sd |= {f"{p}.{name}.noise_const": draw(r, r), f"{p}.{name}.noise_strength": draw()}
            sd |= {f"{p}.{name}.affine.weight": draw(fan_in, w), f"{p}.{name}.affine.bias": draw(fan_in) + 1}
            sd[f"{p}.{name}.resample_filter"] = FILTER
        sd |= {f"{p}.torgb.weight": draw(image_channels, c, 1, 1), f"{p}.torgb.bias": draw(image_channels)}
        sd |= {f"{p}.torgb.affine.weight": draw(c, w), f"{p}.torgb.affine.bias": draw(c) + 1}
        before = c
    return sd


def random_discriminator(channels=(6, 5), seed=1):
    """An unconditional resnet discriminator, NVlabs names."""
    rng = np.random.RandomState(seed)

    def draw(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    sd = {f"b{4 * 2 ** (len(channels) - 1)}.fromrgb.weight": draw(channels[-1], 3, 1, 1)}
    sd[f"b{4 * 2 ** (len(channels) - 1)}.fromrgb.bias"] = draw(channels[-1])
    for k in range(len(channels) - 1, 0, -1):
        p, here, below = f"b{4 * 2**k}", channels[k], channels[k - 1]
        sd |= {f"{p}.resample_filter": FILTER, f"{p}.skip.weight": draw(below, here, 1, 1)}
        sd |= {f"{p}.conv0.weight": draw(here, here, 3, 3), f"{p}.conv0.bias": draw(here)}
        sd |= {f"{p}.conv1.weight": draw(below, here, 3, 3), f"{p}.conv1.bias": draw(below)}
    c = channels[0]
    sd |= {"b4.conv.weight": draw(c, c + 1, 3, 3), "b4.conv.bias": draw(c), "b4.fc.weight": draw(c, 16 * c)}
    return sd | {"b4.fc.bias": draw(c), "b4.out.weight": draw(1, c), "b4.out.bias": draw(1)}


def without_filters(sd):
    return {n: a for n, a in sd.items() if not n.endswith("resample_filter")}


def _layers(sd):
    """(position in the synthesis network, canonical prefix) of every convolution, 4 px first."""
    top = max(int(m[1]) for n in sd if (m := re.match(r"synthesis\.b(\d+)\.", n)))
    names = ["synthesis.b4.conv1"]
    r = 8
    while r <= top:
        names += [f"synthesis.b{r}.conv0", f"synthesis.b{r}.conv1"]
        r *= 2
    return list(enumerate(names))


def rosinality(sd, noises=True, kernels=True):
    """g_ema of rosinality; latent_avg is beside it in the file."""
    out = {}
    for n, a in sd.items():
        if m := re.fullmatch(r"mapping\.fc(\d+)\.(weight|bias)", n):
            out[f"style.{int(m[1]) + 1}.{m[2]}"] = a
    out["input.input"] = sd["synthesis.b4.const"][None]
    for k, p in _layers(sd):
        q = "conv1" if k == 0 else f"convs.{k - 1}"
        out |= {f"{q}.conv.weight": sd[f"{p}.weight"][None], f"{q}.activate.bias": sd[f"{p}.bias"]}
        out |= {f"{q}.conv.modulation.{s}": sd[f"{p}.affine.{s}"] for s in ("weight", "bias")}
        out[f"{q}.noise.weight"] = sd[f"{p}.noise_strength"].reshape(1)
        if noises:
            out[f"noises.noise_{k}"] = sd[f"{p}.noise_const"][None, None]
        if kernels and k % 2:
            out[f"{q}.conv.blur.kernel"] = FILTER * 4
        if k % 2 == 0:
            p, q = p.rpartition(".")[0] + ".torgb", "to_rgb1" if k == 0 else f"to_rgbs.{k // 2 - 1}"
            out |= {f"{q}.conv.weight": sd[f"{p}.weight"][None], f"{q}.bias": sd[f"{p}.bias"].reshape(1, -1, 1, 1)}
            out |= {f"{q}.conv.modulation.{s}": sd[f"{p}.affine.{s}"] for s in ("weight", "bias")}
            if kernels and k:
                out[f"{q}.upsample.kernel"] = FILTER * 4
    return out


def rosinality_discriminator(sd):
    top = max(int(m[1]) for n in sd if (m := re.match(r"b(\d+)\.", n)))
    out = {"convs.0.0.weight": sd[f"b{top}.fromrgb.weight"], "convs.0.1.bias": sd[f"b{top}.fromrgb.bias"]}
    k, r = 1, top
    while r > 4:
        out |= {
            f"convs.{k}.conv1.0.weight": sd[f"b{r}.conv0.weight"],
            f"convs.{k}.conv1.1.bias": sd[f"b{r}.conv0.bias"],
        }
        out |= {f"convs.{k}.conv2.0.kernel": FILTER, f"convs.{k}.skip.0.kernel": FILTER}
        out |= {
            f"convs.{k}.conv2.1.weight": sd[f"b{r}.conv1.weight"],
            f"convs.{k}.conv2.2.bias": sd[f"b{r}.conv1.bias"],
        }
        out[f"convs.{k}.skip.1.weight"] = sd[f"b{r}.skip.weight"]
        k, r = k + 1, r // 2
    out |= {"final_conv.0.weight": sd["b4.conv.weight"], "final_conv.1.bias": sd["b4.conv.bias"]}
    for i, name in enumerate(("fc", "out")):
        out |= {f"final_linear.{i}.{s}": sd[f"b4.{name}.{s}"] for s in ("weight", "bias")}
    return out


def genforce(sd):
    """generator_smooth of GenForce: odd layers flipped, style biases without their 1."""
    out = {"truncation.w_avg": sd["mapping.w_avg"], "synthesis.early_layer.const": sd["synthesis.b4.const"][None]}
    out["synthesis.upsample.kernel"] = FILTER[None, None] * 4
    for n, a in sd.items():
        if m := re.fullmatch(r"mapping\.fc(\d+)\.(weight|bias)", n):
            out[f"mapping.dense{m[1]}.{m[2]}"] = a
    for k, p in _layers(sd):
        q = f"synthesis.layer{k}"
        out[f"{q}.weight"] = sd[f"{p}.weight"][:, :, ::-1, ::-1].copy() if k % 2 else sd[f"{p}.weight"]
        out |= {f"{q}.bias": sd[f"{p}.bias"], f"{q}.noise_strength": sd[f"{p}.noise_strength"]}
        out |= {f"{q}.noise": sd[f"{p}.noise_const"][None, None], f"{q}.style.weight": sd[f"{p}.affine.weight"]}
        out[f"{q}.style.bias"] = sd[f"{p}.affine.bias"] - 1
        if k % 2:
            out[f"{q}.filter.kernel"] = FILTER[None, None] * 4
        else:
            p, q = p.rpartition(".")[0] + ".torgb", f"synthesis.output{k // 2}"
            out |= {f"{q}.{s}": sd[f"{p}.{s}"] for s in ("weight", "bias")}
            out |= {f"{q}.style.weight": sd[f"{p}.affine.weight"], f"{q}.style.bias": sd[f"{p}.affine.bias"] - 1}
    return out


def genforce_discriminator(sd):
    top = max(int(m[1]) for n in sd if (m := re.match(r"b(\d+)\.", n)))
    out = {"input0.weight": sd[f"b{top}.fromrgb.weight"], "input0.bias": sd[f"b{top}.fromrgb.bias"]}
    k, r = 0, top
    while r > 4:
        for i in (0, 1):
            out |= {f"layer{2 * k + i}.{s}": sd[f"b{r}.conv{i}.{s}"] for s in ("weight", "bias")}
        out |= {f"layer{2 * k + 1}.filter.kernel": FILTER[None, None], f"skip_layer{k}.weight": sd[f"b{r}.skip.weight"]}
        k, r = k + 1, r // 2
    for i, name in enumerate(("conv", "fc", "out")):
        out |= {f"layer{2 * k + i}.{s}": sd[f"b4.{name}.{s}"] for s in ("weight", "bias")}
    return out


TF_CONVS = {"conv0": "Conv0_up", "conv1": "Conv1", "torgb": "ToRGB", "skip": "Skip"}


def tensorflow_generator(sd, version=4, **kwargs):
    """A Network with mapping and synthesis components; HWIO, [in, out], Conv0_up flipped, biases of styles minus 1."""
    mapping, synthesis = {}, {"lod": np.float32(0)}
    for n, a in without_filters(sd).items():
        if m := re.fullmatch(r"mapping\.(fc|embed)(\d*)\.(weight|bias)", n):
            name = f"Dense{m[2]}" if m[1] == "fc" else "LabelEmbed"
            mapping[f"{name}/{m[3]}"] = a.T
        elif m := re.fullmatch(r"synthesis\.b(\d+)\.(\w+)\.(\w+)(?:\.(weight|bias))?", n):
            _tf_layer(synthesis, int(m[1]), m[2], m[3] if m[4] is None else f"mod_{m[4]}", a)
    synthesis["4x4/Const/const"] = sd["synthesis.b4.const"][None]
    parts = {"mapping": tf_network(mapping, {}, version), "synthesis": tf_network(synthesis, {}, version)}
    average = {"lod": np.float32(0), "dlatent_avg": sd["mapping.w_avg"]}
    return tf_network(average, kwargs, version, parts)


def _tf_layer(synthesis, r, layer, part, a):
    name = "Conv" if r == 4 and layer == "conv1" else TF_CONVS[layer]
    if part == "noise_const":
        level = int(np.log2(r))
        synthesis[f"noise{0 if r == 4 else 2 * level - 5 + (layer == 'conv1')}"] = a[None, None]
    elif part == "weight":
        hwio = a.transpose(2, 3, 1, 0)
        synthesis[f"{r}x{r}/{name}/weight"] = hwio[::-1, ::-1] if layer in ("conv0", "skip") else hwio
    else:
        value = a.T if part == "mod_weight" else a - 1 if part == "mod_bias" else a
        synthesis[f"{r}x{r}/{name}/{part}"] = value


def tensorflow_discriminator(sd, version=4, **kwargs):
    names = {"fromrgb": "FromRGB", "conv0": "Conv0", "conv1": "Conv1_down", "skip": "Skip", "conv": "Conv"}
    out = {}
    for n, a in without_filters(sd).items():
        if m := re.fullmatch(r"b(\d+)\.(fromrgb|conv0|conv1|skip|conv)\.(weight|bias)", n):
            out[f"{m[1]}x{m[1]}/{names[m[2]]}/{m[3]}"] = a.transpose(2, 3, 1, 0) if m[3] == "weight" else a
        elif m := re.fullmatch(r"mapping\.(embed|fc)(\d*)\.(weight|bias)", n):
            out[f"{'LabelEmbed' if m[1] == 'embed' else 'Mapping' + m[2]}/{m[3]}"] = a.T
        else:
            _, layer, part = n.split(".")
            out[f"{'4x4/Dense0' if layer == 'fc' else 'Output'}/{part}"] = a.T
    return tf_network(out, kwargs, version)


def tensors(items):
    """A plain dict of torch tensors."""
    return {n: T(np.ascontiguousarray(a)) for n, a in items.items()}


def state_dict(items):
    """An OrderedDict of contiguous torch tensors, as `state_dict()` returns it."""
    return ordered({n: np.ascontiguousarray(a) if np.ndim(a) else np.asarray(a) for n, a in items.items()})
