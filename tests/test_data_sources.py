"""Image sources: what is found and under which names, arrays, datasets, and loading ahead."""

import hashlib
import os
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lsap_jax.data import ImageError, from_arrays, open_images, to_float, to_uint8
from lsap_jax.data.ids import assign_ids, check_ids, clashes, id_problem
from lsap_jax.errors import LsapError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (16, 16, 3), np.uint8)
GREY = RGB[..., 0]
SAME = {"resolution": 16, "channels": 3}


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


# What is found, and under which names


def test_a_folder_is_searched_through_in_a_fixed_order(tmp_path):
    for name in ("b/2.PNG", "b/10.png", "a.jpg", "c d/é.webp", ".hidden.png", ".cache/x.png", "b/._2.png"):
        save(tmp_path / name, RGB)
    (tmp_path / "notes.txt").write_text("no image")
    source = open_images(tmp_path, **SAME)
    assert source.ids == ("a", "b/10", "b/2", "c d/é")
    assert len(source) == 4
    assert [Path(path).name for path in source.skipped] == [".cache", ".hidden.png", "._2.png", "notes.txt"]
    assert source.inputs[1] == str(tmp_path / "b/10.png")
    assert [item.id for _, item in source.stream(workers=1)] == list(source.ids)


def test_links_to_folders_are_followed_but_not_round_in_circles(tmp_path):
    save(tmp_path / "elsewhere/1.png", RGB)
    (tmp_path / "set").mkdir()
    (tmp_path / "set/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "set")
    assert open_images(tmp_path / "set", **SAME).ids == ("linked/1",)


def test_globs_files_and_lists(tmp_path, monkeypatch):
    for name in ("x/1.png", "x/2.jpg", "y/1.png", "y/z/3.png"):
        save(tmp_path / name, RGB)
    (tmp_path / "x/odd.data").write_bytes((tmp_path / "x/1.png").read_bytes())
    cases = [
        (f"{tmp_path}/x/*.png", ("1",)),
        (f"{tmp_path}/*/1.png", ("x/1", "y/1")),
        (f"{tmp_path}/**/*.png", ("x/1", "y/1", "y/z/3")),
        (f"{tmp_path}/y/*", ("1", "z/3")),
        (f"{tmp_path}/y/**", ("1", "z/3")),
        (tmp_path / "x/odd.data", ("odd",)),
        ([tmp_path / "x/1.png"], ("1",)),
        ([f"{tmp_path}/x/2.jpg", f"{tmp_path}/x/1.png", f"{tmp_path}/x/../x/1.png"], ("1", "2")),
        ([tmp_path / "x/1.png", tmp_path / "y/1.png"], ("x/1", "y/1")),
        ([tmp_path / "x", tmp_path / "y"], ("x/1", "x/2", "y/1", "y/z/3")),
    ]
    for spec, ids in cases:
        assert open_images(spec, **SAME).ids == ids, spec
    monkeypatch.chdir(tmp_path)
    assert open_images("x", **SAME).ids == ("1", "2")
    assert open_images("y/../x/1.png", **SAME).load(0).id == "1"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_images("~/x/*.jpg", **SAME).ids == ("2",)


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path):
    path = save(tmp_path / "a[1].png", RGB)
    assert open_images(path, **SAME).ids == ("a[1]",)


def test_nothing_found_is_said(tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    for spec, message in (
        (tmp_path, "no image files found .1 other"),
        (tmp_path / "absent.png", "no such file"),
        (f"{tmp_path}/*.png", "no file matches"),
        ([], "no image files"),
    ):
        with pytest.raises(LsapError, match=message):
            open_images(spec, **SAME)


def test_a_folder_that_may_not_be_listed_is_not_passed_over(tmp_path, monkeypatch):
    save(tmp_path / "a.png", RGB)

    def denied(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(LsapError, match="cannot be listed"):
        open_images(tmp_path, **SAME)


def test_inputs_that_would_share_an_id_keep_their_suffixes(tmp_path):
    for name in ("p/a.png", "p/a.jpg", "q/a.png", "b.png"):
        save(tmp_path / name, RGB)
    source = open_images(tmp_path, **SAME)
    assert source.ids == ("b", "p/a.jpg", "p/a.png", "q/a")
    assert all(item.id == source.ids[i] for i, item in source.stream())


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["a.png", "A.jpg"], ["a.png", "A.jpg"]),  # one file where case is ignored
        (["a.png", "a.jpg", "a.png.jpg"], ["a.png", "a.jpg", "a.png.jpg"]),  # keeping a suffix makes another clash
        (["a.jpg", "a/b.png"], ["a", "a/b"]),  # images/a.png beside images/a/b.png
        (["a.jpg", "a.png/b.jpg"], ["a.jpg", "a.png/b"]),  # images/a.png would be a file and a folder
        (["..png", "...png", ".png"], ["..png", "...png", ".png"]),  # without a suffix they would be "." and ".."
        (["a.b.png", "c", "d."], ["a.b", "c", "d."]),
        (["x\ny.png", "back\\slash.png", "z\udcff.png"], ["x%0Ay", "back%5Cslash", "z%FF"]),
    ],
)
def test_ids(names, ids):
    assert assign_ids(names) == ids


