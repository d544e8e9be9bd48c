"""Image sources: what is found and under which names, arrays, datasets, and loading ahead."""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lsap_jax.data import ImageError, Source, from_arrays, open_images
from lsap_jax.data.ids import assign_ids, check_ids, clashes, id_problem
from lsap_jax.errors import LsapError
from lsap_jax.pixels import to_float, to_uint8

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


def test_what_lies_among_the_results_is_left_out(tmp_path, monkeypatch):
    own = [str(save(tmp_path / "in" / "out" / name, RGB)) for name in ("a.png", "deep/b.png")]
    save(tmp_path / "in" / "c.png", RGB)
    save(tmp_path / "in" / "output" / "d.png", RGB)
    (tmp_path / "in" / "out" / "run.json").write_text("{}")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "in" / "out")
    monkeypatch.chdir(tmp_path)
    for spec in ("in", "in/**/*.png", tmp_path / "in"):
        found = open_images(spec, **SAME, out="in/out")
        assert found.ids == ("c", "output/d") and found.skipped == ()
        assert {os.path.realpath(path) for path in found.results} == set(own)
    assert open_images("in", **SAME, out="elsewhere").results == ()
    assert open_images(["in/out/a.png", "in/c.png"], **SAME, out="in/out").ids == ("c", "out/a")  # by their names
    for spec, named in (("in/out", "in/out"), ("in/out/deep", "in/out"), ("in/out/*.png", "in/out"), ("in", tmp_path)):
        with pytest.raises(LsapError, match="lies in .*, where the results go; choose another folder"):
            open_images(spec, **SAME, out=named)
    with pytest.raises(LsapError, match="no image files found"):
        open_images("in/l*/*.png", **SAME, out="in/out")


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


# File lists


def listed(tmp_path: Path, text: str | bytes, name: str = "set.txt") -> str:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return f"@{tmp_path / name}"


def test_a_file_list_keeps_its_order(tmp_path, monkeypatch):
    for name in ("x/2.png", "x/10.png", "y/é 1.png", "y/#3.png"):
        save(tmp_path / name, RGB)
    text = f"# a comment\r\n\r\nx/2.png\r\n  y/é 1.png  \n./x/../x/10.png\n{tmp_path}/x/2.png\ny/#3.png\n"
    expected = ("x/2", "y/é 1", "x/10", "y/#3")
    source = open_images(listed(tmp_path, b"\xef\xbb\xbf" + text.encode()), **SAME)
    assert source.ids == expected and source.inputs[1] == str(tmp_path / "y/é 1.png")
    assert [item.id for _, item in source.stream()] == list(expected)
    monkeypatch.chdir(tmp_path)
    assert open_images("@set.txt", **SAME).ids == expected
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_images("@~/set.txt", **SAME).ids == expected
    assert open_images(listed(tmp_path, "~/x/10.png\nx/2.png"), **SAME).ids == ("10", "2")


def test_a_file_list_beside_other_specs(tmp_path):
    for name in ("x/2.png", "x/1.png", "y/3.png", "y/4.png", "z.png"):
        save(tmp_path / name, RGB)
    specs = [tmp_path / "z.png", listed(tmp_path, "y/4.png\nx/2.png\ny/3.png"), f"{tmp_path}/x"]
    assert open_images(specs, **SAME).ids == ("z", "y/4", "x/2", "y/3", "x/1")


def test_a_listed_file_that_is_not_there_fails_alone(tmp_path):
    save(tmp_path / "good.png", RGB)
    (tmp_path / "folder.png").mkdir()
    source = open_images(listed(tmp_path, "gone.png\ngood.png\nfolder.png\nno/such.png\n"), **SAME)
    outcomes = dict(source.stream())
    assert source.ids == ("gone", "good", "folder", "no/such")
    np.testing.assert_array_equal(outcomes[1].image, RGB)
    for index, reason in ((0, "not there"), (2, "not a regular file"), (3, "not there")):
        assert isinstance(outcomes[index], ImageError) and reason in outcomes[index].reason


