"""Latent statistics of a generator: computed once from samples, cached beside its weights, read from BDInvert's files.

Sums are in float64 about a point near the mean, so that only the error of sampling remains. The cache is a file
`DIGEST.statistics` (the first 16 digits of the SHA-256 of mapping and synthesis) in the folder of the weights, or in
the user's cache folder (XDG_CACHE_HOME, ~/.cache) where that folder cannot be written. Those of a conditional generator
belong to a class: a file `DIGEST-classK.statistics` for each.
"""

from collections.abc import Callable
from functools import lru_cache
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convert_weights.opening import read_file
from lsap_jax.cache import user_folder
from lsap_jax.errors import LsapError
from lsap_jax.losses.alignment import sn_layers, unit_styles
from lsap_jax.models.classes import ByClass, by_class, no_class, plain
from lsap_jax.models.generator import CLASS_MEANS, Generator
from lsap_jax.models.latent_statistics import LatentStatistics
from lsap_jax.spaces.gaussian import SLOPE
from lsap_jax.storage.weights_file import Unwritable, digest, read_weights, write_weights

SAMPLES = 1_000_000
ANCHOR_SAMPLES = 100_000
CHUNK = 10_000
SEED = 0
KIND = "statistics"
PNORM_FILES = {"p_mean": "mean_latent.npy", "p_values": "eigen_values.npy", "p_vectors": "eigen_vectors.npy"}
MOST_BYTES = 2**28  # of a file of BDInvert's, whose axes have 2^20 at w_dim 512
ARRAYS = ("w_mean", "w_std", "p_mean", "p_values", "p_vectors")

Report = Callable[[int, int], None]  # samples done, samples in all


