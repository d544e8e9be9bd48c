"""MTCNN: its networks against the original's values, its converter, and the cascade as one batched program."""

import io
import zipfile
from functools import partial

import foreign_files as files
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parity import assert_parity, nhwc
from PIL import Image

from convert_weights import ConversionError
from convert_weights.archive import Archive
from convert_weights.convert import completed, save
from convert_weights.mtcnn import NETWORKS, is_mtcnn, is_wheel, mtcnn, wheel
from convert_weights.torch_file import read_legacy
from lsap_jax.errors import LsapError
from lsap_jax.faces.area import crops, means, summed
from lsap_jax.faces.atlas import Search, atlas, level_sizes, pyramid
from lsap_jax.faces.boxes import squared, suppressed
from lsap_jax.faces.cascade import CANDIDATES, SURVIVORS, cascade
from lsap_jax.faces.detect import bundled_detector, canvas, detect, load_detector
from lsap_jax.networks.mtcnn import ONet, PNet, RNet, cells
from lsap_jax.networks.perceptual import max_pool
from lsap_jax.storage.weights_file import read_weights, write_weights

pytestmark = pytest.mark.usefixtures("quick_compilation")

# Of facenet-pytorch 2.6 on skimage.data.astronaut(), as it is.
BOX = [181.05, 62.16, 267.75, 172.05]
LANDMARKS = [[205.01, 101.73], [246.76, 103.71], [224.67, 128.97], [201.72, 139.25], [245.27, 141.86]]


@pytest.fixture(scope="module")
def detector():
    return load_detector()


@pytest.fixture(scope="module")
def astronaut():
    """uint8 [512, 512, 3], from the installed package."""
    return pytest.importorskip("skimage").data.astronaut()


@pytest.fixture(scope="module")
def close(astronaut):
    """256 px of it, around the face."""
    return np.ascontiguousarray(astronaut[:256, 96:352])


# Networks


@pytest.mark.parametrize("case", ["p12", "p24x31", "p37x50", "p20x21"])
def test_pnet_equals_the_original(golden, detector, case):
    data = golden("mtcnn")
    x = jnp.asarray(nhwc(data[f"pnet/{case}/x"]))
    correction, probability = jax.jit(PNet().apply)({"params": detector.params["pnet"]}, x)
    assert correction.shape[1:3] == (cells(x.shape[1]), cells(x.shape[2]))
    assert_parity("mtcnn", f"pnet/{case}/reg", correction, nhwc(data[f"pnet/{case}/reg"]))
    assert_parity("mtcnn", f"pnet/{case}/prob", probability, nhwc(data[f"pnet/{case}/prob"]))


def test_rnet_equals_the_original(golden, detector):
    data = golden("mtcnn")
    found = jax.jit(RNet().apply)({"params": detector.params["rnet"]}, jnp.asarray(nhwc(data["rnet/x"])))
    for output, value in zip(("reg", "prob"), found, strict=True):
        assert_parity("mtcnn", f"rnet/{output}", value, data[f"rnet/{output}"])


def test_onet_and_every_layer_of_it_equal_the_original(golden, detector):
    data = golden("mtcnn")
    x = jnp.asarray(nhwc(np.concatenate([data["onet/x"], data["onet_smooth/x"]])))
    run = jax.jit(partial(ONet().apply, capture_intermediates=True, mutable="intermediates"))
    outputs, state = run({"params": detector.params["onet"]}, x)
    for output, value in zip(("reg", "landmarks", "prob"), outputs, strict=True):
        for case, values in (("onet", value[:4]), ("onet_smooth", value[4:])):
            assert_parity("mtcnn", f"{case}/{output}", values, data[f"{case}/{output}"])
    found = {name: calls["__call__"][0] for name, calls in state["intermediates"].items() if name != "__call__"}
    found |= {f"pool{i}": max_pool(found[f"prelu{i}"], window, ceil=True) for i, window in ((1, 3), (2, 3), (3, 2))}
    layers = {key.removeprefix("onet_inter/"): a for key, a in data.items() if key.startswith("onet_inter/")}
    assert len(layers) == 17 and layers.keys() - found.keys() == {"softmax6_1"}
    for name in found:
        reference = layers[name]
        assert_parity("mtcnn", name, found[name][:1], nhwc(reference) if reference.ndim == 4 else reference)


