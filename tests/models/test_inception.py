"""FID's Inception v3 against the public port's values, its converter and files, and the Fréchet distance.

`golden_metrics.npz` was made with torch 2.13, torchvision 0.28, pytorch-fid 0.3 and pytorch-msssim 1.0 on one CPU
thread: the network (in float64) on the seeded weights below, torch's bilinear resizing, pytorch-fid's Fréchet distance
of seeded features, and multi-scale SSIM (float64) of the seeded images in test_metrics.py. Inputs are drawn again here.
"""

import hashlib
import zlib
from dataclasses import asdict, replace
from pathlib import Path

import foreign_files as files
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parity import assert_parity

import convert_weights
from convert_weights import Checkpoint, ConversionError, Part
from convert_weights import convert as conversion
from convert_weights.checkpoint import together
from convert_weights.inception import inception_shapes
from lsap_jax.cli import main
from lsap_jax.errors import LsapError
from lsap_jax.metrics import fid as fid_module
from lsap_jax.metrics.fid import (
    fid,
    frechet_distance,
    inception_features,
)
from lsap_jax.metrics.kid import kid
from lsap_jax.models.inception import PUBLIC_FILE, FeatureRecord, Inception
from lsap_jax.models.network_file import from_checkpoint, load
from lsap_jax.networks.inception import STAGES, InceptionNetwork, Pool, pool, resize
from lsap_jax.networks.pixel_maps import bilinear_matrix
from lsap_jax.storage.weights_file import write_weights

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def reference():
    with np.load(Path(__file__).parents[1] / "vectors" / "golden_metrics.npz") as file:
        return {key: file[key] for key in file.files}


def _values(name, shape):
    """The reference's weights, drawn again: each tensor from a seed of its name."""
    r = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith("conv.weight"):
        return np.float32(r.randn(*shape) * np.sqrt(2 / np.prod(shape[1:])))
    if name.endswith(("bn.weight", "bn.running_var")):
        return np.float32(r.uniform(0.5, 1.5, shape))
    return np.float32(0.1 * r.randn(*shape))


@pytest.fixture(scope="module")
def arrays():
    return {name: _values(name, shape) for name, shape in inception_shapes().items()}


def _checkpoint(arrays):
    part = Part(kind="inception", config={"name": "inception_v3_fid"}, arrays=arrays)
    return Checkpoint(format="test", parts=together(part))


@pytest.fixture(scope="module")
def checkpoint(arrays):
    return _checkpoint(arrays)


@pytest.fixture(scope="module")
def network(checkpoint):
    return from_checkpoint(checkpoint).build("inception")