def compute_statistics(
    G: Generator,
    samples: int = SAMPLES,
    anchor_samples: int = ANCHOR_SAMPLES,
    seed: int = SEED,
    report: Report | None = None,
) -> LatentStatistics:
    """Statistics of `samples` z ~ N(0, I), and S^N anchors of the first `anchor_samples` of them; psi 1. Those of a
    conditional generator are of one class, which it is used for (`Generator.for_classes`). Where the mapping makes each
    row by itself, those of w are of the rows together.

    References: BDInvert's P_N statistics (1,000,000 samples, covariance with ddof 1); LSAP's anchors (arXiv 2209.12746:
    100,000 samples in W, not normalised again).

    Raises:
        LsapError: fewer than two samples, or more anchor samples than samples.
    """
    if samples < 2 or not 0 < anchor_samples <= samples:
        raise LsapError(f"statistics: {samples} samples, {anchor_samples} of them for anchors; give at least 2 and 1")
    rng = jax.random.key(seed)
    first = _rows(_sample_w(G, rng, 0))
    w_origin, p_origin = first.mean(axis=0), _p(first).mean(axis=0)
    w_sum, w_square, p_sum = (np.zeros(G.w_dim) for _ in range(3))
    p_products = np.zeros((G.w_dim, G.w_dim))
    anchors = {name: np.zeros(G.config.layer[name].width) for name in sn_layers(G.config)}
    for start in range(0, samples, CHUNK):
        w32 = _sample_w(G, rng, start // CHUNK)[: samples - start]
        w = _rows(w32)
        p = _p(w) - p_origin
        w = w - w_origin
        w_sum, w_square = w_sum + w.sum(axis=0), w_square + np.square(w).sum(axis=0)
        p_sum, p_products = p_sum + p.sum(axis=0), p_products + p.T @ p
        if start < anchor_samples:
            for name, sums in _unit_style_sums(G, w32[: anchor_samples - start]).items():
                anchors[name] += np.asarray(sums, np.float64)
        if report is not None:
            report(min(start + CHUNK, samples), samples)
    count = samples * first.shape[0] // CHUNK
    w_mean, p_mean = w_sum / count, p_sum / count
    variance = (w_square - count * np.square(w_mean)) / (count - 1)
    values, vectors = principal_axes((p_products - count * np.outer(p_mean, p_mean)) / (count - 1))
    arrays = {
        "w_mean": w_origin + w_mean,
        "w_std": np.sqrt(np.maximum(variance, 0)),
        "p_mean": p_origin + p_mean,
        "p_values": values,
        "p_vectors": vectors,
        **{f"anchors/{name}": sums / anchor_samples for name, sums in anchors.items()},
    }
    return _from_arrays(arrays, samples, anchor_samples)


def principal_axes(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(variances [d], largest first, axes [d, d] as columns) of a symmetric matrix.

    An axis has two directions: its largest component is positive, so that codes in P_N mean the same on every machine.
    """
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1], vectors[:, ::-1]
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
    smallest = values[0] * np.finfo(np.float32).eps ** 2  # a variance of 0 has no root to divide by
    return np.maximum(values, smallest), vectors * np.sign(largest)


def _p(w: np.ndarray) -> np.ndarray:
    return np.where(w >= 0, w, w / SLOPE)


@jax.jit
def _sample_w(G: Generator, rng: jax.Array, index: int) -> jax.Array:
    """w [CHUNK, w_dim], or ws [CHUNK, num_ws, w_dim] where the mapping makes each row by itself."""
    z = jax.random.normal(jax.random.fold_in(rng, index), (CHUNK, G.z_dim))
    return G.map_w(z) if G.config.repeat_w else G.map_ws(z)


def _rows(w: jax.Array) -> np.ndarray:
    """[rows, w_dim] in float64."""
    return np.asarray(w, np.float64).reshape(-1, w.shape[-1])


@jax.jit
def _unit_style_sums(G: Generator, w: jax.Array) -> dict[str, jax.Array]:
    unit = unit_styles(G.config, G.styles(G.repeat_w(w) if G.config.repeat_w else w))
    return {name: value.sum(axis=0) for name, value in unit.items()}


def _from_arrays(arrays: dict[str, np.ndarray], samples: int, anchor_samples: int) -> LatentStatistics:
    found = {name: jnp.asarray(a, jnp.float32) for name, a in arrays.items()}
    anchors = {name.split("/", 1)[1]: a for name, a in found.items() if name.startswith("anchors/")}
    return LatentStatistics(
        **{name: found[name] for name in ARRAYS}, anchors=anchors, samples=samples, anchor_samples=anchor_samples
    )


def to_arrays(statistics: LatentStatistics) -> dict[str, np.ndarray]:
    """Statistics as arrays by name, as the cache holds them."""
    anchors = {f"anchors/{name}": np.asarray(a) for name, a in statistics.anchors.items()}
    return {**{name: np.asarray(getattr(statistics, name)) for name in ARRAYS}, **anchors}


def with_statistics(G: Generator, report: Report | None = None) -> Generator:
    """G with its statistics: those it has, else from the cache, else computed and cached; of a conditional generator
    those of each of the classes that it is used for, as a `ByClass`.

    Args:
        report: called with (samples done, samples in all) while they are computed: about a minute on two cores for a
            mapping network of 8 layers of 512, seconds for the bundled one.

    Raises:
        LsapError: the generator is conditional, and no class is given.
    """
    if G.statistics is not None:
        return G
    if G.c_dim and G.labels is None:
        raise no_class(G.c_dim, "latent statistics")
    if G.labels is not None:
        each = [_found(G.for_classes(label[None]), report) for label in G.labels]
        return G.with_part("statistics", by_class(G.labels, each))
    return G.with_part("statistics", _found(G, report))


def _found(G: Generator, report: Report | None) -> LatentStatistics:
    """The statistics of a generator, used for one class if it is conditional, from the cache or computed and cached."""
    if not G.source:  # made in this process: there is no file beside which to cache
        return _computed_once(_Keyed(G, report, G.network_sha256 + class_suffix(G)))
    places = cache_places(G)
    found = next((read for path in places if (read := read_statistics(path, G)) is not None), None)
    if found is None:
        found = compute_statistics(G, report=report)
        _save(places, found)
    return found


def with_class_means(G: Generator) -> Generator:
    """G with the mean w of each of its classes, of 10,000 samples as in the projector of StyleGAN2-ADA; a generator
    that no class is given is returned as it is.
    """
    if G.labels is None or CLASS_MEANS in G.parts:
        return G
    own = [_sample_w(G.bare().for_classes(label[None]), jax.random.key(SEED), 0) for label in G.labels]
    means = [jnp.asarray(_rows(w).mean(axis=0), jnp.float32) for w in own]
    return G.with_part(CLASS_MEANS, by_class(G.labels, means))


def class_suffix(G: Generator, before: str = "-class") -> str:
    """ "-class3" of a generator used for one class, a digest in place of 3 for a label between classes, else ""."""
    if G.labels is None:
        return ""
    label = plain(np.asarray(G.labels[0]))
    return f"{before}{label if isinstance(label, int) else digest({'c': np.asarray(G.labels)})[:16]}"


def check_one_class(G: Generator, what: str) -> None:
    """Raises LsapError where `what` draws samples and a conditional generator is not used for one class alone."""
    if G.c_dim and (G.labels is None or len(G.labels) > 1):
        raise LsapError(
            f"{what} needs samples of one of the {G.c_dim} classes of this generator: find its directions by `lsap-jax "
            "find-directions --class=K`, and give the file"
        )


class _Keyed:
    """A generator that equals another of the same weights."""

    def __init__(self, G: Generator, report: Report | None, key: str) -> None:
        self.G, self.report, self.key = G, report, key

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Keyed) and self.key == other.key


@lru_cache(maxsize=8)
def _computed_once(keyed: _Keyed) -> LatentStatistics:
    return compute_statistics(keyed.G, report=keyed.report)


def cache_places(G: Generator) -> list[Path]:
    """Files that may hold the statistics, in the order in which they are tried."""
    name = f"{G.network_sha256[:16]}{class_suffix(G)}.statistics"
    assets = Path(str(resources.files("lsap_jax") / "assets"))
    return list(dict.fromkeys([assets / name, Path(G.source).resolve().parent / name, user_folder() / name]))


def read_statistics(path: Path, G: Generator) -> LatentStatistics | None:
    """The statistics in a file of `write_statistics`; None if there is no file, or it is of another generator.

    Raises:
        LsapError: the file is damaged.
    """
    if not path.is_file():
        return None
    kind, arrays, config, _ = read_weights(path)
    expected = {"w_mean": (G.w_dim,), "p_vectors": (G.w_dim, G.w_dim)}
    if kind != KIND or any(arrays.get(name, np.zeros(0)).shape != shape for name, shape in expected.items()):
        return None
    counts = [config.get(key) for key in ("samples", "anchor_samples")]
    if not arrays.keys() >= set(ARRAYS) or any(type(count) is not int for count in counts):
        raise LsapError(f"{path}: is incomplete; delete it, and the statistics are computed again")
    return _from_arrays(arrays, int(config["samples"]), int(config["anchor_samples"]))


def write_statistics(path: str | Path, statistics: LatentStatistics) -> str:
    """Write statistics as one file; returns the digest of its arrays."""
    counts: dict[str, Any] = {"samples": statistics.samples, "anchor_samples": statistics.anchor_samples}
    return write_weights(path, KIND, to_arrays(statistics), counts, {})


def _save(places: list[Path], statistics: LatentStatistics) -> None:
    """Writes to the first place outside the package that can be written; without one they are computed again later."""
    for path in places[1:]:
        try:
            write_statistics(path, statistics)
        except Unwritable:
            continue
        return


def with_pnorm(G: Generator, folder: str | Path) -> Generator:
    """G with the P_N statistics of BDInvert's folder `pnorm/NAME` in place of its own.

    Args:
        folder: holds mean_latent.npy, eigen_values.npy and eigen_vectors.npy (columns).

    Raises:
        LsapError: a file is missing, of another shape, or does not hold variances and orthonormal axes.
    """
    arrays = {name: _read_npy(Path(folder) / file, G.w_dim) for name, file in PNORM_FILES.items()}
    values, vectors = arrays["p_values"].reshape(-1), arrays["p_vectors"]
    if vectors.shape != (G.w_dim, G.w_dim) or values.shape != (G.w_dim,):
        raise LsapError(f"{folder}: eigenvectors {vectors.shape} and values {values.shape} do not fit w_dim {G.w_dim}")
    if not (values > 0).all() or np.abs(vectors.T @ vectors - np.eye(G.w_dim)).max() > 1e-3:
        raise LsapError(f"{folder}: variances have to be positive and eigenvectors orthonormal columns")
    if G.labels is not None and len(G.labels) > 1:
        raise LsapError(f"{folder}: statistics of P_N belong to one class; these images have {len(G.labels)} classes")
    statistics = with_statistics(G).statistics
    assert statistics is not None
    found = {name: jnp.asarray(a, jnp.float32) for name, a in arrays.items()}
    own = {"p_mean": found["p_mean"].reshape(-1), "p_values": found["p_values"].reshape(-1)}
    own["p_vectors"] = found["p_vectors"]
    if isinstance(statistics, ByClass):
        values = statistics.values.replace(**{name: a[None] for name, a in own.items()})
        return G.with_part("statistics", statistics.replace(values=values))
    return G.with_part("statistics", statistics.replace(**own))


def _read_npy(path: Path, dim: int) -> np.ndarray:
    try:
        array = np.load(BytesIO(read_file(path, MOST_BYTES)), allow_pickle=False)
    except (OSError, ValueError, MemoryError) as error:
        raise LsapError(f"{path}: cannot be read as an array of numbers ({error})") from error
    array = np.real(array)  # numpy's eig, which made these files, may return complex numbers
    if array.size not in (dim, dim * dim) or array.dtype.kind != "f" or not np.isfinite(array).all():
        raise LsapError(f"{path}: holds {array.dtype} {list(array.shape)}; finite numbers for w_dim {dim} are needed")
    return np.asarray(array, np.float64)
