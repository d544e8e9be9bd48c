"""The same inversion step in PyTorch, in both formulations of StyleGAN2's modulated convolution, for comparison.

    grouped   weights per sample, one grouped convolution for the batch (the fused form of the original implementation)
    scaled    one shared weight, inputs scaled by the style and outputs demodulated (its unfused form)

Weights come from the JAX side, so that both sides compute the same losses.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from flax.traverse_util import flatten_dict

VGG_TAPS = (2, 7, 14, 21, 28)
VGG_POOLS = (5, 10, 17, 24)  # max pooling before these convolutions
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
SQRT2 = 2**0.5
DEVICE = "cpu"  # where tensors are made


def tensor(a: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(a, np.float32)).to(DEVICE)


def oihw(a: Any) -> torch.Tensor:
    """[kh, kw, Cin, Cout] as torch has it."""
    return tensor(a).permute(3, 2, 0, 1).contiguous()


def lrelu(x: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(x, 0.2) * SQRT2


def blur(x: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    """FIR filter after a transposed convolution: [B, C, 2H + 1, 2W + 1] to [B, C, 2H, 2W], brightness kept."""
    kernel = (taps[:, None] * taps[None, :] * 4).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(x, kernel, padding=1, groups=x.shape[1])


def upsample(img: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    kernel = (taps[:, None] * taps[None, :] * 4).expand(img.shape[1], 1, 4, 4)
    return F.conv_transpose2d(img, kernel, stride=2, padding=1, groups=img.shape[1])


def grouped(x: torch.Tensor, weight: torch.Tensor, styles: torch.Tensor, up: bool, demodulate: bool) -> torch.Tensor:
    """Modulated convolution with weights per sample; the FIR filter of `up` is applied by the caller."""
    b, _, h, w = x.shape
    out, cin, k, _ = weight.shape
    per_sample = weight[None] * styles[:, None, :, None, None]
    if demodulate:
        per_sample = per_sample * (per_sample.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    x = x.reshape(1, b * cin, h, w)
    if up:
        kernels = per_sample.transpose(1, 2).reshape(b * cin, out, k, k)
        x = F.conv_transpose2d(x, kernels, stride=2, groups=b)
    else:
        x = F.conv2d(x, per_sample.reshape(b * out, cin, k, k), padding=k // 2, groups=b)
    return x.reshape(b, out, *x.shape[2:])


def scaled(x: torch.Tensor, weight: torch.Tensor, styles: torch.Tensor, up: bool, demodulate: bool) -> torch.Tensor:
    """The same with one shared weight."""
    x = x * styles[:, :, None, None]
    if up:
        x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
    else:
        x = F.conv2d(x, weight, padding=weight.shape[2] // 2)
    if demodulate:
        energy = styles.square() @ weight.square().sum(dim=(2, 3)).t()
        x = x * (energy + 1e-8).rsqrt()[:, :, None, None]
    return x


FORMULATIONS: dict[str, Callable] = {"grouped": grouped, "scaled": scaled}


class Generator:
    """Skip StyleGAN2 with constant noise, of the params of `lsap_jax`."""

    def __init__(
        self, params: Mapping[str, Any], channels: tuple[int, ...], taps: tuple, convolution: Callable
    ) -> None:
        self.convolution, self.taps = convolution, tensor(taps)
        self.resolutions = [4 << i for i in range(len(channels))]
        mapping, synthesis = params["mapping"], params["synthesis"]
        layers = [mapping[f"fc{i}"] for i in range(len(mapping) - 1)]
        gain = [0.01 / np.sqrt(layer["weight"].shape[0]) for layer in layers]
        self.mapping = [
            ((tensor(d["weight"]) * g).t().contiguous(), tensor(d["bias"]) * 0.01)
            for d, g in zip(layers, gain, strict=True)
        ]
        self.const = tensor(synthesis["b4"]["const"]).permute(2, 0, 1)[None].contiguous()
        self.layers = {
            f"b{r}.{name}": self._layer(synthesis[f"b{r}"][name])
            for r in self.resolutions
            for name in ("conv0", "conv1", "torgb")
            if name in synthesis[f"b{r}"]
        }

    @staticmethod
    def _layer(p: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        affine = p["affine"]
        layer = {
            "weight": oihw(p["weight"]),
            "bias": tensor(p["bias"])[None, :, None, None],
            "affine_weight": tensor(affine["weight"]).t().contiguous(),
            "affine_bias": tensor(affine["bias"]),
        }
        if "noise_const" in p:
            layer["noise"] = tensor(p["noise_const"])[None, None]
            layer["strength"] = tensor(p["noise_strength"])
        return layer

    def trainable(self) -> list[torch.Tensor]:
        """The tensors of the synthesis that pivotal tuning changes: all but the noise."""
        return [self.const, *(t for layer in self.layers.values() for name, t in layer.items() if name != "noise")]

    def _styles(self, name: str, w: torch.Tensor) -> torch.Tensor:
        layer = self.layers[name]
        return F.linear(w, layer["affine_weight"] / w.shape[-1] ** 0.5, layer["affine_bias"])

    def _conv(self, name: str, x: torch.Tensor, w: torch.Tensor, up: bool = False) -> torch.Tensor:
        layer = self.layers[name]
        x = self.convolution(x, layer["weight"], self._styles(name, w), up, True)
        x = blur(x, self.taps) if up else x
        return lrelu(x + layer["noise"] * layer["strength"] + layer["bias"])

    def __call__(self, z: torch.Tensor) -> torch.Tensor:
        """z [B, num_ws, z_dim] on the sphere to images [B, 3, R, R]."""
        ws = z.reshape(-1, z.shape[-1])
        for weight, bias in self.mapping:
            ws = lrelu(F.linear(ws, weight, bias))
        return self.synthesis(ws.reshape(*z.shape[:2], -1))

    def synthesis(
        self, ws: torch.Tensor, layer: str = "", change: Callable[[torch.Tensor], torch.Tensor] | None = None
    ) -> torch.Tensor:
        """ws [B, num_ws, w_dim] to images.

        Args:
            layer: the first convolution of a block, as b64.conv0.
            change: of its features; without one they are the result, and nothing behind them is computed.
        """
        x = self.const.expand(len(ws), -1, -1, -1)
        img, index = None, 0
        for r in self.resolutions:
            if r > 4:
                x = self._conv(f"b{r}.conv0", x, ws[:, index], up=True)
                index += 1
                if layer == f"b{r}.conv0":
                    if change is None:
                        return x
                    x = change(x)
            x = self._conv(f"b{r}.conv1", x, ws[:, index])
            index += 1
            torgb = self.layers[f"b{r}.torgb"]
            styles = self._styles(f"b{r}.torgb", ws[:, index]) / np.sqrt(x.shape[1])
            rgb = self.convolution(x, torgb["weight"], styles, False, False) + torgb["bias"]
            img = rgb if img is None else upsample(img, self.taps) + rgb
        assert img is not None
        return img


class Original:
    """The generator of a user's checkout of stylegan2-ada-pytorch or stylegan3, with the params of `lsap_jax`."""

    def __init__(self, checkout: str, params: Mapping[str, Any], config: Any, fused: bool) -> None:
        if checkout not in sys.path:
            sys.path.insert(0, checkout)
        for name in ("training.networks", "training.networks_stylegan2"):
            if importlib.util.find_spec(name) is not None:
                networks = importlib.import_module(name)
                break
        else:
            raise SystemExit(f"{checkout}: has no training/networks.py or training/networks_stylegan2.py")
        self.network = networks.Generator(
            z_dim=config.z_dim,
            c_dim=0,
            w_dim=config.w_dim,
            img_resolution=config.img_resolution,
            img_channels=config.img_channels,
            mapping_kwargs={"num_layers": config.mapping_layers},
            synthesis_kwargs={
                "channel_base": config.channels[-1] * config.img_resolution,
                "channel_max": max(config.channels),
            },
        )
        weights = {".".join(path): _torch_layout(path, a) for path, a in flatten_dict(dict(params)).items()}
        missing, unexpected = self.network.load_state_dict(weights, strict=False)
        if unexpected or any(not name.endswith("resample_filter") for name in missing):
            raise SystemExit(f"{checkout}: its generator has other parameters: {missing[:3]}, {unexpected[:3]}")
        self.network.eval().requires_grad_(False)
        self.fused = fused

    def __call__(self, z: torch.Tensor) -> torch.Tensor:
        """z [B, num_ws, z_dim] on the sphere to images [B, 3, R, R]."""
        ws = self.network.mapping(z.reshape(-1, z.shape[-1]), None)[:, 0].reshape(*z.shape[:2], -1)
        return self.network.synthesis(ws, noise_mode="const", force_fp32=True, fused_modconv=self.fused)