def test_a_file_whose_name_looks_like_a_list_is_that_file(tmp_path, monkeypatch):
    save(tmp_path / "@a.png", RGB)
    monkeypatch.chdir(tmp_path)
    assert open_images("@a.png", **SAME).ids == open_images("./@a.png", **SAME).ids == ("@a",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no file"),
        ("\n# nothing\n  \n", "names no file"),
        (b"a.png\n\xff\xfe.png\n", "line 2: is not UTF-8"),
        ("a.png".encode("utf-16"), "line 1: is not UTF-8"),
        (b"\x89PNG\r\n\x1a\n", "line 1: is not UTF-8"),
        ("a.png\n\n\0\0\n", "line 3: .* control characters"),
        ("a.png\tcat\n", "line 1: .* control characters"),
        ("a.png\nphotos/\n", "line 2: 'photos/' is a folder"),
        ("# x\ngs://bucket/a.png", "line 2: 'gs://bucket/a.png' is no path"),
        ("tfds:mnist/test", "line 1: .* is no path"),
        ("A.png\na.png", "would share a file"),
    ],
)
def test_lists_that_are_none_are_refused(tmp_path, text, message):
    with pytest.raises(LsapError, match=message):
        open_images(listed(tmp_path, text), **SAME)


def test_lists_that_cannot_be_read_are_named(tmp_path):
    for path, reason in ((tmp_path / "none.txt", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(LsapError, match=f"@{path}: the list cannot be read .{reason}"):
            open_images(f"@{path}", **SAME)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_list_or_refused(data):
    with tempfile.TemporaryDirectory() as folder:
        try:
            source = open_images(listed(Path(folder), data), **SAME)
        except LsapError as error:
            assert str(error)
        else:
            assert all(isinstance(outcome, ImageError) for _, outcome in source.stream())


def test_a_folder_that_may_not_be_listed_is_not_passed_over(tmp_path, monkeypatch):
    save(tmp_path / "a.png", RGB)

    def denied(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(LsapError, match="cannot be listed"):
        open_images(tmp_path, **SAME)


def test_a_bad_entry_of_a_folder_fails_alone(tmp_path, monkeypatch):
    save(tmp_path / "a.png", RGB)
    save(tmp_path / ("n" * 251 + ".png"), RGB)
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe.png")
    save(tmp_path / "closed" / "b.png", RGB)
    (tmp_path / os.fsdecode(b"odd\xff\x1b.png")).write_bytes(b"")

    def denied(real):
        def call(path):
            if os.path.basename(path) == "closed":
                raise PermissionError(13, "Permission denied")
            return real(path)

        return call

    monkeypatch.setattr(os, "scandir", denied(os.scandir))
    monkeypatch.setattr(os, "listdir", denied(os.listdir))
    source = open_images(tmp_path, **SAME)
    outcomes = {source.ids[i]: outcome for i, outcome in source.stream()}
    reasons = {id: one.reason for id, one in outcomes.items() if isinstance(one, ImageError)}
    assert reasons == {
        "closed": "cannot be read (Permission denied)",
        "loop": "cannot be read (Too many levels of symbolic links)",
        "odd%FF%1B": "the file is empty",
        "pipe": "not a regular file",
    }
    assert outcomes.keys() - reasons.keys() == {"a", "n" * 251} and source.skipped == (str(tmp_path / "loop"),)


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
        (["n" * 251 + ".png"], ["n" * 251]),  # of the results, ID.png has 255 bytes
    ],
)
def test_ids(names, ids):
    assert assign_ids(names) == ids


@pytest.mark.parametrize(
    "names", [["a.png", "A.png"], ["é.png", "e\u0301.png"], ["a", "a.png/b"], ["x\n.png", "x%0A.png"]]
)
def test_names_that_cannot_be_kept_apart_are_refused(names):
    with pytest.raises(LsapError, match="rename"):
        assign_ids(names)


def test_names_too_long_for_results_are_cut_and_kept_apart():
    names = [
        "n" * 252 + ".png",
        "n" * 252 + ".jpg",
        "n" * 251 + "m.png",
        "ü" * 127 + ".png",
        "\udcff" * 100,
        "d" * 253 + "/a",
    ]
    ids = assign_ids(names)
    assert ids == assign_ids(names[::-1])[::-1] and len(set(ids)) == len(ids)
    assert all(id_problem(text) is None and "~" in text for text in ids)
    assert assign_ids(names[:1])[0].startswith("n" * 234 + "~")  # the same without neighbours but for the suffix
    assert ids[2:] == [assign_ids([name])[0] for name in names[2:]]


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


def watched(count: int, before: Callable[[int], None]) -> Source:
    """A source that calls `before` with the index of each image when it is about to be loaded."""
    images = np.zeros((count, 4, 4, 3), np.uint8)

    def read(index: int) -> np.ndarray:
        before(index)
        return images[index]

    return replace(from_arrays(images, resolution=4, channels=3), read=read)


def test_loading_ahead_keeps_order_and_stops():
    stream = watched(50, lambda index: None).stream([*range(49, -1, -1)], workers=2)
    assert [next(stream)[0] for _ in range(3)] == [49, 48, 47]
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("lsap-load")]


