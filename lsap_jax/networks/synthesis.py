"""What the synthesis networks of all families share: their inputs, noise, styles, and where a base code enters.

A layer's features can be changed before the next layer reads them: a synthesis takes functions of them by the layer's
name. A base code f is such a function: it ignores the features, so that no lower layer is computed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import flax.linen as nn
import jax

from lsap_jax.networks.layer_table import Layer, LayerTable
from lsap_jax.networks.layers import FullyConnected

NoiseMode = Literal["const", "random", "none"]
Transform = Callable[[Any], jax.Array]  # features [B, r, r, C], or None where the synthesis starts, to features


@dataclass
class SynthesisInputs:
    """The inputs of the layers in one synthesis pass besides their features, and the `features` that they record.

    Attributes:
        start: the layer at which the synthesis starts, or None.
    """

    ws: jax.Array | None
    styles: Mapping[str, jax.Array] | None
    noise_mode: NoiseMode
    noise: Mapping[str, jax.Array] | None
    rng: jax.Array | None
    half_blocks: int
    transforms: Mapping[str, Transform]
    start: str | None
    features: dict[str, jax.Array] = field(default_factory=dict)

    @property
    def batch_size(self) -> int:
        return len(self.ws) if self.ws is not None else len(next(iter((self.styles or {}).values())))

    def output(self, layer: str, x: jax.Array | None) -> jax.Array:
        """The features of a layer as the next one reads them; x is None where the synthesis starts."""
        changed = self.transforms[layer](x) if layer in self.transforms else x
        assert changed is not None
        self.features[layer] = changed
        return changed

    def passed_on(self, block: str, x: jax.Array) -> jax.Array:
        """The features of a block, as "b16", as the next block reads them; the image of this block does not see the
        change. `features` keeps them as they were before.
        """
        self.features[block] = x
        return self.transforms[block](x) if block in self.transforms else x


def synthesis_inputs(
    config: LayerTable,
    ws: jax.Array | None,
    *,
    styles: Mapping[str, jax.Array] | None = None,
    f: jax.Array | None = None,
    transforms: Mapping[str, Transform] | None = None,
    start: str | None = None,
    noise_mode: NoiseMode = "const",
    noise: Mapping[str, jax.Array] | None = None,
    rng: jax.Array | None = None,
    half_blocks: int = 0,
) -> SynthesisInputs:
    """The arguments of every synthesis network.

    Args:
        ws: [B, num_ws, w_dim], or None where styles are given.
        styles: layer name -> [B, width] (StyleSpace).
        f: [B, r, r, C(r)], replaces the features of the first conv of block r after noise, bias and activation
            (BDInvert's base code): a transform that ignores the features and returns f, and the start.
        transforms: layer name -> function of its features, after noise, bias, activation and f; block name ("b16") ->
            function of what the next block reads.
        start: a layer of `config.entries`: its transform is called with None, lower layers are not computed,
            and the RGB of lower resolutions is dropped.
        noise: layer name -> [B | 1, r, r] instead of the constant noise of those layers.
        half_blocks: number of blocks, from the highest resolution down, whose features are in bfloat16; styles,
            normalisation and images stay as they are. The block of the start is never one of them.

    Raises:
        ValueError: f or start fits no layer.
    """
    transforms = dict(transforms or {})
    if f is not None:
        start = entry(config, f.shape).name
        transforms[start] = _constant(f, transforms.get(start))
    return SynthesisInputs(
        ws=ws,
        styles=styles,
        noise_mode=noise_mode,
        noise=noise,
        rng=rng,
        half_blocks=half_blocks,
        transforms=transforms,
        start=start,
    )


def _constant(f: jax.Array, then: Transform | None) -> Transform:
    """The transform that ignores the features and returns f, followed by `then`."""
    return lambda _: f if then is None else then(f)


def entry(config: LayerTable, shape: tuple[int, ...]) -> Layer:
    """Layer whose features a base code of this shape [B, r, r, C] replaces; ValueError where it fits none."""
    if not config.entries:
        raise ValueError("a base code f needs a StyleGAN2 of architecture 'skip' or a StyleGAN1; this one is neither")
    wanted = {r: layer.channels for r, layer in config.entries.items()}
    if len(shape) != 4 or shape[1] != shape[2] or wanted.get(shape[1]) != shape[3]:
        shapes = [(r, r, c) for r, c in wanted.items()]
        raise ValueError(f"a base code f of shape {tuple(shape)} fits no block; (r, r, channels) can be {shapes}")
    return config.entries[shape[1]]


def first_resolution(config: LayerTable, start: str | None) -> int:
    """Resolution of the first block that is computed; ValueError where the synthesis cannot start at this layer."""
    found = {None: 0} | {layer.name: resolution for resolution, layer in config.entries.items()}
    if start not in found:
        raise ValueError(f"the synthesis cannot start at {start}, only at one of {[n for n in found if n]}")
    return found[start]


def layer_styles(inputs: SynthesisInputs, layer: Layer, bias_init: float) -> jax.Array:
    """[B, width] styles of a layer: the affine of its w, or the given ones (StyleSpace). Call it inside the layer's
    module.
    """
    affine = FullyConnected(layer.width, bias_init=bias_init, name=layer.affine[-1])
    if inputs.styles is None:
        assert inputs.ws is not None
        styles = affine(inputs.ws[:, layer.row])
    else:
        styles = inputs.styles[layer.name]
    inputs.features[f"{layer.name}.styles"] = styles
    return styles


def layer_noise(
    module: nn.Module, config: LayerTable, layer: Layer, inputs: SynthesisInputs, strengths: tuple[int, ...]
) -> jax.Array | None:
    """[1 | B, R, R, 1 | C] noise of a layer times its strength, or None. Call it inside the layer's module.

    Args:
        strengths: shape of the strength, () for one of all channels or (C,).
    """
    if not config.use_noise:
        return None
    r = layer.resolution
    const = module.param("noise_const", nn.initializers.normal(1.0), (r, r))
    strength = module.param("noise_strength", nn.initializers.zeros, strengths)
    if inputs.noise_mode == "none":
        return None
    noise = const[None]
    if inputs.noise_mode == "random":
        if inputs.rng is None:
            raise ValueError("noise_mode='random' needs rng, a key per image")
        noise = random_noise(inputs.rng, config.layers.index(layer), r)
    elif inputs.noise is not None and layer.name in inputs.noise:
        noise = inputs.noise[layer.name]
    return noise[..., None] * strength.reshape(1, 1, 1, -1)


def random_noise(rng: jax.Array, index: int, resolution: int) -> jax.Array:
    """[B, R, R] standard normal noise for layer `index` from a key per image [B]."""
    return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, index), (resolution, resolution)))(rng)
