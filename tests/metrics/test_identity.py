"""Face networks against the originals' values, identity similarity, its crops and its failures."""

import importlib.util
import json
import sys
from types import ModuleType, SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_faces
from hypothesis import given
from hypothesis import strategies as st
from parity import assert_parity, nhwc
from PIL import Image

from convert_weights import Checkpoint, Part
from convert_weights.checkpoint import together
from lsap_jax.errors import LsapError
from lsap_jax.metrics.identity import (
    NEITHER,
    NO_EDITED,
    NO_ORIGINAL,
    IdentityMeter,
    compare_identities,
    face_crops,
    face_embeddings,
    identity_similarity,
    kept,
)
from lsap_jax.metrics.identity_columns import (
    COLUMNS,
    columns,
    describe_identities,
    measure_identities,
    summarise_identities,
)
from lsap_jax.models.embedder import (
    EMBEDDERS,
    embed,
    embeddings,
)
from lsap_jax.models.network_file import from_checkpoint, load
from lsap_jax.networks.inception import Pool, pool
from lsap_jax.networks.inception_resnet import STAGES, InceptionResnetV1, unit
from lsap_jax.networks.irse import UNITS, Irse50, adaptive_matrix, aligned_crop
from lsap_jax.storage.weights_file import write_weights

pytestmark = pytest.mark.usefixtures("quick_compilation")


def _checkpoint(kind, arrays):
    return Checkpoint(format="test", parts=together(Part(kind=kind, config={}, arrays=arrays)))


@pytest.fixture(scope="module")
def seeded(golden, shared_file):
    """(reference arrays, checkpoint with the reference's weights, drawn again) of a network."""
    spec = importlib.util.spec_from_file_location("seeded_weights", shared_file("golden/seeded_weights.py"))
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)

    def draw(name, kind):
        data = golden(name)
        meta = json.loads(bytes(data["meta_json"]))
        arrays = recipe.fill(meta["tensors"], meta["seed"], meta["gain"])
        return data, _checkpoint(kind, arrays)

    return draw


@pytest.fixture(scope="module")
def facenet_reference(seeded):
    return seeded("inception_resnet_v1", "inception_resnet_v1")


@pytest.fixture(scope="module")
def facenet(facenet_reference):
    return from_checkpoint(facenet_reference[1]).build("inception_resnet_v1")


@pytest.fixture(scope="module")
def arcface_reference(seeded):
    return seeded("arcface_ir_se50", "arcface")


@pytest.fixture(scope="module")
def arcface(arcface_reference):
    return from_checkpoint(arcface_reference[1]).build("arcface")


def _run(network, params, images):
    """The embedding, and every module's output by its path."""

    @jax.jit
    def run(params, x):
        return network.apply({"params": params}, x, capture_intermediates=True, mutable=["intermediates"])

    found, state = run(params, jnp.asarray(images))

    def output(path):
        level = state["intermediates"]
        for part in path.split("."):
            level = level[part]
        return level["__call__"][0]

    return found, output


def _assert_stages(group, output, data, names, prefix=""):
    for name in names:
        y = output(name)
        n, c, h, w = data[f"{prefix}shape/{name}"]
        assert y.shape == (n, h, w, c), name
        assert_parity(group, prefix + name, y.mean(axis=(1, 2)), data[f"{prefix}chanmean/{name}"])


@pytest.fixture(scope="module")
def facenet_at_160(facenet_reference, facenet):
    """The embedding and the stages of the reference's image and of three others, in one run."""
    x = nhwc(facenet_reference[0]["s160/x"])
    return _run(InceptionResnetV1(), facenet.params, np.concatenate([x, (_images(3, 160) - np.float32(127.5)) / 128]))


