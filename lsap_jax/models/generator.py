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

from lsap_jax.networks import basecode, discriminator, latent_encoder, stylegan2
from lsap_jax.networks.frozen import freeze, variables
from lsap_jax.networks.image_by_image import on_batch
from lsap_jax.networks.layers import FullyConnected
from lsap_jax.storage import weights_file

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

    def features(self, img: jax.Array) -> list[jax.Array]:
        """Block outputs before the minibatch-stddev layer, [B, R/2, R/2, .], [B, R/4, R/4, .], ...: independent of
        batch mates.
        """
        return on_batch(_critic_features, self, {"img": img})  # type: ignore[no-any-return]

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

    def __call__(self, x: jax.Array) -> jax.Array:
        """Images [B, 8s, 8s, C] in [-1, 1] to base codes [B, s, s, channels]."""
        return on_batch(_base_code, self, {"x": x})  # type: ignore[no-any-return]


class LatentEncoder(struct.PyTreeNode, kw_only=True):
    """Latent encoder of IDInvert: image to ws."""

    config: latent_encoder.LatentEncoderConfig = struct.field(pytree_node=False)
    variables: Params

    def __call__(self, x: jax.Array) -> jax.Array:
        """Images [B, r, r, C] in [-1, 1], r = `config.input_resolution`, to ws [B, num_ws, w_dim]."""
        return on_batch(_latent_code, self, {"x": x})  # type: ignore[no-any-return]


class LatentStatistics(struct.PyTreeNode, kw_only=True):
    """What the latent spaces of a generator look like, estimated from samples; `lsap_jax.spaces.statistics` makes it.

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
        return jnp.sqrt(jnp.sum(jnp.square(self.w_std), -1))


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

    def map_w(self, z: jax.Array, c: jax.Array | None = None, *, normalize: bool = True) -> jax.Array:
        """z [B, z_dim] to w [B, w_dim]. `normalize=False` skips StyleGAN's own normalisation of z."""
        return self.map_rows(z[:, None], c, normalize=normalize)[:, 0]

    def repeat_w(self, w: jax.Array) -> jax.Array:
        """w [B, w_dim] for every layer: ws [B, num_ws, w_dim]."""
        return jnp.broadcast_to(w[:, None], (w.shape[0], self.num_ws, self.w_dim))

    def map_rows(self, z: jax.Array, c: jax.Array | None = None, *, normalize: bool = True) -> jax.Array:
        """Z+ codes [B, num_ws, z_dim] to ws [B, num_ws, w_dim]: every row through the mapping network."""
        if self.c_dim and c is None:
            c = jnp.zeros((z.shape[0], self.c_dim))
        return on_batch(_map_rows, self, {"z": z, "c": c}, normalize=normalize)  # type: ignore[no-any-return]

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
        inputs = self._inputs(ws, noise_mode, rng, f, styles, noise)
        return on_batch(_image, self, inputs, noise_mode=noise_mode)  # type: ignore[no-any-return]

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
        inputs = self._inputs(ws, noise_mode, rng, f, styles, noise)
        return on_batch(_features, self, inputs, noise_mode=noise_mode)  # type: ignore[no-any-return]

    def _inputs(
        self,
        ws: jax.Array | None,
        noise_mode: str,
        rng: jax.Array | None,
        f: jax.Array | None,
        styles: Mapping[str, jax.Array] | None,
        noise: Mapping[str, jax.Array] | None,
    ) -> dict[str, Any]:
        """Inputs of the synthesis, each with an entry per image: a single key is folded by the image's place, so that
        no image's noise depends on how many there are.
        """
        if noise_mode not in ("const", "random", "none"):
            raise ValueError(f"noise_mode is 'const', 'random' or 'none', not {noise_mode!r}")
        batch = len(ws) if ws is not None else len(next(iter((styles or {}).values())))
        if rng is not None and rng.ndim == 0:
            rng = jax.vmap(jax.random.fold_in, (None, 0))(rng, jnp.arange(batch))
        if noise is not None:
            noise = {name: jnp.broadcast_to(m, (batch, *m.shape[1:])) for name, m in noise.items()}
        return {"ws": ws, "rng": rng, "f": f, "styles": styles, "noise": noise}

    def styles(self, ws: jax.Array) -> dict[str, jax.Array]:
        """StyleSpace of ws: layer name -> [B, Cin], as `synthesis(styles=...)` takes it."""
        return on_batch(_styles, self, {"ws": ws})  # type: ignore[no-any-return]

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


def _map_rows(G: Generator, batch: Mapping[str, Any], *, normalize: bool) -> jax.Array:
    z, c = batch["z"], batch["c"]
    b, rows, _ = z.shape
    if c is not None:
        c = jnp.repeat(c, rows, axis=0)
    network, params = stylegan2.Mapping(G.config), variables(G.params["mapping"])
    return network.apply(params, z.reshape(b * rows, -1), c, normalize=normalize).reshape(b, rows, -1)  # type: ignore[union-attr]


def _features(G: Generator, batch: Mapping[str, Any], *, noise_mode: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
    network, params = stylegan2.Synthesis(G.config), variables(G.params["synthesis"])
    return network.apply(params, noise_mode=noise_mode, half_blocks=G.half_blocks, **batch)  # type: ignore[return-value]


def _image(G: Generator, batch: Mapping[str, Any], *, noise_mode: Any) -> jax.Array:
    return _features(G, batch, noise_mode=noise_mode)[0]


def _styles(G: Generator, batch: Mapping[str, Any]) -> dict[str, jax.Array]:
    found = {}
    for name, (index, width) in G.config.style_layers().items():
        block, layer = name.split(".")
        affine = G.params["synthesis"][block][layer]["affine"]
        found[name] = FullyConnected(width).apply(variables(affine), batch["ws"][:, index])
    return found  # type: ignore[return-value]


def _critic_features(D: Discriminator, batch: Mapping[str, Any]) -> list[jax.Array]:
    network = discriminator.DiscriminatorNetwork(D.config)
    return network.apply(variables(D.params), batch["img"], logits=False)[1]  # type: ignore[return-value]


def _base_code(E: BasecodeEncoder, batch: Mapping[str, Any]) -> jax.Array:
    return basecode.BasecodeNetwork(E.config).apply(E.variables, batch["x"])  # type: ignore[return-value]


def _latent_code(E: LatentEncoder, batch: Mapping[str, Any]) -> jax.Array:
    return latent_encoder.LatentEncoderNetwork(E.config).apply(E.variables, batch["x"])  # type: ignore[return-value]


def radius(dim: int) -> float:
    """√dim, the radius of the hypersphere of Z (eq. 5 of arXiv 2307.08995)."""
    return float(np.sqrt(dim))


def generator_shapes(config: stylegan2.GeneratorConfig) -> dict[str, Any]:
    """Params tree of a generator as ShapeDtypeStructs."""
    return jax.eval_shape(lambda: stylegan2.initial_params(config, jax.random.key(0)))


def discriminator_shapes(config: discriminator.DiscriminatorConfig) -> dict[str, Any]:
    """Params tree of a discriminator as ShapeDtypeStructs."""
    return jax.eval_shape(lambda: discriminator.initial_params(config, jax.random.key(0)))
