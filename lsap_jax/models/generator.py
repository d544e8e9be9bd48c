"""The generator that a user holds: configuration, params and the parts that come with it.

`Generator` is frozen and a JAX pytree whose leaves are the params: pass it through `jit`, `grad`, `vmap` and `pmap`
like any array.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property, partial, reduce
from operator import getitem
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from flax.traverse_util import flatten_dict

from lsap_jax.errors import LsapError
from lsap_jax.models.classes import ByClass, no_class
from lsap_jax.models.encoder import Encoder
from lsap_jax.networks.families import GeneratorConfig, family
from lsap_jax.networks.frozen import freeze, variables
from lsap_jax.networks.image_by_image import on_batch
from lsap_jax.networks.layers import FullyConnected
from lsap_jax.networks.parameters import stored
from lsap_jax.networks.synthesis import NoiseMode
from lsap_jax.storage import weights_file

Params = Mapping[str, Any]
STATISTICS, CLASS_MEANS = "statistics", "class_means"
ESTIMATED = (STATISTICS, CLASS_MEANS)  # parts that are not networks and are not saved with the generator


class Generator(struct.PyTreeNode, kw_only=True):
    """StyleGAN generator: `mapping`, `synthesis`, and the parts that came with it.

    Attributes:
        parts: the parts by the names of their kinds: "discriminator", "basecode", "encoder", "psp",
            "latent_discriminator" (networks, saved in its file), "statistics" and "class_means" (estimated from its
            weights when something needs them).
        source: where it was loaded from.
        half_blocks: see `Synthesis`.
        labels: [K, c_dim], the labels of all images that a conditional generator is used for (`for_classes`).
        label: [B, c_dim] or [c_dim], those of the images under way (`given`).
    """

    config: GeneratorConfig = struct.field(pytree_node=False)
    params: Params
    parts: Mapping[str, Any] = struct.field(default_factory=dict)
    provenance_json: str = struct.field(pytree_node=False, default="{}")
    source: str = struct.field(pytree_node=False, default="")
    half_blocks: int = struct.field(pytree_node=False, default=0)
    labels: jax.Array | None = None
    label: jax.Array | None = None

    kind: ClassVar[str] = "generator"
    discriminator = property(lambda self: self.parts.get("discriminator"))
    basecode = property(lambda self: self.parts.get("basecode"))
    statistics = property(lambda self: self.parts.get(STATISTICS))

    z_dim = property(lambda self: self.config.z_dim)
    c_dim = property(lambda self: self.config.c_dim)
    w_dim = property(lambda self: self.config.w_dim)
    num_ws = property(lambda self: self.config.num_ws)
    img_resolution = property(lambda self: self.config.img_resolution)
    img_channels = property(lambda self: self.config.img_channels)

    @property
    def encoder(self) -> Encoder | None:
        """The encoder of images to ws: the latent encoder, else the first other encoder by the name of its kind."""
        others = (self.parts[kind] for kind in sorted(self.parts) if hasattr(self.parts[kind], "codes"))
        return self.parts.get("encoder") or next(others, None)

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the weights come from: name, source format, source SHA-256, licence, notes, as far as known."""
        return dict(json.loads(self.provenance_json))

    @property
    def w_avg(self) -> jax.Array:
        """[w_dim] mean of w."""
        return self.params["mapping"]["w_avg"]

    @property
    def mean_w(self) -> jax.Array:
        """[1 | B, w_dim], where codes start: the mean w of each image's class where a class is given and its mean is
        known (`spaces.statistics.with_class_means`), else `w_avg`, which training tracks over all classes.
        """
        return self.w_avg[None] if self.label is None else self.parts.get(CLASS_MEANS, self.w_avg[None])

    def for_classes(self, labels: np.ndarray) -> "Generator":
        """A copy for images of these labels [N, c_dim], which may repeat. What depends on a class is estimated for each
        of them; `mapping` takes the label by itself if there is only one.
        """
        distinct = np.unique(np.asarray(labels, np.float32), axis=0)
        if self.labels is not None and np.array_equal(distinct, self.labels):
            return self
        return self.without(*ESTIMATED).replace(labels=distinct)

    def given(self, c: jax.Array | np.ndarray | None) -> "Generator":
        """A copy for a batch of images with labels c [B, c_dim], of `labels`: `mapping` takes these by itself, and
        statistics and means are those of each image. None is this generator.
        """
        if c is None:
            return self
        own = {
            kind: part.of(jnp.asarray(c)) if isinstance(part, ByClass) else part for kind, part in self.parts.items()
        }
        return self.replace(label=c, parts=own)

    def mapping(
        self,
        z: jax.Array,
        c: jax.Array | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
    ) -> jax.Array:
        """z [B, z_dim] (and labels c [B, c_dim]) to ws [B, num_ws, w_dim].

        Args:
            c: needed by conditional generators, unless they are used `for_classes` of one label.
            truncation_psi: ws become w_avg + psi · (w - w_avg), the same w_avg for all classes, as in the original.
            truncation_cutoff: number of rows of ws to truncate, from the first one; None is all.

        Raises:
            LsapError: the generator is conditional and c is missing, or c has another width than c_dim.
        """
        return self.truncate(self.map_ws(z, c), truncation_psi, truncation_cutoff)

    def map_ws(self, z: jax.Array, c: jax.Array | None = None, *, normalize: bool = True) -> jax.Array:
        """z [B, z_dim] to ws [B, num_ws, w_dim]. `normalize=False` skips StyleGAN's own normalisation of z."""
        if self.config.repeat_w:
            return self.repeat_w(self.map_w(z, c, normalize=normalize))
        return self.map_rows(jnp.repeat(z[:, None], self.num_ws, axis=1), c, normalize=normalize)

    def map_w(self, z: jax.Array, c: jax.Array | None = None, *, normalize: bool = True) -> jax.Array:
        """z [B, z_dim] to w [B, w_dim]; LsapError where the mapping makes each row by itself (IDInvert's models)."""
        if not self.config.repeat_w:
            raise LsapError("the mapping of this generator makes a w for each row, there is none that all rows share")
        return self.map_rows(z[:, None], c, normalize=normalize)[:, 0]

    def repeat_w(self, w: jax.Array) -> jax.Array:
        """w [B, w_dim] for every layer: ws [B, num_ws, w_dim]."""
        return jnp.broadcast_to(w[:, None], (w.shape[0], self.num_ws, self.w_dim))

    def map_rows(self, z: jax.Array, c: jax.Array | None = None, *, normalize: bool = True) -> jax.Array:
        """Z+ codes [B, num_ws, z_dim] to ws [B, num_ws, w_dim]: every row through the mapping network."""
        if c is None:
            one = self.labels[0] if self.labels is not None and len(self.labels) == 1 else None
            c = self.label if self.label is not None else one
        if self.c_dim and c is None:
            raise no_class(self.c_dim, "mapping")
        if c is not None and jnp.shape(c)[-1:] != (self.c_dim,):
            raise LsapError(
                f"c of shape {list(jnp.shape(c))}: this generator takes labels [{z.shape[0]}, {self.c_dim}]"
            )
        c = jnp.broadcast_to(c, (z.shape[0], self.c_dim)) if self.c_dim else None  # type: ignore[arg-type]
        return on_batch(_map_rows, self, {"z": z, "c": c}, normalize=normalize)  # type: ignore[no-any-return]

    def truncate(self, ws: jax.Array, psi: float, cutoff: int | None = None) -> jax.Array:
        """w_avg + psi · (ws - w_avg) for the first `cutoff` rows of ws [B, num_ws, w_dim]; None is all."""
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
        noise_mode: NoiseMode = "const",
        rng: jax.Array | None = None,
        *,
        f: jax.Array | None = None,
        styles: Mapping[str, jax.Array] | None = None,
        noise: Mapping[str, jax.Array] | None = None,
        transforms: Mapping[str, Any] | None = None,
    ) -> jax.Array:
        """ws [B, num_ws, w_dim] to images [B, R, R, img_channels], nominally in [-1, 1], unclipped.

        Args:
            noise_mode: "const" (the noise stored with the weights), "none", "random" (needs rng: one key, or a key
                per image).
            f: base code [B, r, r, C(r)] at which the synthesis starts, where `config.entries` has a layer for it.
            styles: layer name -> [B, width], used instead of ws (StyleSpace); names as in `config.layers`.
            noise: layer name -> [B | 1, r, r], used instead of the stored noise.
            transforms: layer name -> function of its features (`lsap_jax.rendering.transforms`).

        Raises:
            ValueError: f fits no block or the architecture takes none; rng is missing.
        """
        inputs = self._inputs(ws, noise_mode, rng, f, styles, noise, transforms)
        return on_batch(_image, self, inputs, noise_mode=noise_mode)  # type: ignore[no-any-return]

    def features(
        self,
        ws: jax.Array | None,
        noise_mode: NoiseMode = "const",
        rng: jax.Array | None = None,
        *,
        f: jax.Array | None = None,
        styles: Mapping[str, jax.Array] | None = None,
        noise: Mapping[str, jax.Array] | None = None,
        transforms: Mapping[str, Any] | None = None,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """`synthesis`, and every intermediate by name: `b8.conv0`, `b8.conv1`, `b8.torgb`, `b8` (block output),
        `b8.img`, `b8.conv0.styles`.

        Under `jit` only what is used is computed.
        """
        inputs = self._inputs(ws, noise_mode, rng, f, styles, noise, transforms)
        return on_batch(_features, self, inputs, noise_mode=noise_mode)  # type: ignore[no-any-return]

    def _inputs(
        self,
        ws: jax.Array | None,
        noise_mode: str,
        rng: jax.Array | None,
        f: jax.Array | None,
        styles: Mapping[str, jax.Array] | None,
        noise: Mapping[str, jax.Array] | None,
        transforms: Mapping[str, Any] | None,
    ) -> dict[str, Any]:
        """Inputs of the synthesis, each with an entry per image: a single key is folded with the index of the image, so
        that the noise of an image does not depend on the size of the batch.
        """
        if noise_mode not in ("const", "random", "none"):
            raise ValueError(f"noise_mode is 'const', 'random' or 'none', not {noise_mode!r}")
        batch = len(ws) if ws is not None else len(next(iter((styles or {}).values())))
        if rng is not None and rng.ndim == 0:
            rng = jax.vmap(jax.random.fold_in, (None, 0))(rng, jnp.arange(batch))
        if noise is not None:
            noise = {name: jnp.broadcast_to(m, (batch, *m.shape[1:])) for name, m in noise.items()}
        return {"ws": ws, "rng": rng, "f": f, "styles": styles, "noise": noise, "transforms": dict(transforms or {})}

    def styles(self, ws: jax.Array) -> dict[str, jax.Array]:
        """StyleSpace of ws: layer name -> [B, width], as `synthesis(styles=...)` takes it."""
        return on_batch(_styles, self, {"ws": ws})  # type: ignore[no-any-return]

    @partial(jax.jit, static_argnames=("winograd", "half_blocks", "changed"))
    def freeze(self, winograd: int = 0, half_blocks: int = 0, changed: tuple[str, ...] = ()) -> "Generator":
        """A copy for steps that do not change its weights: they are flipped, scaled and transposed once. Use the copy
        with the methods above only; save and convert the original.

        Args:
            winograd: smallest number of input and output channels at which a 3x3 convolution takes Winograd's form,
                which pays on CPUs; 0 is never.
            half_blocks: number of blocks, from the highest resolution down, that are computed in bfloat16.
            changed: parameters of the synthesis ("synthesis.b8.conv0.weight") that stay as they are: those that the
                steps render with changes of (`lsap_jax.rendering.refinement.Refinement`).
        """
        z, ws = jnp.zeros((1, self.z_dim)), jnp.zeros((1, self.num_ws, self.w_dim))
        c = jnp.zeros((1, self.c_dim)) if self.c_dim else None
        networks = family(self.config)
        mapping = freeze(networks.Mapping(self.config), self.params["mapping"], z, c)
        synthesis = freeze(
            networks.Synthesis(self.config),
            self.params["synthesis"],
            ws,
            winograd=winograd,
            changed=[name.removeprefix("synthesis.") for name in changed],
            half_blocks=half_blocks,
        )
        return self.replace(params={"mapping": mapping, "synthesis": synthesis}, half_blocks=half_blocks)

    def with_part(self, kind: str, model: Any) -> "Generator":
        """A copy with this part as its part of that kind; `network_file.attach` also checks that the part fits."""
        return self.replace(parts={**self.parts, kind: model})

    def without(self, *kinds: str) -> "Generator":
        """A copy without the parts of these kinds."""
        return self.replace(parts={kind: part for kind, part in self.parts.items() if kind not in kinds})

    def bare(self, *kinds: str) -> "Generator":
        """A copy with only the parts of these kinds and without provenance, as an argument of computations."""
        parts = {kind: part for kind, part in self.parts.items() if kind in kinds}
        return self.replace(parts=parts, provenance_json="{}", source="")

    @property
    def networks(self) -> dict[str, Any]:
        """The generator and every network that comes with it, by the names of their kinds; `save` writes them."""
        return {self.kind: self, **{kind: part for kind, part in self.parts.items() if kind not in ESTIMATED}}

    def arrays(self) -> dict[str, np.ndarray]:
        """Every weight by its name in the file: `generator/mapping/fc0/weight`, ..."""
        trees = {kind: p.params if kind == self.kind else stored(p.params) for kind, p in self.networks.items()}
        return {"/".join(path): np.asarray(leaf) for path, leaf in flatten_dict(trees).items()}

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of all weights, as recorded in converted files and results."""
        return weights_file.digest(self.arrays())

    @cached_property
    def network_sha256(self) -> str:
        """SHA-256 of mapping and synthesis alone, without the parts that come with them."""
        leaves = flatten_dict(dict(self.params))
        return weights_file.digest({"/".join(path): np.asarray(leaf) for path, leaf in leaves.items()})

    def save(self, path: str | Path) -> str:
        """Write one safetensors file (`weights_file`); returns its digest."""
        config = {kind: asdict(network.config) for kind, network in self.networks.items()}
        return weights_file.write_weights(path, "generator", self.arrays(), config, self.provenance)


def _map_rows(G: Generator, batch: Mapping[str, Any], *, normalize: bool) -> jax.Array:
    z, c = batch["z"], batch["c"]
    b, rows, _ = z.shape
    if c is not None:
        c = jnp.repeat(c, rows, axis=0)
    network, params = family(G.config).Mapping(G.config), variables(G.params["mapping"])
    made = network.apply(params, z.reshape(b * rows, -1), c, normalize=normalize)
    if G.config.repeat_w:
        return made.reshape(b, rows, -1)  # type: ignore[union-attr]
    own = jnp.arange(rows)  # of all rows that a z makes, its own
    return made.reshape(b, rows, rows, -1)[:, own, own]  # type: ignore[union-attr]


def _features(G: Generator, batch: Mapping[str, Any], *, noise_mode: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
    network, params = family(G.config).Synthesis(G.config), variables(G.params["synthesis"])
    seen = {"G": G, "ws": batch["ws"], "styles": batch["styles"]}
    transforms = {layer: partial(transform, **seen) for layer, transform in batch["transforms"].items()}
    start = next((layer for layer, transform in batch["transforms"].items() if transform.starts), None)
    inputs = {**batch, "transforms": transforms, "start": start}
    return network.apply(params, noise_mode=noise_mode, half_blocks=G.half_blocks, **inputs)  # type: ignore[return-value]


def _image(G: Generator, batch: Mapping[str, Any], *, noise_mode: Any) -> jax.Array:
    return _features(G, batch, noise_mode=noise_mode)[0]


def _styles(G: Generator, batch: Mapping[str, Any]) -> dict[str, jax.Array]:
    found = {}
    for layer in G.config.layers:
        affine = reduce(getitem, layer.affine, G.params["synthesis"])
        found[layer.name] = FullyConnected(layer.width).apply(variables(affine), batch["ws"][:, layer.row])
    return found  # type: ignore[return-value]


def radius(dim: int) -> float:
    """√dim, the radius of the hypersphere of Z (eq. 5 of arXiv 2307.08995)."""
    return float(np.sqrt(dim))