def _assert_facenet(data, prefix, found, output):
    assert_parity("facenet", f"{prefix}embedding", found, data[f"{prefix}embedding"])
    assert_parity("facenet", f"{prefix}last_linear", output("last_linear"), data[f"{prefix}last_linear"])
    assert_parity("facenet", f"{prefix}last_bn", output("last_bn")[:, 0, 0], data[f"{prefix}last_bn"])
    names = [stage.name for stage in STAGES if hasattr(stage, "name")]
    assert names == [
        n.removeprefix(f"{prefix}chanmean/")
        for n in data
        if n.startswith(f"{prefix}chanmean/") and not n.endswith(("maxpool_3a", "avgpool_1a", "dropout"))
    ]
    _assert_stages("facenet stages", output, data, names, prefix)
    # The two pools are no modules: what they are given is compared after them.
    first = pool(jnp.asarray(output("conv2d_2b")), Pool("max", stride=2, padded=False))
    for name, y in (("maxpool_3a", first.mean(axis=(1, 2))), ("avgpool_1a", output("block8").mean(axis=(1, 2)))):
        assert_parity("facenet stages", prefix + name, y, data[f"{prefix}chanmean/{name}"])


def test_facenet_equals_the_original_at_every_stage(facenet_reference, facenet_at_160):
    found, output = facenet_at_160
    _assert_facenet(facenet_reference[0], "s160/", found[:1], lambda name: output(name)[:1])


def test_facenet_equals_the_original_at_another_size(facenet_reference, facenet):
    data = facenet_reference[0]
    _assert_facenet(data, "s96/", *_run(InceptionResnetV1(), facenet.params, nhwc(data["s96/x"])))


def test_arcface_equals_the_original_at_every_stage(arcface_reference, arcface):
    data = arcface_reference[0]
    found, output = _run(Irse50(), arcface.params, nhwc(data["x"]))
    assert_parity("arcface", "embedding", found, data["embedding"])
    assert_parity("arcface", "output_layer", output("output_layer"), data["output_layer"])
    names = ["input_layer", *(f"body.{k}" for k in range(len(UNITS)))]
    assert len(names) == sum(n.startswith("chanmean/") for n in data)
    _assert_stages("arcface stages", output, data, names)


def test_arcface_sees_the_crop_of_the_identity_loss(arcface_reference, arcface):
    data = arcface_reference[0]
    image = nhwc(data["idloss_img256"])
    crop = jax.jit(aligned_crop)
    assert_parity("arcface", "idloss_pre112", crop(image), nhwc(data["idloss_pre112"]))
    large = np.repeat(np.repeat(image, 4, axis=1), 4, axis=2)  # 1024 px are averaged back to 256
    np.testing.assert_allclose(crop(large), crop(image), atol=1e-5)
    assert_parity("arcface", "idloss_feat", jax.jit(embeddings)(arcface, image), data["idloss_feat"])


def _images(n, size, seed=0):
    return np.random.RandomState(seed).randint(0, 256, (n, size, size, 3)).astype(np.uint8)


def test_an_embedding_is_per_image_and_quantised(facenet, facenet_at_160):
    levels = _images(3, 160)
    found = embed(facenet, levels, batch_size=2)  # the last batch is padded
    assert found.shape == (3, 512) and found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(found, facenet_at_160[0][1:], atol=1e-6)  # the network takes (level - 127.5) / 128
    alone = embed(facenet, np.concatenate([levels[2:], levels[:1]]), batch_size=2)  # other mates, other places
    np.testing.assert_allclose(alone, found[[2, 0]], atol=1e-6)
    floats = levels / np.float32(127.5) - 1 + np.random.RandomState(1).uniform(-0.4, 0.4, levels.shape) / 127.5
    np.testing.assert_array_equal(embed(facenet, floats, batch_size=2), found)
    itself = compare_identities(facenet, None, levels, floats, batch_size=2)
    np.testing.assert_allclose(itself.similarity, 1, atol=1e-6)
    assert not itself.failures
    others = identity_similarity(found, found[[1, 2, 0]])
    assert (others < 0.9999).all()
    np.testing.assert_allclose(others, np.sum(found * found[[1, 2, 0]], axis=1), atol=1e-6)


