"""The encoder of e4e in PyTorch, for comparison: IR-SE50, feature pyramid and heads, as the originals compute them.

Weights come from the JAX side, so that both sides make the same codes.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch_step import oihw, tensor

from lsap_jax.networks.psp import PspConfig

SLOPE = 0.01
EPSILON = 1e-5


class Encoder:
    """Images [B, H, W, 3] to ws [B, num_ws, w_dim] without the mean latent.

    Args:
        channels_last: whether features lie in memory as [B, H, W, C].
    """

    def __init__(self, params: Mapping[str, Any], config: PspConfig, channels_last: bool) -> None:
        self.config = config
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.params = self._converted(params)

    def _converted(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        """The tree with convolutions as torch has them."""
        found: dict[str, Any] = {}
        for name, leaf in tree.items():
            if isinstance(leaf, Mapping):
                found[name] = self._converted(leaf)
            elif leaf.ndim == 4:
                found[name] = oihw(leaf).contiguous(memory_format=self.layout)
            else:
                found[name] = tensor(leaf.T if leaf.ndim == 2 else leaf).contiguous()
        return found

    def __call__(self, images: Any) -> torch.Tensor:
        return self.with_unit(images, 0)[0]

    @torch.inference_mode()
    def with_unit(self, images: Any, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(ws without the mean latent, what the unit of this index makes)."""
        p, c = self.params, self.config
        x = tensor(images).permute(0, 3, 1, 2).contiguous(memory_format=self.layout)
        x = _conv(x, p["input_layer"]["0"])
        x = F.prelu(_norm(x, p["input_layer"]["1"]), p["input_layer"]["2"]["weight"])
        outputs = []
        for k, (width, stride) in enumerate(c.units):
            x = _unit(x, p["body"][str(k)], width, stride)
            outputs.append(x)
        fine, middle, coarse = (outputs[k] for k in c.taps)
        middle = _upsampled(coarse, middle) + _conv(middle, p["latlayer1"])
        fine = _upsampled(middle, fine) + _conv(fine, p["latlayer2"])
        levels = (coarse, middle, fine)
        rows = [self._head(levels[m], p["styles"][str(k)], count) for k, (m, count) in enumerate(c.slots)]
        offsets = torch.stack(rows, dim=1)
        first = offsets[:, :1]
        ws = torch.cat([first, first + offsets[:, 1:]], dim=1) if c.progressive else offsets
        return ws, outputs[index]

    def _head(self, x: torch.Tensor, p: Mapping[str, Any], count: int) -> torch.Tensor:
        for k in range(count):
            x = F.leaky_relu(_conv(x, p["convs"][str(2 * k)], 2), SLOPE)
        weight = p["linear"]["weight"] / p["linear"]["weight"].shape[1] ** 0.5
        return F.linear(x[:, :, 0, 0], weight, p["linear"]["bias"])


def _conv(x: torch.Tensor, p: Mapping[str, torch.Tensor], stride: int = 1) -> torch.Tensor:
    return F.conv2d(x, p["weight"], p.get("bias"), stride, p["weight"].shape[2] // 2)


def _norm(x: torch.Tensor, p: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return F.batch_norm(x, p["running_mean"], p["running_var"], p["weight"], p["bias"], eps=EPSILON)


def _unit(x: torch.Tensor, p: Mapping[str, Any], width: int, stride: int) -> torch.Tensor:
    if x.shape[1] == width:
        shortcut = x[:, :, ::stride, ::stride]
    else:
        shortcut = _norm(_conv(x, p["shortcut_layer"]["0"], stride), p["shortcut_layer"]["1"])
    layer = p["res_layer"]
    y = F.prelu(_conv(_norm(x, layer["0"]), layer["1"]), layer["2"]["weight"])
    y = _norm(_conv(y, layer["3"], stride), layer["4"])
    weights = F.relu(_conv(y.mean(dim=(2, 3), keepdim=True), layer["5"]["fc1"]))
    return y * torch.sigmoid(_conv(weights, layer["5"]["fc2"])) + shortcut


def _upsampled(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=True)
