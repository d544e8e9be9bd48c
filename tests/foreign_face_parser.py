"""A small BiSeNet's state dict as face-parsing.PyTorch saves it, and what it computes, in numpy."""

import foreign_files as files
import numpy as np

from convert_weights.face_parser import network_shapes

CONFIG = {
    "classes": 19, "stem": 4, "widths": [4, 5, 6, 7], "units": [2, 1, 1, 1], "context": 3, "fused": 4, "squeezed": 2,
    "head": 5,
}  # fmt: skip


def foreign(prefix="", **changes):
    """With the heads of the training and the counters of the norms."""
    rng, state = np.random.default_rng(0), {}
    shapes = network_shapes(CONFIG)
    for head in ("conv_out16", "conv_out32"):
        own = {name: shape for name, shape in shapes.items() if name.startswith("conv_out.")}
        shapes |= {name.replace("conv_out.", f"{head}.", 1): shape for name, shape in own.items()}
    for name, shape in shapes.items():
        value = 0.6 * rng.standard_normal(shape, np.float32)
        state[name] = np.abs(value) + 0.5 if name.endswith("running_var") else value
    state["cp.resnet.bn1.num_batches_tracked"] = np.array(7)
    return {prefix + name: a for name, a in (state | changes).items()}


def packed(state):
    """The bytes of a file with this state dict."""
    return files.torch_zip(files.ordered(state))


def logits(state, x):
    """Of images x [H, W, 3] in [-1, 1], at an eighth of the size: [H / 8, W / 8, classes], in float64."""

    def conv(name, x, stride=1):
        weight = state[f"{name}.weight"]
        k = weight.shape[2]
        padded = np.pad(x, ((0, 0), (k // 2,) * 2, (k // 2,) * 2))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (k, k), (1, 2))[:, ::stride, ::stride]
        return np.einsum("ihwkl,oikl->ohw", windows, weight)

    def norm(name, x):
        weight, bias, mean, variance = (
            state[f"{name}.{s}"][:, None, None] for s in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(variance + 1e-5) * weight + bias

    def relu(x):
        return np.maximum(x, 0)

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    def mean(x):
        return x.mean((1, 2), keepdims=True)

    def block(name, x):
        return relu(norm(f"{name}.bn", conv(f"{name}.conv", x)))

    def unit(name, x, stride):
        y = relu(norm(f"{name}.bn1", conv(f"{name}.conv1", x, stride)))
        y = norm(f"{name}.bn2", conv(f"{name}.conv2", y))
        if f"{name}.downsample.0.weight" in state:
            x = norm(f"{name}.downsample.1", conv(f"{name}.downsample.0", x, stride))
        return relu(x + y)

    def gated(name, x):
        x = block(f"{name}.conv", x)
        return x * sigmoid(norm(f"{name}.bn_atten", conv(f"{name}.conv_atten", mean(x))))

    def twice(x):
        return x.repeat(2, 1).repeat(2, 2)

    x = ((x / 2 + 0.5 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)).transpose(2, 0, 1)
    x = relu(norm("cp.resnet.bn1", conv("cp.resnet.conv1", x, 2)))
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    x = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))[:, ::2, ::2].max((-1, -2))
    stages = []
    for k, units in enumerate(CONFIG["units"]):
        for i in range(units):
            x = unit(f"cp.resnet.layer{k + 1}.{i}", x, 2 if k and not i else 1)
        stages.append(x)
    _, second, third, fourth = stages
    up = gated("cp.arm32", fourth) + block("cp.conv_avg", mean(fourth))
    up = block("cp.conv_head32", twice(up)) + gated("cp.arm16", third)
    fused = block("ffm.convblk", np.concatenate([second, block("cp.conv_head16", twice(up))]))
    fused = fused * sigmoid(conv("ffm.conv2", relu(conv("ffm.conv1", mean(fused))))) + fused
    return conv("conv_out.conv_out", block("conv_out.conv", fused)).transpose(1, 2, 0)
