"""Small random StyleGAN1 weights in GenForce's names, and the same weights in the names of other projects.

The inverse of what `convert_weights` does, written from the formats' descriptions rather than from its tables.
"""

import re

import numpy as np
from foreign_files import plain, tf_network

BLUR = np.outer([1, 2, 1], [1, 2, 1]).astype(np.float32) / 16


def random_generator(channels=(6, 5, 4), w=4, z=3, layers=2, image_channels=3, seed=0, rows=1, classes=0):
    """An official generator; `rows` is how many ws its mapping makes at once."""
    rng = np.random.RandomState(seed)

    def draw(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    widths = [z * 2 if classes else z, *[7] * (layers - 1), rows * w]
    sd = {"truncation.w_avg": draw(w), "synthesis.lod": np.zeros((), np.float32)}
    for i in range(layers):
        sd |= {
            f"mapping.dense{i}.weight": draw(widths[i + 1], widths[i]) * 100,
            f"mapping.dense{i}.bias": draw(widths[i + 1]),
        }
    if classes:
        sd["mapping.label_weight"] = draw(classes, z)
    for k in range(2 * len(channels)):
        p, c, r = f"synthesis.layer{k}", channels[k // 2], 4 * 2 ** (k // 2)
        sd[f"{p}.{'weight' if k else 'const'}"] = draw(c, channels[(k - 1) // 2], 3, 3) if k else draw(1, c, 4, 4)
        sd |= {f"{p}.bias": draw(c), f"{p}.apply_noise.weight": draw(c), f"{p}.apply_noise.noise": draw(1, 1, r, r)}
        sd |= {f"{p}.style.weight": draw(2 * c, w), f"{p}.style.bias": draw(2 * c)}
        if k and k % 2 == 0:
            sd[f"{p}.blur.kernel"] = np.broadcast_to(BLUR, (c, 1, 3, 3)).copy()
        if k % 2 == 0:
            q = f"synthesis.output{k // 2}"
            sd |= {f"{q}.weight": draw(image_channels, c, 1, 1), f"{q}.bias": draw(image_channels)}
    return sd


def older(sd, dense, const, fused=()):
    """InterFaceGAN's names (dense "linear", const "first_layer") or IDInvert's ("fc", "const"); `fused` layers have
    HWIO kernels of their own.
    """
    out = {}
    for name, a in sd.items():
        if m := re.fullmatch(r"mapping\.(dense\d+)\.(weight|bias)", name):
            out[f"mapping.{m[1]}." + (f"{dense}.weight" if m[2] == "weight" else "wscale.bias")] = a
        elif m := re.fullmatch(r"synthesis\.layer(\d+)\.weight", name):
            if int(m[1]) in fused:
                out[name] = np.ascontiguousarray(a.transpose(2, 3, 1, 0))
            else:
                out[f"synthesis.layer{m[1]}.conv.weight"] = a
        elif m := re.fullmatch(r"(synthesis\.layer\d+)\.style\.(weight|bias)", name):
            end = f"{dense}.weight" if m[2] == "weight" else "wscale.bias"
            out[f"{m[1]}.epilogue.style_mod.dense.{end}"] = a
        elif m := re.fullmatch(r"(synthesis\.layer\d+)\.(bias|apply_noise\.\w+)", name):
            out[f"{m[1]}.epilogue.{m[2]}"] = a
        elif m := re.fullmatch(r"(synthesis\.output\d+)\.weight", name):
            out[f"{m[1]}.conv.weight"] = a
        else:
            out[name.replace("layer0.const", f"layer0.{const}")] = a
    rows = 1 + max(int(m[1]) for name in sd if (m := re.match(r"synthesis\.layer(\d+)\.", name)))
    return out | {"truncation.truncation": np.ones((1, rows, 1), np.float32)}


def interfacegan(sd, fused=()):
    return older(sd, "linear", "first_layer", fused)


def idinvert(sd, fused=()):
    return older(sd, "fc", "const", fused)


def _tf_layer(k):
    r = 4 * 2 ** (k // 2)
    return f"{r}x{r}/" + (("Const", "Conv")[k] if k < 2 else ("Conv0_up", "Conv1")[k % 2])


def tensorflow(sd, **kwargs):
    """Gs as a Network of version 3 with mapping and synthesis components."""
    mapping, synthesis, own = {}, {"lod": np.float32(0)}, {"lod": sd["synthesis.lod"]}
    last = max(int(m[1]) for name in sd if (m := re.match(r"synthesis\.output(\d+)\.", name)))
    for name, a in sd.items():
        if m := re.fullmatch(r"mapping\.dense(\d+)\.(weight|bias)", name):
            mapping[f"Dense{m[1]}/{m[2]}"] = a.T
        elif name == "mapping.label_weight":
            mapping["LabelConcat/weight"] = a
        elif name == "truncation.w_avg":
            own["dlatent_avg"] = a
        elif m := re.fullmatch(r"synthesis\.layer(\d+)\.(.+)", name):
            k, part = int(m[1]), m[2]
            at = _tf_layer(k)
            if part == "apply_noise.noise":
                synthesis[f"noise{k}"] = a
            elif part == "weight":
                synthesis[f"{at}/weight"] = a.transpose(2, 3, 1, 0)
            elif part.startswith("style."):
                synthesis[f"{at}/StyleMod/{part[6:]}"] = a.T
            elif part != "blur.kernel":
                synthesis[f"{at}/{'Noise/weight' if part == 'apply_noise.weight' else part}"] = a
        elif m := re.fullmatch(r"synthesis\.output(\d+)\.(weight|bias)", name):
            value = a.transpose(2, 3, 1, 0) if m[2] == "weight" else a
            synthesis[f"ToRGB_lod{last - int(m[1])}/{m[2]}"] = value
    parts = {"mapping": tf_network(mapping, {}, 3), "synthesis": tf_network(synthesis, {}, 3)}
    return tf_network(own, kwargs, 3, parts)


def pickled(sd, **kwargs):
    """NVIDIA's pickle of (G, D, Gs), whose D has no variables."""
    network = tensorflow(sd, **kwargs)
    return plain((network, tf_network({}, {}, 3), network))