def _torch_layout(path: tuple[str, ...], a: Any) -> torch.Tensor:
    if path[-1] == "const":
        return tensor(a).permute(2, 0, 1)
    return {4: oihw, 2: lambda w: tensor(w).t()}.get(np.ndim(a) if path[-1] == "weight" else 0, tensor)(a)


class Lpips:
    """LPIPS on VGG16, of the arrays that the JAX side was given."""

    def __init__(self, backbone: Mapping[str, np.ndarray], lin: Mapping[str, np.ndarray]) -> None:
        places = sorted({int(name.split(".")[1]) for name in backbone})
        self.layers = {
            i: (tensor(backbone[f"features.{i}.weight"]), tensor(backbone[f"features.{i}.bias"])) for i in places
        }
        self.weights = [tensor(lin[f"lin{k}.weight"]).sqrt()[None, :, None, None] for k in range(len(VGG_TAPS))]
        self.shift, self.scale = (tensor(v)[None, :, None, None] for v in (SHIFT, SCALE))

    def features(self, x: torch.Tensor) -> list[torch.Tensor]:
        x = (x - self.shift) / self.scale
        found = []
        for i, (weight, bias) in self.layers.items():
            x = F.max_pool2d(x, 2) if i in VGG_POOLS else x
            x = F.relu(F.conv2d(x, weight, bias, padding=1))
            if i in VGG_TAPS:
                norm = x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10
                found.append(x / norm * self.weights[len(found)])
        return found