@given(st.integers(1, 40), st.integers(1, 40))
def test_adaptive_averages_are_those_of_their_cells(source, size):
    matrix = adaptive_matrix(source, size)
    x = np.random.RandomState(source).randn(source)
    for i, value in enumerate(matrix @ x):
        cell = x[i * source // size : -(-(i + 1) * source // size)]
        np.testing.assert_allclose(value, cell.mean(), rtol=1e-12, atol=1e-12)
    if source % size == 0:
        np.testing.assert_allclose(matrix @ x, x.reshape(size, -1).mean(axis=1), atol=1e-12)


def test_the_unit_of_nothing_is_nothing():
    np.testing.assert_array_equal(jax.jit(unit)(jnp.zeros((3, 512))), 0)
    x = jnp.asarray(np.random.RandomState(0).randn(3, 512), jnp.float32)
    np.testing.assert_allclose(jax.jit(unit)(x), x / np.linalg.norm(x, axis=1, keepdims=True), rtol=1e-6)


@given(st.integers(0, 10**6), st.integers(1, 5), st.floats(0.1, 10))
def test_the_cosine_is_symmetric_bounded_and_blind_to_scale(seed, n, scale):
    r = np.random.RandomState(seed)
    a, b = r.randn(n, 8), r.randn(n, 8)
    value = identity_similarity(a, b)
    assert value.shape == (n,) and (np.abs(value) <= 1 + 1e-12).all()
    np.testing.assert_allclose(identity_similarity(scale * b, a), value, atol=1e-12)
    np.testing.assert_allclose(identity_similarity(a, -a), -1, rtol=1e-12)


# --- crops and failures: the detector and the network are stood in for, so that every box can be had


@pytest.fixture
def boxes(monkeypatch):
    """boxes[image's first level] -> what the detector finds there."""
    found = {}

    def detect(detector, images):
        assert all(image.dtype == np.uint8 and image.shape[-1] == 3 for image in images)
        rows = [np.asarray(found.get(int(image[0, 0, 0]), []), np.float32).reshape(-1, 4) for image in images]
        return [SimpleNamespace(boxes=b, scores=np.ones(len(b)), landmarks=np.zeros((len(b), 5, 2))) for b in rows]

    stand_in = ModuleType("lsap_jax.faces.detect")
    stand_in.detect = detect
    monkeypatch.setitem(sys.modules, "lsap_jax.faces.detect", stand_in)
    return found


@pytest.fixture
def colours(monkeypatch):
    return small_faces.embedder(monkeypatch, "inception_resnet_v1")


def test_crops_are_clipped_cut_to_whole_pixels_and_resized(boxes):
    images = [_images(1, 50, k)[0] for k in range(5)]
    for k, image in enumerate(images):
        image[0, 0, 0] = k
    boxes |= {
        0: [(10.9, 5.2, 30.9, 35.7), (0, 0, 50, 50)],  # the first is the largest: the detector's order counts
        1: [(-3.5, -8, 20.99, 60)],
        2: [(20.2, 10, 20.9, 30)],  # less than a pixel
        3: [(60, 60, 80, 80)],  # outside
    }
    crops, found = face_crops(None, images)
    assert crops.shape == (5, 160, 160, 3) and crops.dtype == np.uint8
    assert found.tolist() == [True, True, False, False, False]
    for crop, image, (left, top, right, bottom) in (
        (crops[0], images[0], (10, 5, 30, 35)),
        (crops[1], images[1], (0, 0, 20, 50)),
    ):
        expected = Image.fromarray(image).crop((left, top, right, bottom)).resize((160, 160), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(crop, np.asarray(expected))
    assert not crops[2:].any()
    assert face_crops(None, images, size=24)[0].shape == (5, 24, 24, 3)


def _plain(*colours):
    """Plain images of 20 px."""
    return np.tile(np.asarray(colours, np.uint8)[:, None, None, :], (1, 20, 20, 1))


def test_failures_are_reported_with_their_reasons(boxes, colours):
    originals = _plain((200, 0, 0), (201, 0, 0), (1, 0, 0), (2, 0, 0), (202, 0, 0))
    edited = _plain((200, 0, 0), (203, 203, 0), (202, 0, 0), (3, 0, 0), (4, 0, 0))
    boxes |= {level: [(2, 2, 18, 18)] for level in range(200, 204)}
    similarity, failures = compare_identities(colours, SimpleNamespace(), originals, edited, batch_size=3)
    assert failures == [(2, NO_ORIGINAL), (3, NEITHER), (4, NO_EDITED)]
    np.testing.assert_allclose(similarity, [1, np.sqrt(0.5), np.nan, np.nan, np.nan], atol=1e-6)
    vectors, found = face_embeddings(colours, SimpleNamespace(), originals)
    assert np.isnan(vectors[~found]).all() and np.isfinite(vectors[found]).all()


def test_what_is_kept_counts_faces_that_were_there():
    first = np.array([[1, 0], [1, 0], [np.nan] * 2, [np.nan] * 2], np.float32)
    second = np.array([[0.6, 0.8], [np.nan] * 2, [1, 0], [np.nan] * 2], np.float32)
    found = kept(first, second)
    np.testing.assert_allclose(found["identity"], [0.6, np.nan, np.nan, np.nan], rtol=1e-6)
    np.testing.assert_array_equal(found["face"], [1, 0, np.nan, np.nan])


def test_columns_name_their_network_and_none_is_of_two():
    similarities = [columns(kind)["identity"] for kind in EMBEDDERS]
    assert len(set(similarities)) == 3 and set(similarities) < COLUMNS
    assert columns("dlib_resnet")["distance"] == "identity_dlib_resnet_distance"
    assert "distance" not in columns("arcface") and "distance" not in columns("inception_resnet_v1")


def test_reconstructions_are_measured_summarised_and_described(monkeypatch):
    """Five pairs of plain pictures: two of one colour and of another, one without a target's face, one without the
    reconstruction's, one without any.
    """
    red, green, faceless = (200, 0, 0), (0, 200, 0), (1, 1, 1)
    targets, reconstructions = (
        np.broadcast_to(np.array(colours, np.uint8)[:, None, None], (5, 16, 16, 3))
        for colours in ((red, red, faceless, red, faceless), (red, green, red, faceless, faceless))
    )
    meter = small_faces.meter(monkeypatch, lambda picture: picture.max() > 1)
    found = measure_identities(meter, targets, reconstructions, batch_size=2)
    assert (
        set(found)
        == {"identity_dlib_resnet", "identity_dlib_resnet_distance", "face"}
        == set(describe_identities(meter))
    )
    nan = np.nan
    np.testing.assert_allclose(found["identity_dlib_resnet"], [1, 0, nan, nan, nan], atol=1e-6)
    np.testing.assert_allclose(found["identity_dlib_resnet_distance"], [0, np.sqrt(2), nan, nan, nan], atol=1e-6)
    np.testing.assert_array_equal(found["face"], [1, 1, nan, 0, nan])
    summary = summarise_identities(meter, found)
    counts = {"compared": 2, "same_person": 1, "targets_without_face": 2, "reconstructions_without_face": 1}
    assert {name: summary[name] for name in counts} == counts
    assert "dlib's face recognition ResNet" in summary["network"]
    low, high = summary["intervals"]["identity_dlib_resnet"]
    assert 0 <= low <= 0.5 <= high <= 1
    assert "0.6" in describe_identities(meter)["identity_dlib_resnet_distance"]["formula"]
    one = summarise_identities(meter, {name: values[:1] for name, values in found.items()})
    assert one["compared"] == 1 and one["intervals"]["identity_dlib_resnet"] is None
    nobody = summarise_identities(meter, {"mse": np.zeros(3)})  # no image has the columns
    assert (nobody["compared"], nobody["targets_without_face"], nobody["same_person"]) == (0, 3, 0)
    aligned = small_faces.embedder(monkeypatch, "arcface")
    alone = measure_identities(IdentityMeter(embedder=aligned), targets, reconstructions)
    assert set(alone) == {"identity_arcface"} and np.isfinite(alone["identity_arcface"]).all()
    assert summarise_identities(IdentityMeter(embedder=aligned), alone)["targets_without_face"] == 0


def test_without_a_detector_images_are_taken_whole(colours):
    image = _plain((250, 10, 10))
    image[0, :10] = (10, 250, 10)
    similarity, failures = compare_identities(colours, None, image, image[:, ::-1])
    assert not failures
    np.testing.assert_allclose(similarity, 1, atol=1e-6)
    resized = np.asarray(Image.fromarray(image[0]).resize((160, 160), Image.Resampling.BILINEAR), np.float32)
    mean = resized.mean(axis=(0, 1))
    np.testing.assert_allclose(embed(colours, image)[0, :3], mean / np.linalg.norm(mean), rtol=1e-5)
    grey = np.full((2, 9, 9, 1), 7, np.uint8)
    np.testing.assert_allclose(embed(colours, grey)[:, :3], 1 / np.sqrt(3), rtol=1e-5)
    none = np.zeros((0, 9, 9, 3), np.uint8)
    assert embed(colours, none).shape == (0, 512)
    assert compare_identities(colours, None, none, none).similarity.shape == (0,)


def test_arcface_is_given_aligned_images_as_they_are(monkeypatch):
    arcface = small_faces.embedder(monkeypatch, "arcface")
    image = _images(1, 20)
    mean = image.mean(axis=(1, 2))
    np.testing.assert_allclose(embed(arcface, image)[:, :3], mean / np.linalg.norm(mean), rtol=1e-6)
    with pytest.raises(LsapError, match="several sizes"):
        face_embeddings(arcface, None, [_images(1, 8)[0], _images(1, 9)[0]])
    with pytest.raises(LsapError, match="leave the detector out"):
        face_embeddings(arcface, SimpleNamespace(), image)


def test_what_cannot_be_compared_is_refused(colours):
    good = np.zeros((1, 4, 4, 3), np.uint8)
    for bad, message in [
        (np.zeros((4, 4, 3), np.uint8), r"\(4, 4, 3\)"),
        (np.zeros((1, 4, 4, 4), np.uint8), "1 or 3"),
        (np.zeros((1, 0, 4, 3), np.uint8), r"\(0, 4, 3\)"),
        (np.zeros((1, 4, 4, 3), np.int32), "int32"),
        (np.full((1, 4, 4, 3), np.nan), "NaN"),
    ]:
        with pytest.raises(LsapError, match=message):
            embed(colours, bad)
    with pytest.raises(LsapError, match="batch_size 0"):
        embed(colours, good, batch_size=0)
    with pytest.raises(LsapError, match="1 originals and 2 edited"):
        compare_identities(colours, None, good, np.repeat(good, 2, axis=0))
    with pytest.raises(LsapError, match=r"\(2, 512\) and \(3, 512\)"):
        identity_similarity(np.zeros((2, 512)), np.zeros((3, 512)))
    with pytest.raises(LsapError, match="faces of 160 x 160 px, got 64 x 64"):
        embeddings(colours, jnp.zeros((1, 64, 64, 3)))


def test_files_without_a_face_network_are_refused(tmp_path, facenet_reference, facenet):
    checkpoint = facenet_reference[1]
    with pytest.raises(
        LsapError, match="no file of Inception-ResNet v1 or ArcFace's IR-SE50.*vggface2.*lsap-jax convert"
    ):
        load(None, *EMBEDDERS)
    with pytest.raises(LsapError, match="absent: no such file"):
        load(tmp_path / "absent", *EMBEDDERS)
    write_weights(tmp_path / "other", "lpips", {"lin0.weight": np.zeros(3, np.float32)}, {}, {})
    with pytest.raises(LsapError, match="other: holds 'lpips' weights"):
        load(tmp_path / "other", *EMBEDDERS)
    write_weights(tmp_path / "part", "arcface", {"input_layer.2.weight": np.zeros(64, np.float32)}, {}, {})
    with pytest.raises(LsapError, match=r"part: the weights do not fit ArcFace's IR-SE50: - .* and 330 more"):
        load(tmp_path / "part", *EMBEDDERS)
    np.save(tmp_path / "codes.npy", np.zeros((2, 8), np.float32))
    with pytest.raises(LsapError, match=r"codes.npy: .*holds 'codes' weights"):
        load(tmp_path / "codes.npy", *EMBEDDERS)
    kind = checkpoint.kind
    cut = {n: a for n, a in checkpoint.parts[kind].arrays.items() if n != "last_bn.bias"}
    with pytest.raises(LsapError, match=r"- last_bn\.bias \(512,\)"):
        from_checkpoint(_checkpoint(kind, cut)).build(kind)
    with pytest.raises(LsapError, match="do not fit Inception-ResNet v1"):
        from_checkpoint(_checkpoint(kind, {"fc.weight": np.zeros((2, 2))})).build(kind)
    assert "tensors of SHA-256" in facenet.record.weights and facenet.record.trained_on == "unknown"
