"""GANSpace: principal components of w, and the directions of Z that belong to them (Härkönen et al., NeurIPS 2020;
F/Z+, arXiv 2307.08995, eq. 6).

Samples are drawn in chunks from the seed, so neither pass keeps them; sums are float64.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from lsap_jax.editing.direction import Direction
from lsap_jax.errors import LsapError
from lsap_jax.models.generator import Generator
from lsap_jax.spaces.statistics import Report, class_suffix, principal_axes

SAMPLES = 1_000_000
REGRESSION_SAMPLES = 100_000
CHUNK = 10_000
REGRESSIONS = ("closed", "joint")


class Components(NamedTuple):
    """Mean [w_dim], unit axes as columns [w_dim, K] and standard deviations [K] of w, largest first, and the variance
    along all axes together.
    """

    mean: np.ndarray
    axes: np.ndarray
    deviations: np.ndarray
    total: float

    def measures(self, k: int) -> dict[str, float]:
        """Share of component k in the variance of w."""
        return {"variance": float(np.square(self.deviations[k]) / self.total)}


def ganspace_w(
    G: Generator, components: int = 80, samples: int = SAMPLES, seed: int = 0, report: Report | None = None
) -> tuple[Direction, ...]:
    """Principal components of w as directions of W; a step of strength 1 is one standard deviation.

    Args:
        samples: w of z ~ N(0, I), without truncation; of a conditional generator those of its one class.
        report: called with (samples done, samples in all). Seconds for a million of the bundled
            generator, about a minute on two cores for a mapping network of 8 layers of 512.

    Raises:
        LsapError: more components than w has dimensions, or no fewer than samples.
    """
    found = principal_components(G, components, samples, seed, report)
    generator = G.network_sha256
    return tuple(
        Direction(
            name=f"ganspace-{k}",
            space="w",
            vector=found.axes[:, k].astype(np.float32),
            scale=float(found.deviations[k]),
            mean=found.mean.astype(np.float32),
            source=f"GANSpace, component {k} of {samples} w, seed {seed}{class_suffix(G, ', class ')}",
            generator=generator,
            measures=found.measures(k),
        )
        for k in range(components)
    )


def ganspace_z(
    G: Generator,
    components: int = 80,
    samples: int = SAMPLES,
    regression_samples: int = REGRESSION_SAMPLES,
    seed: int = 0,
    regression: str = "closed",
    report: Report | None = None,
) -> tuple[Direction, ...]:
    """The unit direction of Z for every principal component of w.

    With x_j = Vᵀ (w_j - μ) and the z_j that they come from:

        "closed" (eq. 6)   n_k = argmin Σ_j |n x_j^k - z_j|² = Σ_j x_j^k z_j / Σ_j (x_j^k)²
        "joint"            n_1 ... n_K = argmin Σ_j |Σ_k n_k x_j^k - z_j|²   (GANSpace's code, without intercept)

    Args:
        samples: for the components.
        regression_samples: others, for the regression; coordinates are uncorrelated up to their sampling noise, and
            so the two answers differ by no more.
        report: as in `ganspace_w`, of the samples for the components.

    Raises:
        LsapError: too few samples, too many components, or another regression.
    """
    if regression not in REGRESSIONS:
        raise LsapError(f"regression {regression!r}: choose {' or '.join(REGRESSIONS)}")
    if regression_samples < components:
        raise LsapError(f"{regression_samples} regression samples for {components} components: give at least as many")
    found = principal_components(G, components, samples, seed, report)
    generator = G.network_sha256
    squares, products = _regression_sums(G, found, regression_samples, seed)
    vectors = closed_form(squares, products) if regression == "closed" else joint_least_squares(squares, products)
    return tuple(
        Direction(
            name=f"ganspace-{k}",
            space="z",
            vector=(vectors[k] / np.linalg.norm(vectors[k])).astype(np.float32),
            source=f"GANSpace, component {k} of {samples} w, {regression} regression on {regression_samples} z, "
            f"seed {seed}{class_suffix(G, ', class ')}",
            generator=generator,
            measures=found.measures(k),
        )
        for k in range(components)
    )


def principal_components(
    G: Generator, components: int, samples: int, seed: int, report: Report | None = None
) -> Components:
    """Of w; the covariance has ddof 1, and the largest number of an axis is positive."""
    if not 1 <= components <= G.w_dim:
        raise LsapError(f"{components} components: a generator of w_dim {G.w_dim} has 1 to {G.w_dim}")
    if samples < 2:
        raise LsapError(f"{samples} samples have no components; give at least 2")
    if components >= samples:
        raise LsapError(f"{components} components of {samples} samples: they have {samples - 1}; draw more samples")
    origin = next(_chunks(G, samples, seed, 0))[1].mean(axis=0)  # sums about a point near the mean keep their digits
    sums, products, done = np.zeros(G.w_dim), np.zeros((G.w_dim, G.w_dim)), 0
    for _, w in _chunks(G, samples, seed, 0):
        away = w - origin
        sums, products, done = sums + away.sum(axis=0), products + away.T @ away, done + len(w)
        if report is not None:
            report(done, samples)
    values, axes = principal_axes((products - np.outer(sums, sums) / samples) / (samples - 1))
    deviations = np.sqrt(values[:components])
    return Components(origin + sums / samples, axes[:, :components], deviations, float(values.sum()))


def closed_form(squares: np.ndarray, products: np.ndarray) -> np.ndarray:
    """Eq. 6: [K, z_dim] of Σ x xᵀ [K, K] and Σ x zᵀ [K, z_dim]; every component by itself."""
    return products / np.diag(squares)[:, None]


def joint_least_squares(squares: np.ndarray, products: np.ndarray) -> np.ndarray:
    """[K, z_dim], all components together, from the same sums."""
    size = np.sqrt(np.diag(squares))[:, None]  # deviations span many orders of magnitude
    return np.linalg.solve(squares / size / size.T, products / size) / size


def _regression_sums(G: Generator, found: Components, samples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    count = found.axes.shape[1]
    squares, products = np.zeros((count, count)), np.zeros((count, G.z_dim))
    for z, w in _chunks(G, samples, seed, 1):
        x = (w - found.mean) @ found.axes
        squares, products = squares + x.T @ x, products + x.T @ z
    return squares, products


def _chunks(G: Generator, samples: int, seed: int, stream: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(z, w) in float64, `samples` in all; streams of a seed are independent."""
    rng = jax.random.fold_in(jax.random.key(seed), stream)
    for start in range(0, samples, CHUNK):
        z, w = _sample(G, jax.random.fold_in(rng, start // CHUNK))
        yield np.asarray(z, np.float64)[: samples - start], np.asarray(w, np.float64)[: samples - start]


@jax.jit
def _sample(G: Generator, rng: jax.Array) -> tuple[jax.Array, jax.Array]:
    z = jax.random.normal(rng, (CHUNK, G.z_dim))
    return z, G.map_w(z)