@pytest.mark.parametrize(("ahead", "workers"), [(0, 1), (1, 2), (5, 2), (12, 3)])
def test_so_many_images_are_loaded_ahead_and_no_more(ahead, workers):
    """After each image, exactly the next `ahead` have been begun, without being asked for."""
    begun = [threading.Event() for _ in range(40)]
    stream = watched(40, lambda index: begun[index].set()).stream(ahead=ahead, workers=workers)
    assert not begun[0].is_set()  # nothing before the first `next`
    for index in range(20):
        assert next(stream)[0] == index
        assert all(event.wait(30) for event in begun[: index + ahead + 1])
        assert not any(event.is_set() for event in begun[index + ahead + 1 :])
    assert [index for index, _ in stream] == [*range(20, 40)]


def test_a_batch_is_there_when_it_is_asked_for():
    """While a batch is computed the next one is loaded: it is handed out though nothing more can be loaded."""
    batch, gate, loaded = 8, threading.Event(), [threading.Event() for _ in range(24)]

    def read(index: int) -> None:
        if index >= 2 * batch:
            assert gate.wait(30)
        loaded[index].set()

    stream = watched(24, read).stream(ahead=batch)
    assert [next(stream)[0] for _ in range(batch)] == [*range(batch)]
    assert all(event.wait(30) for event in loaded[: 2 * batch])  # the computation
    assert [next(stream)[0] for _ in range(batch)] == [*range(batch, 2 * batch)]
    assert not any(event.is_set() for event in loaded[2 * batch :])
    gate.set()
    assert [index for index, _ in stream] == [*range(2 * batch, 24)]


def test_negative_numbers_of_images_ahead_are_refused():
    with pytest.raises(ValueError, match="ahead=-1"):
        next(watched(2, lambda index: None).stream(ahead=-1))


def test_a_defect_while_loading_ahead_is_not_taken_for_a_bad_image():
    source = from_arrays(np.zeros((2, 4, 4, 3), np.uint8), resolution=4, channels=3)
    broken = type(source)(**{**vars(source), "read": lambda i: 1 / 0})
    with pytest.raises(ZeroDivisionError):
        list(broken.stream())


# TensorFlow Datasets


def fake_tfds(monkeypatch, features: dict, examples, stored_as: str | None = "array_record") -> types.ModuleType:
    """Stands for the library: the three names that are used, with its behaviour as of 4.9.10."""
    module = types.ModuleType("tensorflow_datasets")
    image = type("Image", (), {})
    module.features = types.SimpleNamespace(Image=image)
    module.decode = types.SimpleNamespace(SkipDecoding=lambda: "as stored")
    kinds = {key: image() if is_image else object() for key, is_image in features.items()}
    info = types.SimpleNamespace(
        features=kinds, available_file_formats=lambda: [types.SimpleNamespace(value=stored_as)]
    )
    builder = types.SimpleNamespace(info=info, is_prepared=lambda: stored_as is not None, data_path="/data/some/1.0.0")
    module.builder = lambda name: builder

    def data_source(name, split, decoders):
        assert list(decoders.values()) == ["as stored"]
        if stored_as is None:
            raise ModuleNotFoundError("No module named 'tensorflow'")
        if stored_as != "array_record":
            raise ValueError(f"File format array_record does not match the file formats: ['{stored_as}'].")
        if split != "train[:3]":
            raise ValueError(f"Unknown split {split!r}.\nA page of text follows.")
        return examples

    builder.as_data_source = lambda **options: data_source("some", **options)
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
    with pytest.raises(LsapError, match=r"pip install '\.\[tfds\]'"):
        open_images("tfds:mnist/test", **SAME)
    fake_tfds(monkeypatch, {"image": True, "mask": True}, [])
    with pytest.raises(LsapError, match=r"Unknown split 'val'\. \(datasets"):
        open_images("tfds:some/val", **SAME)
    with pytest.raises(LsapError, match="split is empty"):
        open_images("tfds:some/train[:3]", **SAME)
    fake_tfds(monkeypatch, {"left": True, "right": True}, [])
    with pytest.raises(LsapError, match="2 image features among left, right"):
        open_images("tfds:some/train[:3]", **SAME)


