"""The terms that encoders of the family of pSp are trained with, as one table.

A new term is a function of a `Context` to one value per image and a row of `TERMS`, with its weight under `loss` in the
configurations.

References: Richardson et al. (pSp, arXiv 2008.00951); Tov et al. (e4e, 2102.02766); Alaluf et al. (ReStyle,
2104.02699); Cao et al. (LSAP, 2209.12746). The sums and signs are those of the authors' code.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from lsap_jax.losses import prior
from lsap_jax.losses.alignment import nscd
from lsap_jax.losses.judges import Networks
from lsap_jax.losses.pixel import mse
from lsap_jax.models.generator import Generator
from lsap_jax.training.latent_discriminator import logits


@dataclass(frozen=True, kw_only=True)
class Options:
    """What LSAP's paper leaves open.

    Attributes:
        reduce: "sum" over the active layers, as in the code, or "mean".
        renormalise: bring the anchors to unit length.
        offset: 0 is the code's negative similarity -⟨ŝ, μ⟩, 1 the distance NSCD; the gradient is the same.
    """

    reduce: str = "sum"
    renormalise: bool = False
    offset: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a term may look at.

    Attributes:
        image: of the codes [B, r, r, C], unclipped.
        target: images [B, r, r, C] in [-1, 1].
        seen: name of a judge -> its features of the targets.
        ws: the codes [B, num_ws, w_dim] with the mean latent.
        active: [num_ws], which rows have an offset of their own in this stage of a progressive training.
        networks: generator, with its statistics where a term needs them, and judges.
        critic: params of the latent discriminator, or None.
    """

    image: jax.Array
    target: jax.Array
    seen: Mapping[str, Any]
    ws: jax.Array
    active: jax.Array
    networks: Networks
    critic: Any
    options: Options

    @property
    def G(self) -> Generator:
        return self.networks.generator

    def mean(self, rows: jax.Array) -> jax.Array:
        """Mean [B] of values of rows [B, num_ws] over the active ones."""
        return self.sum(rows) / self.active.sum()

    def sum(self, rows: jax.Array) -> jax.Array:
        """Sum [B] of values of rows [B, num_ws] over the active ones."""
        return jnp.sum(rows * self.active[None, : rows.shape[1]], 1)


def _judged(name: str) -> Callable[[Context], jax.Array]:
    def value(c: Context) -> jax.Array:
        judge = c.networks.judges[name]
        return judge.distance(judge.features(c.image), c.seen[name])

    return value


def _delta(c: Context) -> jax.Array:
    """Σ |w_l - w_0| over the active rows."""
    return prior.delta(jnp.where(c.active[None, :, None], c.ws, c.ws[:, :1]))


def _nscd(c: Context) -> jax.Array:
    """LSAP's alignment with the anchors, of the layers that read an active row."""
    assert c.G.statistics is not None, "checked beforehand"
    o = c.options
    distances = nscd(c.G.config, c.G.styles(c.ws), c.G.statistics.anchors, renormalise=o.renormalise)
    return (c.sum if o.reduce == "sum" else c.mean)(distances - 1 + o.offset)


def _adversarial(c: Context) -> jax.Array:
    """Non-saturating loss of the latent discriminator, mean over the active rows."""
    return c.mean(jax.nn.softplus(-logits(c.critic, c.ws)))


JUDGED = ("perceptual", "identity", "moco")
TERMS: dict[str, Callable[[Context], jax.Array]] = {
    "mse": lambda c: mse(c.image, c.target),
    **{name: _judged(name) for name in JUDGED},
    "delta": _delta,
    "w_norm": lambda c: prior.w_norm(c.ws, c.G.w_avg),
    "nscd": _nscd,
    "adversarial": _adversarial,
}


def total(weights: Mapping[str, float], c: Context) -> tuple[jax.Array, dict[str, jax.Array]]:
    """(weighted sum of the terms, {"loss": the same, term: its mean over the batch}); those of weight 0 are left out,
    and those of judges that are not there.
    """
    used = {name: w for name, w in weights.items() if w and (name not in JUDGED or name in c.networks.judges)}
    means = {name: TERMS[name](c).mean() for name in used}
    loss = sum((w * means[name] for name, w in used.items()), start=jnp.zeros(()))
    return loss, {"loss": loss, **means}