def distance(a: list[torch.Tensor], b: list[torch.Tensor]) -> torch.Tensor:
    return sum(((x - y).square().sum(dim=1).mean(dim=(1, 2)) for x, y in zip(a, b, strict=True)), start=torch.zeros(()))


class Inversion:
    """Adam on z+ with the retraction after each step."""

    def __init__(
        self, G: Generator | Original, lpips: Lpips, z: np.ndarray, targets: np.ndarray, lr: float, weight: float
    ) -> None:
        self.G, self.lpips, self.weight = G, lpips, weight
        self.z = tensor(z).requires_grad_(True)
        self.targets = tensor(targets).permute(0, 3, 1, 2).contiguous()
        with torch.no_grad():
            self.features = lpips.features(self.targets)
        self.optimizer = torch.optim.Adam([self.z], lr=lr)

    def run(self, steps: int) -> np.ndarray:
        """Losses [B] before the last of so many steps."""
        for _ in range(steps):
            self.optimizer.zero_grad(set_to_none=True)
            img = self.G(self.z)
            losses = (img - self.targets).square().mean(dim=(1, 2, 3))
            losses = losses + self.weight * distance(self.lpips.features(img), self.features)
            losses.sum().backward()
            self.optimizer.step()
            with torch.no_grad():
                self.z.mul_(self.z.shape[-1] ** 0.5 / self.z.norm(dim=-1, keepdim=True))
        return losses.detach().cpu().numpy()


class Tuning:
    """PTI of one image: Adam on the weights of a generator of its own, at a fixed code."""

    def __init__(self, G: Generator, lpips: Lpips, ws: np.ndarray, target: np.ndarray, lr: float) -> None:
        self.G, self.lpips, self.ws = G, lpips, tensor(ws)
        self.target = tensor(target).permute(0, 3, 1, 2).contiguous()
        with torch.no_grad():
            self.features = lpips.features(self.target)
        self.optimizer = torch.optim.Adam([t.requires_grad_(True) for t in G.trainable()], lr=lr)

    def run(self, steps: int) -> np.ndarray:
        """The loss [1] before the last of so many steps."""
        for _ in range(steps):
            self.optimizer.zero_grad(set_to_none=True)
            img = self.G.synthesis(self.ws)
            loss = (img - self.target).square().mean() + distance(self.lpips.features(img), self.features)[0]
            loss.backward()
            self.optimizer.step()
        return loss.detach().cpu().numpy()[None]