@pytest.mark.parametrize(
    "names", [["a.png", "A.png"], ["é.png", "e\u0301.png"], ["a", "a.png/b"], ["x\n.png", "x%0A.png"], ["n" * 252]]
)
def test_names_that_cannot_be_kept_apart_are_refused(names):
    with pytest.raises(LsapError, match="rename"):
        assign_ids(names)


plain_names = st.lists(st.text(st.sampled_from("aAb.%é\n\\ "), min_size=1, max_size=5), min_size=1, max_size=3).map(
    "/".join
)


@given(st.lists(plain_names, min_size=1, max_size=8, unique=True))
def test_ids_are_safe_paths_that_never_meet(names):
    try:
        ids = assign_ids(names)
    except LsapError:
        return
    assert len(ids) == len(names)
    assert all(id_problem(text) is None for text in ids)
    assert not clashes(ids)
    for text in ids:
        resolved = os.path.normpath(os.path.join("/run/images", text))
        assert resolved == "/run/images/" + text


@given(st.text(max_size=12))
def test_an_accepted_id_stays_in_its_folder(text):
    if id_problem(text) is None:
        assert os.path.normpath(f"/run/images/{text}.png") == f"/run/images/{text}.png"
        assert text.isprintable() or not any(ord(c) < 32 for c in text)
        check_ids([text])
    else:
        with pytest.raises(LsapError, match="another one"):
            check_ids([text])


@pytest.mark.parametrize("bad", ["", "/etc/x", "../x", "a/../b", "a//b", "a/", "a\0b", "a\x7f", "a\\b", "a\u2028b", 7])
def test_unsafe_ids_are_refused(bad):
    with pytest.raises(LsapError, match="give the image another one"):
        check_ids([bad])


# Arrays


def test_arrays_of_every_dtype():
    expected = RGB[None]
    for images in (
        expected,
        expected.astype(np.uint16) * 257,
        to_float(expected),
        to_float(expected).astype(np.float64),
    ):
        source = from_arrays(images, **SAME)
        assert source.ids == ("0",) and source.inputs == ("array 0",)
        np.testing.assert_array_equal(source.load(0).image, RGB)
    clipped = from_arrays(to_float(expected) * 1.5, **SAME).load(0)
    np.testing.assert_array_equal(clipped.image, to_uint8(to_float(RGB) * 1.5))
    assert clipped.notes[0].startswith("clipped to [-1, 1] from -1.5")
    grey_alpha = np.stack([GREY, np.zeros_like(GREY)], -1)[None]
    assert (from_arrays(grey_alpha, **SAME).load(0).image == 255).all()
    assert from_arrays(GREY[None, ..., None], resolution=16, channels=1).load(0).image.shape == (16, 16, 1)


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        (np.full((1, 4, 4, 3), 255.0), "rescale"),
        (np.full((1, 4, 4, 3), np.nan), "NaN"),
        (np.zeros((1, 4, 4, 3), np.int64), "int64"),
        (np.zeros((1, 4, 4, 5), np.uint8), "shape"),
        (np.zeros((1, 0, 4, 3), np.uint8), "shape"),
    ],
)
def test_arrays_that_are_no_images_fail_alone(images, reason):
    with pytest.raises(ImageError, match=f"array 0: .*{reason}"):
        from_arrays(images, **SAME).load(0)


def test_wrong_numbers_of_arrays_and_ids():
    images = np.zeros((2, 4, 4, 3), np.uint8)
    for bad, ids, message in (
        (images[0], None, "N, H, W, C"),
        (images[:0], None, "at least one"),
        (images, ["a"], "1 ids for 2"),
        (images, ["a", "a"], "share a file"),
        (images, ["a", "A"], "share a file"),
    ):
        with pytest.raises(LsapError, match=message):
            from_arrays(bad, ids, **SAME)


