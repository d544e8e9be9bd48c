"""StyleRes in PyTorch, for comparison: encoder, residuals, and the edited code's pass, as the original computes them.

Weights come from the JAX side, so that both sides make the same images.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch_encoder import Encoder, _conv, _upsampled
from torch_step import Generator, oihw, scaled, tensor

from lsap_jax.networks.styleres import SLOPE, StyleResConfig


class StyleRes:
    """Images [B, H, W, 3] and a step of editing to the edited images [B, 3, R, R]: one pass of the encoder, a partial
    and a whole one of the generator.

    Args:
        channels_last: whether features of the encoder and of the networks lie in memory as [B, H, W, C].
    """

    def __init__(self, G: Any, E: Any, networks: Any, layer: str, channels_last: bool) -> None:
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.encoder, self.w_avg = Encoder(E.params["encoder"], E.config, channels_last), tensor(E.params["w_avg"])
        self.generator = Generator(G.params, G.config.channels, G.config.resample_filter, scaled)
        self.params, self.config, self.layer = self._converted(networks.params), networks.config, layer

    def _converted(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: self._converted(leaf)
            if isinstance(leaf, Mapping)
            else oihw(leaf).contiguous(memory_format=self.layout) if leaf.ndim == 4 else tensor(leaf)
            for name, leaf in tree.items()
        }  # fmt: skip

    @torch.inference_mode()
    def __call__(self, images: Any, step: Any) -> torch.Tensor:
        config: StyleResConfig = self.config
        ws, c = self.encoder.with_unit(images, config.tap)
        ws = ws + self.w_avg
        features = self.generator.synthesis(ws, self.layer).contiguous(memory_format=self.layout)
        residual = self._residual(torch.cat([c, features], dim=1))
        return self.generator.synthesis(ws + tensor(step), self.layer, lambda x: self._added(x, residual)).clamp(-1, 1)

    def _residual(self, x: torch.Tensor) -> torch.Tensor:
        p = self.params["alignment"]
        fine = _units(_conv(x, p["first_layer"]), p["conv1"])
        middle = _units(fine, p["conv2"], 2)
        x = _units(middle, p["conv3"], 2)
        x = _units(_upsampled(x, middle) + middle, p["dconv1"])
        x = _conv(_units(_upsampled(x, fine) + fine, p["dconv2"]), p["out_layer"])
        p = self.params["extraction"]
        return _units(_conv(x, p["first_layer"]), p["convs"])

    def _added(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        p = self.params["gates"]
        h = torch.cat([_conv(x, p["down1"]), _conv(residual, p["down2"])], dim=1)
        return x + torch.sigmoid(_units(h, p["convs2"])) * _units(h, p["convs"])


def _units(x: torch.Tensor, p: Mapping[str, Any], stride: int = 1) -> torch.Tensor:
    """Residual units in a row, the first of them with this stride."""
    for k in range(len(p)):
        own, by = p[str(k)], stride if k == 0 else 1
        y = _conv(F.leaky_relu(_conv(x, own["res_layer"]["0"]), SLOPE), own["res_layer"]["2"], by)
        shortcut = own.get("shortcut_layer")
        x = y + (x if shortcut is None else F.conv2d(x, shortcut["0"]["weight"], None, by))
    return x
