"""What a user holds: a generator (configuration and params), with the discriminator and the encoders where the file
has them.

`Generator` is frozen and a JAX pytree whose leaves are the params: pass it through `jit`, `grad`, `vmap` and `pmap`
like any array.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from flax.traverse_util import flatten_dict

from lsap_jax import weights_file
from lsap_jax.networks import basecode, discriminator, latent_encoder, stylegan2
from lsap_jax.networks.frozen import freeze, variables
from lsap_jax.networks.layers import FullyConnected
from lsap_jax.networks.reduction import total

Params = Mapping[str, Any]


class Discriminator(struct.PyTreeNode, kw_only=True):
    """StyleGAN2 discriminator."""

    config: discriminator.DiscriminatorConfig = struct.field(pytree_node=False)
    params: Params

    def __call__(self, img: jax.Array, c: jax.Array | None = None) -> jax.Array:
        """Images [B, R, R, C] (and labels [B, c_dim]) to logits [B, 1]. The minibatch-stddev layer makes them depend
        on the batch.
        """
        return self.apply(img, c)[0]

    @jax.jit
    def features(self, img: jax.Array) -> list[jax.Array]:
        """Block outputs before the minibatch-stddev layer, [B, R/2, R/2, .], [B, R/4, R/4, .], ...: independent of
        batch mates.
        """
        network = discriminator.DiscriminatorNetwork(self.config)
        return network.apply(variables(self.params), img, logits=False)[1]  # type: ignore[return-value]

    def freeze(self, winograd: int = 0) -> "Discriminator":
        """The same for `features` alone, as `Generator.freeze`."""
        r = self.config.img_resolution
        network = discriminator.DiscriminatorNetwork(self.config)
        img = jnp.zeros((1, r, r, self.config.img_channels))
        return self.replace(params=freeze(network, self.params, img, winograd=winograd, logits=False))

    @jax.jit
    def apply(self, img: jax.Array, c: jax.Array | None = None) -> tuple[jax.Array, list[jax.Array]]:
        """(logits, features) of one pass."""
        return discriminator.DiscriminatorNetwork(self.config).apply({"params": self.params}, img, c)  # type: ignore[return-value]


class BasecodeEncoder(struct.PyTreeNode, kw_only=True):
    """Base-code encoder E of F/Z+: image to f."""

    config: basecode.BasecodeConfig = struct.field(pytree_node=False)
    variables: Params

    @jax.jit
    def __call__(self, x: jax.Array) -> jax.Array:
        """Images [B, 8s, 8s, C] in [-1, 1] to base codes [B, s, s, channels]."""
        return basecode.BasecodeNetwork(self.config).apply(self.variables, x)  # type: ignore[return-value]


class LatentEncoder(struct.PyTreeNode, kw_only=True):
    """Latent encoder of IDInvert: image to ws."""

    config: latent_encoder.LatentEncoderConfig = struct.field(pytree_node=False)
    variables: Params

    @jax.jit
    def __call__(self, x: jax.Array) -> jax.Array:
        """Images [B, r, r, C] in [-1, 1], r = `config.input_resolution`, to ws [B, num_ws, w_dim].

        Image by image: CPUs round its convolutions at 4 px by the size of the batch, and the search for the nearest z
        and the steps after it amplify that.
        """
        network = latent_encoder.LatentEncoderNetwork(self.config)
        return jax.lax.map(lambda one: network.apply(self.variables, one[None])[0], x)


class LatentStatistics(struct.PyTreeNode, kw_only=True):
    """What the latent spaces of a generator look like, estimated from samples; `lsap_jax.statistics` makes it.

    Attributes:
        w_mean, w_std: [w_dim] mean and standard deviation of w = mapping(z).
        p_mean: [w_dim] mean of p = LeakyReLU_5(w).
        p_values, p_vectors: [w_dim] variances of p along its principal axes, largest first, and the axes as columns
            [w_dim, w_dim].
        anchors: layer name -> [C], the mean μ of the unit styles of each layer of S^N (LSAP, arXiv 2209.12746).
        samples, anchor_samples: how many z they were estimated from.
    """

    w_mean: jax.Array
    w_std: jax.Array
    p_mean: jax.Array
    p_values: jax.Array
    p_vectors: jax.Array
    anchors: Mapping[str, jax.Array]
    samples: int = struct.field(pytree_node=False)
    anchor_samples: int = struct.field(pytree_node=False)

    @property
    def w_spread(self) -> jax.Array:
        """Root mean square distance of w from its mean, over all dimensions together (the projector's w_std)."""
        return jnp.sqrt(total(jnp.square(self.w_std), -1))


class Generator(struct.PyTreeNode, kw_only=True):
    """StyleGAN2 generator: `mapping`, `synthesis`, and what came with it.

    `source` is where it was loaded from; `statistics` is None until something needs it; `half_blocks` see `Synthesis`.
    """

    config: stylegan2.GeneratorConfig = struct.field(pytree_node=False)
    params: Params
    discriminator: Discriminator | None = None
    basecode: BasecodeEncoder | None = None
    encoder: LatentEncoder | None = None
    statistics: LatentStatistics | None = None
    provenance_json: str = struct.field(pytree_node=False, default="{}")
    source: str = struct.field(pytree_node=False, default="")
    half_blocks: int = struct.field(pytree_node=False, default=0)

    z_dim = property(lambda self: self.config.z_dim)
    c_dim = property(lambda self: self.config.c_dim)
    w_dim = property(lambda self: self.config.w_dim)
    num_ws = property(lambda self: self.config.num_ws)
    img_resolution = property(lambda self: self.config.img_resolution)
    img_channels = property(lambda self: self.config.img_channels)

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the weights come from: name, source format, source SHA-256, licence, notes, as far as known."""
        return dict(json.loads(self.provenance_json))

    @property
    def w_avg(self) -> jax.Array:
        """[w_dim] mean of w."""
        return self.params["mapping"]["w_avg"]

    def mapping(
        self,
        z: jax.Array,
        c: jax.Array | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
    ) -> jax.Array:
        """z [B, z_dim] (and labels c [B, c_dim]) to ws [B, num_ws, w_dim].

        Args:
            truncation_psi: ws become w_avg + psi · (w - w_avg).
            truncation_cutoff: only the first so many of the num_ws; None is all.
        """
        return self.truncate(self.repeat_w(self.map_w(z, c)), truncation_psi, truncation_cutoff)

    @partial(jax.jit, static_argnames="normalize")
    def map_w(self, z: jax.Array, c: jax.Array | None = None, *, normalize: bool = True) -> jax.Array:
        """z [B, z_dim] to w [B, w_dim]. `normalize=False` skips StyleGAN's own normalisation of z."""
        if self.c_dim and c is None:
            c = jnp.zeros((z.shape[0], self.c_dim))
        return stylegan2.Mapping(self.config).apply(variables(self.params["mapping"]), z, c, normalize=normalize)  # type: ignore[return-value]

    def repeat_w(self, w: jax.Array) -> jax.Array:
        """w [B, w_dim] for every layer: ws [B, num_ws, w_dim]."""
        return jnp.broadcast_to(w[:, None], (w.shape[0], self.num_ws, self.w_dim))

    def map_rows(self, z: jax.Array, c: jax.Array | None = None, *, normalize: bool = True) -> jax.Array:
        """Z+ codes [B, num_ws, z_dim] to ws [B, num_ws, w_dim]: every row through the mapping network."""
        b, rows, _ = z.shape
        if c is not None:
            c = jnp.repeat(c, rows, axis=0)
        return self.map_w(z.reshape(b * rows, -1), c, normalize=normalize).reshape(b, rows, self.w_dim)

    def truncate(self, ws: jax.Array, psi: float, cutoff: int | None = None) -> jax.Array:
        """w_avg + psi · (ws - w_avg) for the first `cutoff` rows of ws [B, num_ws, w_dim], for all where it is None."""
        if psi == 1 or cutoff == 0:
            return ws
        mean = self.w_avg[None, None]
        truncated = mean + psi * (ws - mean)
        if cutoff is None:
            return truncated
        rows = jnp.arange(ws.shape[1])[None, :, None] < cutoff
        return jnp.where(rows, truncated, ws)

    @partial(jax.jit, static_argnames="noise_mode")
    def synthesis(
        self,
        ws: jax.Array | None,
        noise_mode: stylegan2.NoiseMode = "const",
        rng: jax.Array | None = None,
        *,
        f: jax.Array | None = None,
        styles: Mapping[str, jax.Array] | None = None,
        noise: Mapping[str, jax.Array] | None = None,
    ) -> jax.Array:
        """ws [B, num_ws, w_dim] to images [B, R, R, img_channels], nominally in [-1, 1], unclipped.

        Args:
            noise_mode: "const" (the noise stored with the weights), "none", "random" (needs rng: one key, or a key
                per image).
            f: base code [B, r, r, C(r)] at which the synthesis starts; skip architecture only.
            styles: layer name -> [B, Cin], used instead of ws (StyleSpace); names as in `config.style_layers()`.
            noise: layer name -> [B | 1, r, r], used instead of the stored noise.

        Raises:
            ValueError: f fits no block or the architecture is not 'skip'; rng is missing.
        """
        return self.features(ws, noise_mode, rng, f=f, styles=styles, noise=noise)[0]

    @partial(jax.jit, static_argnames="noise_mode")
    def features(
        self,
        ws: jax.Array | None,
        noise_mode: stylegan2.NoiseMode = "const",
        rng: jax.Array | None = None,
        *,
        f: jax.Array | None = None,
        styles: Mapping[str, jax.Array] | None = None,
        noise: Mapping[str, jax.Array] | None = None,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """`synthesis`, and every intermediate by name: `b8.conv0`, `b8.conv1`, `b8.torgb`, `b8` (block output),
        `b8.img`, `b8.conv0.styles`.

        Under `jit` only what is used is computed.
        """
        if noise_mode not in ("const", "random", "none"):
            raise ValueError(f"noise_mode is 'const', 'random' or 'none', not {noise_mode!r}")
        return stylegan2.Synthesis(self.config).apply(  # type: ignore[return-value]
            variables(self.params["synthesis"]),
            ws,
            styles=styles,
            f=f,
            noise_mode=noise_mode,
            noise=noise,
            rng=rng,
            half_blocks=self.half_blocks,
        )

    @jax.jit
    def styles(self, ws: jax.Array) -> dict[str, jax.Array]:
        """StyleSpace of ws: layer name -> [B, Cin], as `synthesis(styles=...)` takes it."""
        found = {}
        for name, (index, width) in self.config.style_layers().items():
            block, layer = name.split(".")
            affine = self.params["synthesis"][block][layer]["affine"]
            found[name] = FullyConnected(width).apply(variables(affine), ws[:, index])
        return found  # type: ignore[return-value]

    @partial(jax.jit, static_argnames=("winograd", "half_blocks"))
    def freeze(self, winograd: int = 0, half_blocks: int = 0) -> "Generator":
        """The same generator for steps that change none of its weights, which are turned, scaled and transposed once.
        It is for the methods above; save and convert the original.

        Args:
            winograd: least number of channels on both sides of a 3x3 convolution for Winograd's form, worth it on CPUs;
                0 is never.
            half_blocks: so many blocks, from the highest resolution down, are computed in bfloat16.
        """
        z, ws = jnp.zeros((1, self.z_dim)), jnp.zeros((1, self.num_ws, self.w_dim))
        c = jnp.zeros((1, self.c_dim)) if self.c_dim else None
        mapping = freeze(stylegan2.Mapping(self.config), self.params["mapping"], z, c)
        synthesis = freeze(
            stylegan2.Synthesis(self.config),
            self.params["synthesis"],
            ws,
            winograd=winograd,
            half_blocks=half_blocks,
        )
        return self.replace(params={"mapping": mapping, "synthesis": synthesis}, half_blocks=half_blocks)

    def arrays(self) -> dict[str, np.ndarray]:
        """Every weight by its name in the file: `generator/mapping/fc0/weight`, ..."""
        trees: dict[str, Any] = {"generator": self.params}
        if self.discriminator is not None:
            trees["discriminator"] = self.discriminator.params
        if self.basecode is not None:
            trees["basecode"] = self.basecode.variables
        if self.encoder is not None:
            trees["encoder"] = self.encoder.variables
        return {"/".join(path): np.asarray(leaf) for path, leaf in flatten_dict(trees).items()}

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of all weights, as recorded in converted files and results."""
        return weights_file.digest(self.arrays())

    @cached_property
    def network_sha256(self) -> str:
        """SHA-256 of mapping and synthesis, whatever encoder or discriminator comes with them."""
        leaves = flatten_dict(dict(self.params))
        return weights_file.digest({"/".join(path): np.asarray(leaf) for path, leaf in leaves.items()})

    def save(self, path: str | Path) -> str:
        """Write one safetensors file (`weights_file`); returns its digest."""
        config = {"generator": asdict(self.config)}
        if self.discriminator is not None:
            config["discriminator"] = asdict(self.discriminator.config)
        if self.basecode is not None:
            config["basecode"] = asdict(self.basecode.config)
        if self.encoder is not None:
            config["encoder"] = asdict(self.encoder.config)
        provenance = {k: v for k, v in self.provenance.items() if k != "sha256"}
        return weights_file.write_weights(path, "generator", self.arrays(), config, provenance)


def radius(dim: int) -> float:
    """√dim, the radius of the hypersphere of Z (eq. 5 of arXiv 2307.08995)."""
    return float(np.sqrt(dim))


def generator_shapes(config: stylegan2.GeneratorConfig) -> dict[str, Any]:
    """Params tree of a generator as ShapeDtypeStructs."""
    return jax.eval_shape(lambda: stylegan2.initial_params(config, jax.random.key(0)))


def discriminator_shapes(config: discriminator.DiscriminatorConfig) -> dict[str, Any]:
    """Params tree of a discriminator as ShapeDtypeStructs."""
    return jax.eval_shape(lambda: discriminator.initial_params(config, jax.random.key(0)))