def test_digests_tell_inputs_apart(tmp_path):
    path = save(tmp_path / "a.png", RGB)
    assert open_images(path, **SAME).load(0).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    digests = {
        from_arrays(images, **SAME).load(0).sha256 for images in (RGB[None], to_float(RGB)[None], RGB[None, ::-1])
    }
    assert len(digests) == 3
    assert from_arrays(RGB[None], ["x"], **SAME).load(0).sha256 in digests


# Loading ahead


def test_a_selection_is_a_source_of_its_own():
    images = np.stack([np.full((4, 4, 3), level, np.uint8) for level in range(6)])
    chosen = from_arrays(images, resolution=4, channels=3).select([5, 1, 3]).select([2, 0])
    assert chosen.ids == ("3", "5") and chosen.inputs == ("array 3", "array 5")
    assert [item.image[0, 0, 0] for _, item in chosen.stream()] == [3, 5]


def test_loading_ahead_keeps_order_and_bounds_and_stops():
    images = np.zeros((50, 4, 4, 3), np.uint8)
    asked: list[int] = []
    source = from_arrays(images, resolution=4, channels=3)
    counted = type(source)(**{**vars(source), "read": lambda i: asked.append(i) or images[i]})
    stream = counted.stream([*range(49, -1, -1)], workers=2)
    assert [next(stream)[0] for _ in range(3)] == [49, 48, 47]
    assert len(asked) <= 3 + 5
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("lsap-load")]


def test_a_defect_while_loading_ahead_is_not_taken_for_a_bad_image():
    source = from_arrays(np.zeros((2, 4, 4, 3), np.uint8), resolution=4, channels=3)
    broken = type(source)(**{**vars(source), "read": lambda i: 1 / 0})
    with pytest.raises(ZeroDivisionError):
        list(broken.stream())


# TensorFlow Datasets


def fake_tfds(monkeypatch, features: dict, examples) -> types.ModuleType:
    """Stands for the library: the three names that are used, with its behaviour as of 4.9."""
    module = types.ModuleType("tensorflow_datasets")
    image = type("Image", (), {})
    module.features = types.SimpleNamespace(Image=image)
    module.decode = types.SimpleNamespace(SkipDecoding=lambda: "as stored")
    kinds = {key: image() if is_image else object() for key, is_image in features.items()}
    module.builder = lambda name: types.SimpleNamespace(info=types.SimpleNamespace(features=kinds))

    def data_source(name, split, decoders):
        assert list(decoders.values()) == ["as stored"]
        if split != "train[:3]":
            raise ValueError(f"Unknown split {split!r}.\nA page of text follows.")
        return examples

    module.data_source = data_source
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", module)
    return module


def test_a_dataset_is_read_by_random_access(tmp_path, monkeypatch):
    stored = save(tmp_path / "a.png", RGB).read_bytes()
    fake_tfds(monkeypatch, {"label": False, "photo": True}, [{"photo": stored}, {"photo": b"bad"}, {"photo": RGB}])
    source = open_images("tfds:some/config:1.0.0/train[:3]", **SAME)
    assert source.ids == ("000000", "000001", "000002")
    np.testing.assert_array_equal(source.load(0).image, RGB)
    np.testing.assert_array_equal(source.load(2).image, RGB)
    with pytest.raises(ImageError, match=r"tfds:some/config:1.0.0/train\[:3\] 000001: not an image"):
        source.load(1)


def test_datasets_that_cannot_be_used_are_refused(monkeypatch):
    with pytest.raises(LsapError, match="tfds:NAME/SPLIT"):
        open_images("tfds:mnist", **SAME)
    with pytest.raises(LsapError, match="opened alone"):
        open_images(["tfds:mnist/test", "x.png"], **SAME)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(LsapError, match=r"pip install 'lsap-jax\[tfds\]'"):
        open_images("tfds:mnist/test", **SAME)
    fake_tfds(monkeypatch, {"image": True, "mask": True}, [])
    with pytest.raises(LsapError, match=r"Unknown split 'val'\. \(datasets"):
        open_images("tfds:some/val", **SAME)
    with pytest.raises(LsapError, match="split is empty"):
        open_images("tfds:some/train[:3]", **SAME)
    fake_tfds(monkeypatch, {"left": True, "right": True}, [])
    with pytest.raises(LsapError, match="2 image features among left, right"):
        open_images("tfds:some/train[:3]", **SAME)