@pytest.mark.parametrize("size", [(12, 12), (25, 34)])
def test_pnet_sees_images_on_a_sheet_as_if_they_were_alone(detector, size):
    h, w = size
    r = np.random.RandomState(0)
    sheet = r.randn(1, 44, 52, 3).astype(np.float32)  # what is around must not matter
    sheet[:, 4 : 4 + h, 6 : 6 + w] = alone = r.randn(1, h, w, 3).astype(np.float32)
    live = np.zeros((1, 42, 50), bool)
    live[:, 4 : 4 + h - 2, 6 : 6 + w - 2] = True
    variables = {"params": detector.params["pnet"]}
    expected = jax.jit(PNet().apply)(variables, alone)
    found = jax.jit(PNet().apply)(variables, sheet, live)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a[:, 2 : 2 + cells(h), 3 : 3 + cells(w)], b, rtol=1e-5, atol=1e-5)


# Files


def state_dict(name, seed=0):
    r = np.random.RandomState(seed)
    return {key: r.randn(*shape).astype(np.float32) for key, shape in NETWORKS[name].items()}


def legacy(tensors):
    return files.torch_legacy(files.ordered(tensors))


def a_wheel(**replaced):
    """A zip laid out as facenet-pytorch's wheel, with weights of its own."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("facenet_pytorch/__init__.py", "raise SystemExit('this must never run')")
        for name in NETWORKS:
            data = replaced.get(name, legacy(state_dict(name)))
            if data is not None:
                archive.writestr(f"facenet_pytorch/data/{name}.pt", data)
    return Archive(buffer, len(buffer.getvalue()))


def tensors_of(data):
    return read_legacy(memoryview(data))


def test_a_wheel_becomes_a_detector(tmp_path):
    found = wheel(a_wheel())
    part = found.parts["mtcnn"]
    assert found.kind == "mtcnn" and part.config == {"networks": ["pnet", "rnet", "onet"]}
    expected = {f"{name}/{key}": a for name in NETWORKS for key, a in state_dict(name).items()}
    assert part.arrays.keys() == expected.keys()
    for key, a in expected.items():
        np.testing.assert_array_equal(part.arrays[key], a)
    digest = save(tmp_path / "mtcnn.safetensors", completed(found), "a.whl")
    loaded = load_detector(tmp_path / "mtcnn.safetensors")
    assert loaded.sha256 == digest
    dense = loaded.params["onet"]["dense5"]["weight"]
    np.testing.assert_array_equal(dense, expected["onet/dense5.weight"].T)


def test_one_network_is_told_by_its_layers():
    for name in NETWORKS:
        tensors = tensors_of(legacy(state_dict(name)))
        assert is_mtcnn(tensors)
        assert mtcnn(tensors).parts["mtcnn"].config == {"networks": [name]}
    assert not is_mtcnn({}) and not is_mtcnn({"prelu1.weight": None}) and not is_mtcnn({"dense5.weight": None})


def test_wheels_and_networks_that_do_not_fit_are_refused():
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("facenet_pytorch/data/0", b"a torch file of that name")
    assert not is_wheel(Archive(other, len(other.getvalue()))) and is_wheel(a_wheel(rnet=None))
    for replaced, message in (
        ({"rnet": None}, "no member"),
        ({"pnet": legacy(state_dict("rnet"))}, "pnet.pt holds rnet"),
        ({"onet": b"PK nothing"}, "legacy format"),
        ({"onet": files.torch_legacy([1, 2])}, "no state dict"),
        ({"onet": legacy({"weight": np.zeros(3, np.float32)})}, "none of MTCNN's three"),
        ({"onet": legacy(state_dict("onet"))[:-100]}, "truncated"),
    ):
        with pytest.raises(ConversionError, match=message):
            wheel(a_wheel(**replaced))
    for change, message in (
        ({"dense4.weight": np.zeros((128, 577), np.float32)}, r"dense4.weight is \[128, 577\]"),
        ({"logits.weight": np.zeros(3, np.float32)}, "logits"),
        ({"prelu1.weight": np.full(28, np.nan, np.float32)}, "not finite"),
    ):
        with pytest.raises(ConversionError, match=message):
            mtcnn(tensors_of(legacy({**state_dict("rnet"), **change})))


def test_the_weights_of_the_package_say_where_they_come_from():
    kind, arrays, config, provenance = read_weights(bundled_detector())
    assert kind == "mtcnn" and config == {"networks": ["pnet", "rnet", "onet"]}
    assert {name: a.shape for name, a in arrays.items()} == {
        f"{net}/{name}": shape for net, table in NETWORKS.items() for name, shape in table.items()
    }
    assert "MIT" in provenance["licence"] and "facenet" in provenance["format"]
    assert "Timothy Esler" in (bundled_detector().parent / "MTCNN_LICENSE.txt").read_text()


def test_files_that_are_no_detector_are_refused(tmp_path):
    with pytest.raises(LsapError, match="no such file"):
        load_detector(tmp_path / "none")
    kind, arrays, config, _ = read_weights(bundled_detector())
    path = tmp_path / "w.safetensors"
    for changed, what, message in (
        ("inception", arrays, "holds 'inception' weights"),
        (kind, {n: a for n, a in arrays.items() if n.startswith("pnet/")}, r"- rnet/conv1.weight"),
        (kind, {n: a for n, a in arrays.items() if n != "onet/conv1.bias"}, r"- onet/conv1.bias"),
        (kind, {**arrays, "anything/weight": np.zeros(3, np.float32)}, r"\+ anything/weight"),
    ):
        write_weights(path, changed, what, config, {})
        with pytest.raises(LsapError, match=message):
            load_detector(path)
    path.write_bytes(legacy(state_dict("pnet")))
    with pytest.raises(LsapError, match="pnet alone"):
        load_detector(path)
    damaged = bytearray(bundled_detector().read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(LsapError, match="damaged"):
        load_detector(path)


# Areas and boxes


@partial(jax.jit, static_argnums=2)
def a_crop(image, edges, side):
    return crops(summed(image), edges, side)


@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from([12, 24]))
def test_crops_are_means_over_the_pixels_they_touch(height, width, side):
    image = np.random.RandomState(height * 61 + width).randint(0, 256, (1, 70, 70, 1)).astype(np.uint8)
    top, left = 3, 7
    edges = np.array([[[left, top, left + width, top + height]]], np.int32)
    found = np.asarray(a_crop(image, edges, side))[0, 0, :, :, 0]
    part = image[0, top : top + height, left : left + width, 0].astype(float)
    for i in (0, 1, side - 1):
        for j in (0, side // 2, side - 1):
            rows = slice(i * part.shape[0] // side, -(-(i + 1) * part.shape[0] // side))
            columns = slice(j * part.shape[1] // side, -(-(j + 1) * part.shape[1] // side))
            np.testing.assert_allclose(found[i, j], part[rows, columns].mean(), rtol=1e-6)


def test_sums_beyond_32_bits_do_no_harm():
    table = np.full((3, 2, 1), 2**31 - 100).cumsum(axis=0).astype(np.int32)  # wraps
    table[:, 0] = 0
    one = (np.array(1), np.array(2))
    assert jax.jit(means)(table, one, (np.array(0), np.array(1))) == 2**31 - 100


def greedy(boxes, scores, threshold, least):
    """Suppression one box after the other, as it is described everywhere."""
    pixel, kept = (1 if least else 0), []
    areas = (boxes[:, 2] - boxes[:, 0] + pixel) * (boxes[:, 3] - boxes[:, 1] + pixel)
    for i in np.argsort(-scores, kind="stable"):
        ok = scores[i] > 0
        for j in kept:
            common = np.minimum(boxes[i, 2:], boxes[j, 2:]) - np.maximum(boxes[i, :2], boxes[j, :2]) + pixel
            shared = np.maximum(common, 0).prod()
            whole = min(areas[i], areas[j]) if least else areas[i] + areas[j] - shared
            ok &= not shared / whole > threshold
        if ok:
            kept.append(i)
    return kept


@given(st.integers(0, 10**6), st.sampled_from([0.5, 0.7]), st.booleans())
def test_suppression_of_all_boxes_at_once_is_greedy(seed, threshold, least):
    r = np.random.RandomState(seed)
    corner = r.randint(0, 20, (2, 24, 2))
    boxes = np.concatenate([corner, corner + r.randint(4, 16, (2, 24, 2))], axis=-1).astype(np.float32)
    scores = np.sort(np.round(r.rand(2, 24), 1), axis=1)[:, ::-1]  # some of them equal, some 0
    found = np.asarray(jax.jit(suppressed, static_argnums=(2, 3))(boxes, scores > 0, threshold, least))
    for b in range(2):
        assert sorted(greedy(boxes[b], scores[b], threshold, least)) == np.flatnonzero(found[b]).tolist()


def test_squares_keep_the_centre():
    np.testing.assert_allclose(squared(jnp.asarray([[0.0, 0, 4, 10]])), [[-3, 0, 7, 10]])


@pytest.mark.parametrize("size", [(256, 256), (256, 512)])
def test_the_levels_of_an_atlas_do_not_meet(size):
    search = Search()
    levels = pyramid(*size, search)
    sheet = atlas(*size, search)
    level = np.asarray(sheet.level)
    assert [int((level == k).sum()) for k in range(len(levels))] == [h * w for _, (h, w) in levels]
    assert (level < len(levels)).mean() > 0.6  # little of the sheet is empty
    boxes, near = np.asarray(sheet.boxes), np.asarray(sheet.near)
    assert max(abs(d) for step in sheet.steps for d in step) <= 2
    y, x = 10, 12  # a cell of the finest level: which cells around it overlap by half
    for (dy, dx), close in zip(sheet.steps, near, strict=True):
        a, b = boxes[y, x], boxes[y + dy, x + dx]
        shared = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0).prod()
        union = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared
        assert close[y, x] == (shared > 0.5 * union)
    assert canvas(1, 257) == (256, 512)


# The cascade


def test_the_face_of_the_astronaut_is_found(detector, astronaut, close):
    whole, cut = detect(detector, [astronaut, close], longest=256)
    for faces, shift, tolerance in ((whole, 0, 2.5), (cut, 96, 1.5)):  # the whole one at half its size
        assert len(faces) == 1 and faces.scores[0] > 0.99
        assert faces.boxes.dtype == faces.landmarks.dtype == np.float32
        moved = np.array([shift, 0])
        np.testing.assert_allclose(faces.landmarks[0] + moved, LANDMARKS, atol=tolerance)
        np.testing.assert_allclose(faces.boxes[0] + np.tile(moved, 2), BOX, atol=4 * tolerance)


def test_a_face_does_not_depend_on_what_is_beside_it(detector, close):
    noise = np.random.RandomState(0).randint(0, 256, (250, 200, 3)).astype(np.uint8)
    flat = np.full((130, 256, 3), 127, np.uint8)
    small = np.asarray(Image.fromarray(close).resize((160, 190)))
    tiny = np.zeros((19, 300, 3), np.uint8)  # lower than the smallest face
    first = detect(detector, [close, noise, flat, small, tiny], batch_size=4)
    second = detect(detector, [small, small, close], batch_size=1)
    assert [len(faces) for faces in first] == [1, 0, 0, 1, 0] and first[4].landmarks.shape == (0, 5, 2)
    for a, b in ((first[0], second[2]), (first[3], second[0]), (first[3], second[1])):
        np.testing.assert_allclose(a.boxes, b.boxes, atol=1e-3)
        np.testing.assert_allclose(a.landmarks, b.landmarks, atol=1e-3)
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-6)


def test_the_bounds_are_generous(detector, close):
    face = Image.fromarray(close[56:184, 64:192])
    crowd = Image.new("RGB", (256, 256))
    for i in range(36):
        side = 43 - (i == 7) * 14
        crowd.paste(face.resize((side, side)), (i % 6 * 42, i // 6 * 42))
    search, sizes = Search(), np.full((1, 2), 256, np.int32)
    levels = level_sizes(sizes, len(pyramid(256, 256, search)), search)
    found = cascade(detector.params, atlas(256, 256, search), np.asarray(crowd)[None], sizes, levels, search)
    assert int(found.faces.sum()) >= 30
    assert (np.asarray(found.counts[0]) < [CANDIDATES / 2, SURVIVORS / 2]).all()  # a crowd is far from the bounds


def test_the_largest_face_is_first(detector, close):
    three = Image.fromarray(close)
    for side, place in ((60, (0, 190)), (80, (170, 170))):
        three.paste(Image.fromarray(close[56:184, 64:192]).resize((side, side)), place)
    (faces,) = detect(detector, [np.asarray(three)])
    sides = faces.boxes[:, 2:] - faces.boxes[:, :2]
    assert len(faces) == 3 and (np.diff(sides.prod(axis=1)) < 0).all()
    assert faces.boxes[0, 1] < 80 and faces.boxes[1, 0] > 150 and faces.boxes[2, 0] < 60


def test_what_cannot_be_searched_is_refused(detector):
    good = np.zeros((30, 30, 3), np.uint8)
    for bad in (good.astype(np.float32), good[..., :1], good[0], np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(LsapError, match="uint8 images"):
            detect(detector, [bad])
    for options, message in (
        ({"min_face": 11}, "min_face=11"),
        ({"min_face": float("nan")}, "min_face"),
        ({"min_face": float("inf")}, "min_face=inf"),
        ({"factor": 1.0}, "factor=1"),
        ({"thresholds": (0.6, 0.7)}, "thresholds"),
        ({"thresholds": (0.6, 0.7, 1.0)}, "thresholds"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"longest": 0}, "longest=0"),
    ):
        with pytest.raises(LsapError, match=message):
            detect(detector, [good], **options)
    assert detect(detector, np.zeros((0, 30, 30, 3), np.uint8)) == []