@pytest.fixture(scope="module")
def images():
    """One image of noise, one of blocks; 64 px, uint8."""
    found = np.random.RandomState(0).randint(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    found[1] = np.repeat(np.repeat(found[1, ::8, ::8], 8, axis=0), 8, axis=1)
    return found


def test_the_tensors_are_those_of_the_public_port(reference):
    shapes = inception_shapes()
    listing = "\n".join(f"{name} {list(shape)}" for name, shape in sorted(shapes.items()))
    assert len(shapes) == 470
    assert hashlib.sha256(listing.encode()).hexdigest() == str(reference["names_sha256"])


def test_every_stage_and_the_features_equal_the_public_port(reference, network, images):
    @jax.jit
    def run(params, x):
        return InceptionNetwork().apply(
            {"params": params}, x, capture_intermediates=lambda m, _: m.name in names, mutable=["intermediates"]
        )

    names = [str(n) for n in reference["stage_names"]]
    assert names == [stage.name for stage in STAGES if not isinstance(stage, Pool)]
    features, state = run(network.params, jnp.asarray(images / np.float32(127.5) - 1, jnp.float32))
    assert_parity("inception", "features", features, reference["features"])
    for name, (mean, squared) in zip(names, reference["stages"], strict=True):
        (y,) = state["intermediates"][name]["__call__"]
        np.testing.assert_allclose(y.mean(axis=(1, 2, 3)), mean, rtol=1e-5, err_msg=name)
        np.testing.assert_allclose(jnp.square(y).mean(axis=(1, 2, 3)), squared, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize(("number", "shape"), [(0, (64, 64)), (1, (330, 310)), (2, (1000, 17))])
def test_resizing_equals_torch(reference, number, shape):
    image = np.random.RandomState(10 + number).uniform(-1, 1, (1, *shape, 3)).astype(np.float32)
    found = resize(jnp.asarray(image))
    assert found.shape == (1, 299, 299, 3)
    np.testing.assert_allclose(found[0, ::13, ::13], reference[f"resized{number}"], atol=2e-6)


def test_resizing_keeps_flat_images_and_those_of_the_right_size():
    np.testing.assert_allclose(bilinear_matrix(7, 299).sum(axis=1), 1, rtol=1e-6)
    image = jnp.asarray(np.random.RandomState(0).uniform(-1, 1, (1, 299, 299, 1)), jnp.float32)
    np.testing.assert_array_equal(resize(image), image)


def test_average_pools_leave_padding_out():
    x = np.random.RandomState(0).randn(1, 4, 5, 2).astype(np.float32)
    expected = {"average": np.mean, "max": np.max}
    for kind, function in expected.items():
        found = pool(jnp.asarray(x), Pool(kind))
        assert found.shape == x.shape
        for i in range(4):
            for j in range(5):
                window = x[0, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
                np.testing.assert_allclose(found[0, i, j], function(window, axis=(0, 1)), rtol=1e-5, atol=1e-6)


def test_features_are_per_image_and_quantised(reference, network, images):
    found = inception_features(network, np.concatenate([images, images[:1]]), batch_size=2)  # the last batch is padded
    assert found.shape == (3, 2048) and found.dtype == np.float32
    assert_parity("inception", "inception_features", found[:2], reference["features"])
    np.testing.assert_allclose(found[2], found[0], rtol=1e-5, atol=1e-5)
    floats = images / np.float32(127.5) - 1
    floats = floats + np.random.RandomState(1).uniform(-0.4, 0.4, floats.shape) / 127.5  # less than half a level
    np.testing.assert_array_equal(inception_features(network, floats), inception_features(network, images))
    kid(found, found + 1)  # the same features do for KID


def test_grey_images_are_repeated(monkeypatch):
    seen = []

    class Probe:
        def apply(self, variables, x):
            seen.append(x.shape)
            return x.mean(axis=(1, 2))

    monkeypatch.setattr(fid_module, "InceptionNetwork", Probe)
    network = Inception(params={}, record=FeatureRecord(weights="none"))
    found = inception_features(network, np.full((5, 4, 6, 1), 255, np.uint8), batch_size=2)
    assert seen == [(2, 4, 6, 3)]  # traced once
    np.testing.assert_allclose(found, np.ones((5, 3)), rtol=1e-6)


def test_images_without_features_are_refused(network):
    for bad, message in [
        (np.zeros((4, 4, 3), np.uint8), r"\(4, 4, 3\)"),
        (np.zeros((0, 4, 4, 3), np.uint8), r"\(0, 4, 4, 3\)"),
        (np.zeros((1, 4, 4, 4), np.uint8), "1 or 3"),
        (np.zeros((1, 4, 4, 3), np.int32), "int32"),
        (np.full((1, 4, 4, 3), np.nan), "NaN"),
    ]:
        with pytest.raises(LsapError, match=message):
            inception_features(network, bad)
    with pytest.raises(LsapError, match="batch_size 0"):
        inception_features(network, np.zeros((1, 4, 4, 3)), batch_size=0)


def _counters():
    return {"Conv2d_1a_3x3.bn.num_batches_tracked": np.array(0, np.int64)}


def _classifier(classes=1008):
    return {"fc.weight": np.zeros((classes, 2048), np.float32), "fc.bias": np.zeros(classes, np.float32)}


def _read(tmp_path, tensors):
    path = tmp_path / "weights"
    path.write_bytes(files.torch_zip(files.ordered(tensors)))
    return convert_weights.read(path)


def _broadcast():
    """Tensors of the right shapes that are quick to write."""
    return {n: np.full(s, 0.5, np.float16) for n, s in inception_shapes().items()}


def test_the_public_file_goes_through_the_command_to_the_features(capsys, tmp_path, arrays, network):
    source, target = tmp_path / "pt.pth", tmp_path / "inception.safetensors"
    aux = {"AuxLogits.fc.weight": np.zeros((2, 2), np.float32)}
    source.write_bytes(files.torch_zip(files.ordered({**arrays, **_classifier(), **aux, **_counters()})))
    assert main(["convert", str(source), str(target)]) == 0
    printed = capsys.readouterr().out
    assert "2 x the classifier is not part of FID" in printed and "Apache-2.0" in printed
    loaded = load(target, "inception")
    jax.tree.map(np.testing.assert_array_equal, loaded.params, network.params)
    assert loaded.record == network.record == load(source, "inception").record
    assert "tensors of SHA-256" in loaded.record.weights and asdict(loaded.record)["resolution"] == 299


def test_the_record_names_the_public_file_by_its_digest(checkpoint):
    public = from_checkpoint(replace(checkpoint, sha256="6726825d" + "0" * 56)).build("inception")
    assert public.record.weights == PUBLIC_FILE and "pool_3" in public.record.network


def test_what_the_converter_ignores_and_notes(tmp_path):
    tensors = _broadcast()
    found = _read(tmp_path, tensors | _classifier() | _counters())
    assert found.kind == "inception" and found.parts["inception"].arrays.keys() == tensors.keys() and not found.notes
    assert set(found.ignored) == {"fc.weight", "fc.bias", *_counters()}
    assert all(a.dtype == np.float32 and (a == 0.5).all() for a in found.parts["inception"].arrays.values())
    assert "classifier" in _read(tmp_path, tensors).notes[0]


def test_other_inceptions_are_refused(tmp_path):
    tensors = _broadcast()
    with pytest.raises(ConversionError, match=r"fc.weight is \[1000, 2048\]; FID's has 1008"):
        _read(tmp_path, tensors | _classifier(1000))
    for change, message in [
        ({"Mixed_5b.branch1x1.bn.bias": None}, r"missing Mixed_5b.branch1x1.bn.bias \[64\]"),
        ({"Mixed_8a.branch1x1.bn.bias": np.zeros(3, np.float32)}, r"unexpected Mixed_8a.branch1x1.bn.bias"),
        ({"Mixed_7c.branch1x1.conv.weight": np.zeros((320, 2048, 3, 3), np.float16)}, r"not \[320, 2048, 1, 1\]"),
        ({"Mixed_7c.extra": np.zeros(3, np.float32)}, "unknown tensors Mixed_7c.extra"),
        ({"Conv2d_1a_3x3.bn.bias": np.full(32, np.nan, np.float32)}, "not finite"),
    ]:
        with pytest.raises(ConversionError, match=message):
            _read(tmp_path, {n: a for n, a in {**tensors, **change}.items() if a is not None})


def test_files_without_the_weights_are_refused(tmp_path, checkpoint):
    with pytest.raises(LsapError, match="lsap-jax convert.*never called FID"):
        load(None, "inception")
    with pytest.raises(LsapError, match="no such file.*6726825d"):
        load(tmp_path / "absent", "inception")
    write_weights(tmp_path / "other", "lpips", {"lin0.weight": np.zeros(3, np.float32)}, {}, {})
    with pytest.raises(LsapError, match="holds 'lpips' weights, not FID's"):
        load(tmp_path / "other", "inception")
    cut = {n: a for n, a in checkpoint.parts["inception"].arrays.items() if n != "Mixed_7c.branch_pool.bn.bias"}
    with pytest.raises(LsapError, match=r"- Mixed_7c\.branch_pool\.bn\.bias \(192,\)"):
        from_checkpoint(_checkpoint(cut)).build("inception")
    with pytest.raises(LsapError, match="do not fit FID's Inception v3"):
        from_checkpoint(_checkpoint({"fc.weight": np.zeros((2, 2))})).build("inception")
    assert conversion.save(tmp_path / "whole", checkpoint, "pt.pth")
    content = bytearray((tmp_path / "whole").read_bytes())
    content[-5] ^= 1
    (tmp_path / "whole").write_bytes(content)
    with pytest.raises(LsapError, match="SHA-256"):
        load(tmp_path / "whole", "inception")


def _sets(number, n, m, d):
    """The reference's features, drawn again."""
    r = np.random.RandomState(20 + number)
    mix = r.randn(d, d)
    return r.randn(n, d) @ mix + 1, r.randn(m, d) @ (mix + 0.3 * r.randn(d, d)) + 1.2


@pytest.mark.parametrize(("number", "shape"), [(0, (60, 50, 8)), (1, (400, 300, 64)), (2, (40, 40, 16))])
def test_the_distance_equals_the_public_port(reference, number, shape):
    found = frechet_distance(*_sets(number, *shape))
    assert_parity("frechet_distance", str(shape), found, reference[f"fid{number}"], rtol=1e-9, atol=0)


def test_the_distance_of_normal_sets_is_the_formula():
    """In one dimension the distance is (μ - ν)² + (σ - τ)²; independent features add up."""
    r = np.random.RandomState(0)
    a, b = r.randn(50, 1) * 3 + 1, r.randn(70, 1)
    expected = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    np.testing.assert_allclose(frechet_distance(a, b), expected, rtol=1e-12)


def _by_symmetric_root(a, b):
    """The textbook's way: eigenvalues of √A B √A."""
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, vectors = np.linalg.eigh(first)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    roots = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0)).sum()
    return np.square(a.mean(0) - b.mean(0)).sum() + np.trace(first) + np.trace(second) - 2 * roots


@given(st.integers(0, 10**6), st.integers(2, 30), st.integers(2, 30), st.integers(1, 12))
def test_the_distance_is_symmetric_zero_for_equal_sets_and_blind_to_order(seed, n, m, d):
    r = np.random.RandomState(seed)
    a, b = r.randn(n, d), r.randn(m, d) * r.uniform(0.5, 2, d) + r.randn(d)
    value = frechet_distance(a, b)
    np.testing.assert_allclose(value, _by_symmetric_root(a, b) if d > 1 else value, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(frechet_distance(b, a), value, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(frechet_distance(r.permutation(a), r.permutation(b)), value, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(frechet_distance(a, a), 0, atol=1e-10)
    np.testing.assert_allclose(frechet_distance(a, a + 2), 4 * d, rtol=1e-9)


def test_fid_notes_singular_covariances():
    r = np.random.RandomState(0)
    a, b = r.rand(30, 2048), r.rand(20, 2048)
    found = fid(a, b)
    assert found.value == frechet_distance(a, b) > 0
    assert "20 images" in found.note and "rank-deficient" in found.note
    assert abs(fid(a, a).value) < 1e-9


def test_fid_of_large_sets_has_no_note(monkeypatch):
    monkeypatch.setattr(fid_module, "FEATURES", 4)
    r = np.random.RandomState(0)
    assert fid(r.rand(5, 4), r.rand(6, 4)).note == ""
    assert fid(r.rand(4, 4), r.rand(6, 4)).note.startswith("4 images")


def test_what_is_not_fid_is_refused():
    for a, b in [(np.zeros((9, 64)), np.zeros((9, 64))), (np.zeros((9, 2048)), np.zeros(2048))]:
        with pytest.raises(LsapError, match="never called FID"):
            fid(a, b)
    with pytest.raises(LsapError, match="at least 2 images on both sides, got 1 and 9"):
        fid(np.zeros((1, 2048)), np.zeros((9, 2048)))
    with pytest.raises(LsapError, match="second set are not finite"):
        fid(np.zeros((9, 2048)), np.full((9, 2048), np.nan))
    with pytest.raises(LsapError, match=r"\(4, 3\) and \(4, 2\)"):
        frechet_distance(np.zeros((4, 3)), np.zeros((4, 2)))