def test_datasets_in_another_format_or_not_prepared_are_told_the_remedy(monkeypatch):
    fake_tfds(monkeypatch, {"image": True}, [], stored_as="tfrecord")
    with pytest.raises(LsapError) as caught:
        open_images("tfds:some/train[:3]", **SAME)
    assert str(caught.value) == (
        "tfds:some/train[:3]: is prepared as tfrecord in /data/some/1.0.0, and only ArrayRecord is read; convert it "
        "where tensorflow, apache-beam and mlcroissant are installed: tfds convert_format "
        "--dataset_version_dir=/data/some/1.0.0 --out_file_format=array_record"
    )
    fake_tfds(monkeypatch, {"image": True}, [], stored_as=None)
    with pytest.raises(LsapError, match="not prepared yet.*No module named 'tensorflow'.*builder.'some'"):
        open_images("tfds:some/train[:3]", **SAME)


IMAGE_FEATURE = {
    "pythonClassName": "tensorflow_datasets.core.features.image_feature.Image",
    "image": {"dtype": "uint8", "shape": {"dimensions": ["-1", "-1", "3"]}},
}


def prepared(folder: Path, images: list[bytes], file_format: str = "array_record") -> None:
    """A dataset "tiny" as TensorFlow Datasets lays it out, written without it."""
    from array_record.python.array_record_module import ArrayRecordWriter

    def field(data: bytes) -> bytes:
        """Field 1 of a protocol buffer, of bytes."""
        size = len(data)
        assert size < 1 << 14
        length = bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])
        return b"\x0a" + length + data

    version = folder / "tiny" / "1.0.0"
    version.mkdir(parents=True)
    writer = ArrayRecordWriter(str(version / f"tiny-test.{file_format}-00000-of-00001"), "group_size:1")
    for data in images:  # Example.features.feature["image"].bytes_list.value
        value = field(field(data))
        writer.write(field(field(field(b"image") + b"\x12" + field(value)[1:])))
    writer.close()
    split = {"filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}", "name": "test"}
    split |= {"numBytes": "1", "shardLengths": [str(len(images))]}
    info = {"fileFormat": file_format, "moduleName": "tiny", "name": "tiny", "splits": [split], "version": "1.0.0"}
    features = "tensorflow_datasets.core.features.features_dict.FeaturesDict"
    described = {"pythonClassName": features, "featuresDict": {"features": {"image": IMAGE_FEATURE}}}
    (version / "dataset_info.json").write_text(json.dumps(info))
    (version / "features.json").write_text(json.dumps(described))


def in_a_new_process(folder: Path, spec: str) -> str:
    """What opening a dataset gives, and that TensorFlow had no part in it."""
    code = """
import sys
from lsap_jax.data import open_images
try:
    source = open_images(sys.argv[1], resolution=16, channels=3)
except Exception as error:
    print(type(error).__name__, error)
else:
    for i, item in source.stream():
        print(source.ids[i], getattr(item, "sha256", item))
assert "tensorflow" not in sys.modules
"""
    environment = {**os.environ, "TFDS_DATA_DIR": str(folder)}
    result = subprocess.run([sys.executable, "-c", code, spec], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_library_itself_reads_array_records_without_tensorflow(tmp_path):
    for package in ("tensorflow_datasets", "array_record"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    stored = [save(tmp_path / f"{i}.png", RGB[::-1] if i else RGB).read_bytes() for i in range(3)]
    prepared(tmp_path / "a", [stored[0], b"nothing", stored[2]])
    lines = in_a_new_process(tmp_path / "a", "tfds:tiny/test").splitlines()
    assert lines[0] == f"000000 {hashlib.sha256(stored[0]).hexdigest()}"
    assert lines[1].startswith("000001 tfds:tiny/test 000001: not an image")
    assert lines[2] == f"000002 {hashlib.sha256(stored[2]).hexdigest()}"
    assert in_a_new_process(tmp_path / "a", "tfds:tiny:1.0.0/test[2:]").splitlines() == [f"000000{lines[2][6:]}"]
    assert "LsapError tfds:tiny/val: Unknown split 'val'" in in_a_new_process(tmp_path / "a", "tfds:tiny/val")
    prepared(tmp_path / "b", stored, file_format="tfrecord")
    prepared(tmp_path / "c", stored)
    info = tmp_path / "c/tiny/1.0.0/dataset_info.json"  # as `tfds convert_format` leaves it
    info.write_text(
        json.dumps(
            json.loads(info.read_text()) | {"fileFormat": "tfrecord", "alternativeFileFormats": ["array_record"]}
        )
    )
    assert len(in_a_new_process(tmp_path / "c", "tfds:tiny/test").splitlines()) == 3
    said = in_a_new_process(tmp_path / "b", "tfds:tiny/test")
    assert f"is prepared as tfrecord in {tmp_path}/b/tiny/1.0.0, and only ArrayRecord is read" in said
