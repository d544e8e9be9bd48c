"""Perceptual distances, one value per image: LPIPS, and a stand-in made of the generator's own discriminator.

Both compare feature maps that were normalised to unit length per pixel:

    d(a, b) = sum over taps of mean over pixels of sum over channels of weight · (â - b̂)²

`Perceptual.features` already multiplies by √weight, so that a distance is a plain squared difference and a target's
features are computed once.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib import resources
from typing import Any, ClassVar, cast

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from lsap_jax.errors import LsapError
from lsap_jax.networks.frozen import freeze, variables
from lsap_jax.networks.parameters import merge
from lsap_jax.networks.perceptual import PerceptualNetwork, param_shapes
from lsap_jax.networks.pixel_maps import area, bicubic, bilinear, weighted_mean

SHIFT = (-0.030, -0.088, -0.188)  # LPIPS v0.1 on images in [-1, 1]
SCALE = (0.458, 0.448, 0.450)
EPSILON = 1e-10
SCALES = resources.files("lsap_jax") / "assets" / "discriminator_scales.json"

# Mean distance of two independent samples of the generator under `from_discriminator`. LPIPS-VGG between unrelated face
# photographs is 0.6 to 0.7, so the papers' weight of the perceptual term keeps its meaning.
INDEPENDENT_LEVEL = 0.6


def unit_normalise(x: jax.Array) -> jax.Array:
    """x / (|x| + 1e-10) over the channels of [B, H, W, C]; where all are 0, so are value and gradient (naively NaN)."""
    squared = jnp.sum(jnp.square(x), -1, keepdims=True)
    alive = squared > 0
    norm = jnp.sqrt(jnp.where(alive, squared, 1.0))
    return x * jnp.where(alive, 1.0 / (norm + EPSILON), 0.0)


@flax.struct.dataclass
class Perceptual:
    """A perceptual distance. It is a pytree, so that `jit` takes its weights as arguments instead of constants.

    Attributes:
        name: "lpips_vgg", "lpips_alex", "lpips_squeeze" or "discriminator"; recorded in results.
        resolution: side in pixels. LPIPS reduces larger images to it by `bicubic` and uses smaller ones as they are; a
            discriminator takes this resolution only.
        network: params of the LPIPS backbone, or a Discriminator.
        weights: √(weight of each channel) per tap, [1, 1, 1, C], or [1, 1, 1, 1] for all channels of a tap.
        backbone: name of the LPIPS backbone; None for a discriminator.
    """

    blackens: ClassVar[bool] = False
    network: Any
    weights: tuple[jax.Array, ...]
    name: str = flax.struct.field(pytree_node=False)
    resolution: int = flax.struct.field(pytree_node=False)
    backbone: str | None = flax.struct.field(pytree_node=False, default=None)

    @property
    def description(self) -> str:
        """One line that defines the distance, for results."""
        if self.backbone is None:
            return (
                f"discriminator features at {self.resolution} px before minibatch stddev, unit-normalised per pixel, "
                f"mean over space and blocks, scaled: independent samples are {INDEPENDENT_LEVEL} apart on average"
            )
        return (
            f"LPIPS v0.1, {self.backbone}, images in [-1, 1], above {self.resolution} px reduced by bicubic without "
            "antialiasing, sum of taps"
        )

    @jax.jit
    def features(self, images: jax.Array) -> list[jax.Array]:
        """Weighted unit features of images [B, H, W, C] in [-1, 1]: one [B, h, w, c] per tap, finest first.

        Raises:
            LsapError: a discriminator is given another resolution, or the image is too small for the backbone.
        """
        maps = self._maps(images)
        return [unit_normalise(m) * w.astype(m.dtype) for m, w in zip(maps, self.weights, strict=True)]

    @jax.jit
    def distance(self, a: Sequence[jax.Array], b: Sequence[jax.Array], mask: jax.Array | None = None) -> jax.Array:
        """Distance [B] of what `features` returned for two batches.

        Args:
            a, b: features of the same resolution.
            mask: [B, H, W] in [0, 1], averaged down to each tap; weights the mean over pixels. An empty mask gives 0.
        """
        return sum(self.tap_distances(a, b, mask), start=jnp.zeros(()))

    def tap_distances(
        self, a: Sequence[jax.Array], b: Sequence[jax.Array], mask: jax.Array | None = None
    ) -> list[jax.Array]:
        """The terms of `distance`, [B] per tap."""
        terms = []
        for x, y in zip(a, b, strict=True):
            weights = None if mask is None else area(mask[..., None], (x.shape[1], x.shape[2]))[..., 0]
            terms.append(weighted_mean(jnp.sum(jnp.square(x - y), -1), weights))
        return terms

    def map(self, a: Sequence[jax.Array], b: Sequence[jax.Array], side: int) -> jax.Array:
        """Where batches of `features` differ: [B, side, side, 1], the sum of the taps' maps, enlarged bilinearly."""
        maps = (jnp.sum(jnp.square(x - y), -1, keepdims=True) for x, y in zip(a, b, strict=True))
        return sum((bilinear(one, (side, side)) for one in maps), start=jnp.zeros(()))

    def __call__(self, a: jax.Array, b: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """Distance [B] of images a and b, [B, H, W, C] in [-1, 1]."""
        return self.distance(self.features(a), self.features(b), mask)

    @partial(jax.jit, static_argnames=("side", "winograd"))
    def freeze(self, side: int, winograd: int = 0) -> "Perceptual":
        """A copy for images of `side` pixels with frozen weights, as `Generator.freeze` makes one."""
        if self.backbone is None:
            return replace(self, network=self.network.freeze(winograd))
        side = min(side, self.resolution)
        images = jnp.zeros((1, side, side, 3))
        network = freeze(PerceptualNetwork(self.backbone), self.network, images, winograd=winograd)
        return replace(self, network=network)

    def _maps(self, images: jax.Array) -> list[jax.Array]:
        if self.backbone is None:
            if images.shape[1:3] != (self.resolution, self.resolution):
                raise LsapError(
                    f"the discriminator compares images of {self.resolution} x {self.resolution} px, got "
                    f"{images.shape[1]} x {images.shape[2]}; resize them"
                )
            return self.network.features(images)
        if max(images.shape[1:3]) > self.resolution:
            images = bicubic(images, (self.resolution, self.resolution))
        if images.shape[-1] == 1:
            images = jnp.repeat(images, 3, axis=-1)
        shift, scale = (jnp.asarray(v, images.dtype)[None, None, None, :] for v in (SHIFT, SCALE))
        taps = PerceptualNetwork(self.backbone).apply(variables(self.network), (images - shift) / scale)
        return cast(list[jax.Array], taps)


def lpips_of(name: str, params: Mapping[str, Any], resolution: int = 256) -> Perceptual:
    """LPIPS v0.1 (Zhang et al., CVPR 2018) from params.

    Args:
        name: "vgg16", "alexnet" or "squeezenet1_1".
        params: of its `PerceptualNetwork`, and `lin{k}` with the "weight" [C] of each tap.
        resolution: see `Perceptual`.

    Raises:
        LsapError: a weight of a tap is negative (LPIPS weights are clamped at 0 in training).
    """
    lins = {k: np.asarray(params[k]["weight"]) for k in sorted(params) if k.startswith("lin")}
    for k, w in lins.items():
        if not (w >= 0).all():
            raise LsapError(
                f"{k}.weight has negative or non-finite entries (smallest {w.min()}); convert LPIPS lin weights of v0.1"
            )
    # `jnp.asarray` would compile a program for every shape.
    network = jax.device_put({k: tree for k, tree in params.items() if k not in lins})
    weights = jax.device_put(tuple(np.sqrt(w)[None, None, None, :] for w in lins.values()))
    short = {"vgg16": "vgg", "alexnet": "alex", "squeezenet1_1": "squeeze"}[name]
    return Perceptual(network=network, weights=weights, name=f"lpips_{short}", resolution=resolution, backbone=name)


def lpips(name: str, backbone: dict[str, np.ndarray], lin: dict[str, np.ndarray], resolution: int = 256) -> Perceptual:
    """LPIPS v0.1 from arrays in torch's names and layouts.

    Args:
        name: "vgg16", "alexnet" or "squeezenet1_1".
        backbone: torchvision's `features.{i}.weight` (OIHW) and `.bias`.
        lin: `lin{k}.weight` [C] per tap.
        resolution: see `Perceptual`.

    Raises:
        LsapError: an array is missing, unknown, or of another shape.
    """
    return lpips_of(name, merge(param_shapes(name), {**backbone, **lin}, f"LPIPS with {name}"), resolution)


def _unscaled(G: Any) -> Perceptual:
    if G.discriminator is None:
        raise LsapError(
            "this generator comes without its discriminator; convert a checkpoint that has one, or LPIPS weights"
        )
    taps = len(G.discriminator.config.channels) - 1  # a block for every resolution above 4 px
    weights = (jnp.full((1, 1, 1, 1), taps**-0.5),) * taps
    return Perceptual(network=G.discriminator, weights=weights, name="discriminator", resolution=G.img_resolution)


@jax.jit
def _pair_distance(G: Any, perceptual: Perceptual, rng: jax.Array) -> jax.Array:
    rng_z, rng_c = jax.random.split(rng)
    z = jax.random.normal(rng_z, (2, G.z_dim))
    c = jax.nn.one_hot(jax.random.randint(rng_c, (2,), 0, G.c_dim), G.c_dim) if G.c_dim else None
    images = jnp.clip(G.synthesis(G.mapping(z, c)), -1, 1)
    maps = perceptual.features(images)
    return perceptual.distance([m[:1] for m in maps], [m[1:] for m in maps])[0]


def discriminator_scale(G: Any, pairs: int = 16, seed: int = 0) -> float:
    """Factor that puts independent samples of G `INDEPENDENT_LEVEL` (0.6) apart on average.

    Args:
        G: Generator with a discriminator; a conditional one is sampled with labels drawn uniformly.
        pairs: pairs of samples in the mean (psi 1, const noise, clipped).
        seed: of the samples; the same G, pairs and seed give the same scale.

    Raises:
        LsapError: G has no discriminator, or its features do not tell samples apart.
    """
    perceptual = _unscaled(G)
    # Pair by pair: a calibration at 1024 px fits wherever an inversion does.
    rngs = jax.random.split(jax.random.key(seed), pairs)
    mean = float(np.mean([float(_pair_distance(G, perceptual, rng)) for rng in rngs]))
    if not mean > 1e-6:  # also where it is NaN
        raise LsapError(
            f"independent samples are {mean} apart for this generator's discriminator; convert LPIPS weights instead"
        )
    return INDEPENDENT_LEVEL / mean


def bundled_scale(G: Any) -> float | None:
    """`discriminator_scale` of a bundled generator, which takes a program of its own to measure; None for others."""
    scales = json.loads(SCALES.read_text("utf-8"))
    return scales.get(G.bare(G.discriminator.kind).sha256)  # type: ignore[no-any-return]


def from_discriminator(G: Any, scale: float | None = None) -> Perceptual:
    """Perceptual distance from the features of G's discriminator; `scale` defaults to `discriminator_scale(G)`,
    for a bundled generator to what that gave when it was bundled.

    Raises:
        LsapError: G has no discriminator.
    """
    perceptual = _unscaled(G)
    if scale is None:
        scale = bundled_scale(G)
    factor = float(np.sqrt(discriminator_scale(G) if scale is None else scale))
    return replace(perceptual, weights=tuple(w * factor for w in perceptual.weights))
