"""Latent statistics: against numpy, their cache, and those of BDInvert's files."""

import tempfile
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsap_jax.errors import LsapError
from lsap_jax.losses.alignment import sn_layers
from lsap_jax.models.generator_file import load_generator
from lsap_jax.spaces import statistics
from lsap_jax.spaces.statistics import (
    CHUNK,
    PNORM_FILES,
    cache_places,
    compute_statistics,
    principal_axes,
    read_statistics,
    to_arrays,
    with_pnorm,
    with_statistics,
    write_statistics,
)
from lsap_jax.testing import tiny_generator

pytestmark = pytest.mark.usefixtures("quick_compilation")

FEW = {"samples": 400, "anchor_samples": 300}


def sampled_w(G, count: int, seed: int) -> np.ndarray:
    """The w that `compute_statistics` sees, in float64."""
    rng = jax.random.key(seed)
    chunks = [jax.random.normal(jax.random.fold_in(rng, i), (CHUNK, G.z_dim)) for i in range(-(-count // CHUNK))]
    return np.concatenate([np.asarray(G.map_w(z), np.float64) for z in chunks])[:count]


@pytest.mark.parametrize(
    ("samples", "anchor_samples"),
    [(2, 1), (9, 5), (CHUNK, CHUNK), (CHUNK + 1, CHUNK - 1), (2 * CHUNK + 500, CHUNK + 345)],
)
def test_chunks_add_up_to_the_statistics_of_all_samples(tiny, samples, anchor_samples):
    told = []
    found = compute_statistics(tiny, samples, anchor_samples, seed=3, report=lambda *now: told.append(now))
    assert told[-1] == (samples, samples) and len(told) == -(-samples // CHUNK)
    assert (found.samples, found.anchor_samples) == (samples, anchor_samples)
    w = sampled_w(tiny, samples, 3)
    p = np.where(w < 0, 5 * w, w)
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    close(found.w_mean, w.mean(axis=0))
    close(found.w_std, w.std(axis=0, ddof=1))
    close(found.w_spread, np.sqrt(np.square(w - w.mean(axis=0)).sum(axis=1).sum() / (samples - 1)))
    close(found.p_mean, p.mean(axis=0))
    covariance = np.cov(p.T)
    axes = np.asarray(found.p_vectors, np.float64)
    close(axes * np.asarray(found.p_values) @ axes.T, covariance, atol=1e-5 * np.abs(covariance).max())
    assert list(found.anchors) == list(sn_layers(tiny.config))
    styles = tiny.styles(tiny.repeat_w(jnp.asarray(w[:anchor_samples], jnp.float32)))
    for name, anchor in found.anchors.items():
        s = np.asarray(styles[name], np.float64)
        close(anchor, (s / np.linalg.norm(s, axis=1, keepdims=True)).mean(axis=0))


def test_counts_that_make_no_statistics_are_refused(tiny):
    for samples, anchor_samples in ((1, 1), (10, 0), (10, 11)):
        with pytest.raises(LsapError, match=f"statistics: {samples} samples, {anchor_samples} of them"):
            compute_statistics(tiny, samples, anchor_samples)


@given(st.integers(1, 12), st.integers(0, 12), st.integers(0, 2**31 - 1))
def test_principal_axes(dim, rank, seed):
    factor = np.random.default_rng(seed).standard_normal((dim, max(1, min(rank, dim))))
    covariance = factor @ factor.T  # of less than full rank, often
    values, axes = principal_axes(covariance)
    np.testing.assert_allclose(axes.T @ axes, np.eye(dim), atol=1e-10)
    np.testing.assert_allclose(axes * values @ axes.T, covariance, atol=1e-10 * np.abs(covariance).max())
    assert (np.diff(values) <= 0).all() and (values > 0).all()
    assert np.isfinite(1 / np.sqrt(values.astype(np.float32))).all()
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(dim)]
    assert (largest > 0).all()
    np.testing.assert_array_equal(principal_axes(covariance)[1], axes)


@pytest.fixture
def saved(tmp_path, tiny):
    """A file with the tiny generator in a folder of its own."""
    tiny.save(tmp_path / "weights" / "g.safetensors")
    return tmp_path / "weights" / "g.safetensors"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The user's cache folder, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "lsap_jax"


@pytest.fixture
def computed(monkeypatch):
    """The generators whose statistics were computed, of a few samples only."""
    calls = []

    def few(G, report=None):
        calls.append(G)
        return compute_statistics(G, **FEW, report=report)

    monkeypatch.setattr(statistics, "compute_statistics", few)
    return calls


def same(a, b):
    a, b = to_arrays(a), to_arrays(b)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def test_they_are_kept_beside_the_weights(saved, cache, computed):
    first = with_statistics(load_generator(saved))
    (path,) = saved.parent.glob("*.statistics")
    assert path.stem == first.network_sha256[:16] and len(computed) == 1 and not cache.exists()
    again = with_statistics(load_generator(saved))
    assert len(computed) == 1
    same(first.statistics, again.statistics)
    assert (again.statistics.samples, again.statistics.anchor_samples) == (400, 300)
    assert with_statistics(again) is again
    # Whatever comes with mapping and synthesis, they are the same.
    assert with_statistics(load_generator(saved).without("discriminator")).statistics is not None
    assert len(computed) == 1


def test_they_are_kept_in_the_users_cache_where_the_weights_cannot_be_written(saved, cache, computed, monkeypatch):
    make = tempfile.mkstemp

    def make_elsewhere(dir, prefix):
        if dir == saved.parent:
            raise PermissionError(13, "Permission denied", str(dir))
        return make(dir=dir, prefix=prefix)

    monkeypatch.setattr(tempfile, "mkstemp", make_elsewhere)
    first = with_statistics(load_generator(saved))
    assert [p.suffix for p in saved.parent.iterdir()] == [".safetensors"] and len(list(cache.iterdir())) == 1
    same(with_statistics(load_generator(saved)).statistics, first.statistics)
    assert len(computed) == 1


def test_without_a_place_they_are_computed_each_time(saved, cache, computed, monkeypatch):
    def make(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "mkstemp", make)
    first, again = (with_statistics(load_generator(saved)) for _ in range(2))
    assert len(computed) == 2 and not any(cache.iterdir())
    same(first.statistics, again.statistics)


def test_a_damaged_cache_is_loud(saved, cache, computed):
    with_statistics(load_generator(saved))
    (path,) = saved.parent.glob("*.statistics")
    whole = path.read_bytes()
    for damaged in (whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:], whole[: len(whole) // 2], b""):
        path.write_bytes(damaged)
        with pytest.raises(LsapError, match="damaged"):
            with_statistics(load_generator(saved))
    assert len(computed) == 1


def test_those_of_another_generator_are_not_used(saved, cache, computed):
    G = load_generator(saved)
    with_statistics(G)
    changed = G.replace(params=jax.tree.map(lambda a: 1.5 * a, G.params))
    assert np.abs(with_statistics(changed).statistics.w_std / with_statistics(G).statistics.w_std - 1).max() > 0.1
    assert len(computed) == 2 and len(list(saved.parent.glob("*.statistics"))) == 2
    place = cache_places(G)[1]
    wide = compute_statistics(tiny_generator(), **FEW).replace(w_mean=jnp.zeros(8))
    write_statistics(place, wide)
    assert read_statistics(place, G) is None
    G.save(place)
    assert read_statistics(place, G) is None and read_statistics(place.with_name("absent"), G) is None


def test_a_generator_made_in_this_process_is_sampled_once(computed):
    told = []
    first = with_statistics(tiny_generator(seed=77))
    again = with_statistics(tiny_generator(seed=77, discriminator=False), report=lambda *now: told.append(now))
    assert len(computed) == 1 and again.statistics is first.statistics and not told
    with_statistics(tiny_generator(seed=78), report=lambda *now: told.append(now))
    assert len(computed) == 2 and told == [(400, 400)]


def test_the_bundled_generator_brings_its_own(computed):
    """Computed from a million samples; within the sampling error of 20,000 fresh ones."""
    G = load_generator("toonhead64")
    packaged = with_statistics(G).statistics
    assert not computed and cache_places(G)[0].is_file()
    assert (packaged.samples, packaged.anchor_samples) == (1_000_000, 100_000)
    count = 20_000
    fresh = compute_statistics(G, count, count, seed=99)
    error = np.sqrt(1 / count + 1 / packaged.samples)
    assert (np.abs(fresh.w_mean - packaged.w_mean) < 5 * error * packaged.w_std).all()
    np.testing.assert_allclose(fresh.w_std, packaged.w_std, rtol=5 * error)  # a normal's own error is 0.7 of that
    np.testing.assert_allclose(fresh.w_spread, packaged.w_spread, rtol=5 * error)
    # Variances along the packaged axes, of which the fresh ones' are a mixture.
    axes = np.asarray(packaged.p_vectors, np.float64)
    turned = axes.T @ (np.asarray(fresh.p_vectors) * np.asarray(fresh.p_values)) @ np.asarray(fresh.p_vectors).T @ axes
    np.testing.assert_allclose(np.diag(turned), packaged.p_values, rtol=12 * error)
    assert packaged.anchors.keys() == set(sn_layers(G.config))
    for name, anchor in packaged.anchors.items():
        # Unit vectors scatter by √(1 - |μ|²) around their mean.
        scatter = float(np.sqrt(1 - np.square(anchor).sum()))
        distance = np.linalg.norm(fresh.anchors[name] - anchor)
        assert distance < 2 * scatter * np.sqrt(1 / count + 1 / packaged.anchor_samples), name


def pnorm(folder, found, **changed):
    """BDInvert's files with some of their arrays replaced."""
    folder.mkdir(exist_ok=True)
    for name, file in PNORM_FILES.items():
        np.save(folder / file, changed.get(name, np.asarray(getattr(found, name))))
    return folder


@pytest.fixture(scope="module")
def other(tiny):
    """Statistics that are not the tiny generator's own."""
    return compute_statistics(tiny, **FEW, seed=5)


def test_statistics_of_bdinvert_replace_those_of_p_n(tmp_path, tiny, other):
    found = with_pnorm(tiny, pnorm(tmp_path, other)).statistics
    for name in PNORM_FILES:
        np.testing.assert_array_equal(getattr(found, name), getattr(other, name))
    for name in ("w_mean", "w_std"):
        np.testing.assert_array_equal(getattr(found, name), getattr(tiny.statistics, name))
    assert found.anchors is tiny.statistics.anchors
    rows = {name: np.asarray(getattr(other, name))[None] for name in ("p_mean", "p_values")}
    as_complex = {name: np.asarray(getattr(other, name), np.complex64) for name in ("p_values", "p_vectors")}
    doubles = {name: np.asarray(getattr(other, name), np.float64) for name in PNORM_FILES}
    order = np.random.default_rng(0).permutation(16)  # numpy's eig does not sort
    shuffled = {"p_values": other.p_values[order], "p_vectors": other.p_vectors[:, order]}
    for changed in (rows, as_complex, doubles):
        same(with_pnorm(tiny, pnorm(tmp_path, other, **changed)).statistics, found)
    mixed = with_pnorm(tiny, pnorm(tmp_path, other, **shuffled)).statistics
    np.testing.assert_array_equal(mixed.p_values, other.p_values[order])


BROKEN = {
    "short mean": ("p_mean", lambda a: a[:-1], r"mean_latent.npy: holds float32 \[15\]; finite numbers for w_dim 16"),
    "matrix of values": ("p_values", np.diag, "eigenvectors .16, 16. and values .256,. do not fit w_dim 16"),
    "row of vectors": ("p_vectors", lambda a: a[0], "eigenvectors .16,. and values"),
    "integers": ("p_values", lambda a: np.ones(16, int), "holds int64"),
    "not finite": ("p_mean", lambda a: a * np.nan, "finite numbers"),
    "negative variance": ("p_values", lambda a: a - 1, "variances have to be positive"),
    "skewed axes": ("p_vectors", lambda a: a * 1.01, "orthonormal columns"),
    "parallel axes": ("p_vectors", lambda a: a[:, [0, *range(15)]], "orthonormal columns"),
    "a pickle": ("p_mean", lambda a: np.array([{"run": print}] * 16, object), "cannot be read as an array of numbers"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_files_that_are_no_statistics_are_refused(tmp_path, tiny, other, case):
    name, broken, message = BROKEN[case]
    folder = pnorm(tmp_path, other, **{name: broken(np.asarray(getattr(other, name)))})
    with pytest.raises(LsapError, match=message) as caught:
        with_pnorm(tiny, folder)
    assert str(tmp_path) in str(caught.value)


def test_a_missing_file_and_a_wrong_one_are_named(tmp_path, tiny, other):
    folder = pnorm(tmp_path, other)
    (folder / "eigen_values.npy").write_bytes(b"no array")
    with pytest.raises(LsapError, match="eigen_values.npy: cannot be read"):
        with_pnorm(tiny, folder)
    (folder / "mean_latent.npy").unlink()
    with pytest.raises(LsapError, match="mean_latent.npy: cannot be read"):
        with_pnorm(tiny, folder)
