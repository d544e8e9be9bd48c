"""Every face of a picture: which are taken, in which order, and `lsap-jax align --face=all`."""

import shutil

import numpy as np
import pytest
from PIL import Image
from small_runs import write_run
from test_align import FRONTAL, faces_of, psnr, read_png, small

from lsap_jax.cli import main
from lsap_jax.faces.align import align
from lsap_jax.faces.aligned_folder import SETTINGS, opened, picture_of, pictures
from lsap_jax.faces.choose import FaceError
from lsap_jax.faces.detect import Faces, nobody
from lsap_jax.faces.every import _in_levels, find_every
from lsap_jax.faces.paste import paste
from lsap_jax.faces.upright import LOOK, Small
from lsap_jax.storage.atomic import encode_record, read_records
from lsap_jax.testing import tiny_generator

IDEAL = faces_of((FRONTAL - 0.5 - (19, 23.5)) * (LOOK / 162) + 0.5)  # as the crop of FRONTAL shows it
WIDE = small(np.zeros((256, 1024, 3), np.uint8))


def found(monkeypatch, picture, *answers, **options):
    """What `find_every` makes of the detector's answers, in the order of its searches, one answer per image."""
    rest = iter(answers)
    monkeypatch.setattr("lsap_jax.faces.upright.detect_small", lambda _, images, *__: [next(rest) for _ in images])
    monkeypatch.setattr("lsap_jax.faces.every.detect_small", lambda _, images, *__: [next(rest) for _ in images])
    (one,) = find_every(None, [picture], 128, **options)
    assert next(rest, None) is None
    return one


def test_faces_come_from_left_to_right_whatever_their_size(monkeypatch):
    right, left, middle = FRONTAL * 1.2 + (700, 0), FRONTAL, FRONTAL * 1.1 + (300, 0)
    every = found(monkeypatch, WIDE, faces_of(right, middle, left), IDEAL, IDEAL, IDEAL)
    assert [int(meant.chosen) for meant in every.meant] == [2, 1, 0] and every.left_out == []


def test_each_face_is_held_to_what_one_is(monkeypatch):
    tiny, cut, aside = FRONTAL * 0.1 + (200, 100), FRONTAL + (-90, 0), FRONTAL + (600, 0)
    aside[2, 0] -= 30
    all_of_them = faces_of(FRONTAL + (300, 0), FRONTAL + (800, 0), tiny, cut, aside)
    doubtful = Faces(
        all_of_them.boxes,
        np.array(
            [
                0.99,
                0.99,
                0.99,
                0.99,
                0.99,
            ],
            np.float32,
        ),
        all_of_them.landmarks,
    )
    every = found(monkeypatch, WIDE, doubtful, IDEAL, nobody())
    assert [int(meant.chosen) for meant in every.meant] == [0]
    reasons = " ".join(every.left_out)
    assert len(every.left_out) == 4
    for why in ("not found again", "too small", "cut off", "from the side"):
        assert why in reasons
    unsure = Faces(all_of_them.boxes, np.array([0.99, 0.5, 0.5, 0.5, 0.5], np.float32), all_of_them.landmarks)
    assert found(monkeypatch, WIDE, unsure, IDEAL).left_out == [], "what is not certain is no face"
    every = found(monkeypatch, WIDE, all_of_them, IDEAL, IDEAL, nobody(), profiles=True)
    assert [int(meant.chosen) for meant in every.meant] == [0, 4, 1], "the second look may miss a profile"


def test_where_the_largest_cannot_be_aligned_the_others_are(monkeypatch):
    cut, whole = FRONTAL * 1.3 + (-120, 0), FRONTAL + (300, 0)
    faces = faces_of(cut, whole)
    turned = [nobody()] * 3
    every = found(monkeypatch, WIDE, faces, *turned, faces, IDEAL)
    assert [int(meant.chosen) for meant in every.meant] == [1] and "cut off" in every.left_out[0]
    error = found(monkeypatch, WIDE, faces_of(cut, cut + 1), *turned, faces_of(cut, cut + 1))
    assert isinstance(error, FaceError) and "none of 2 faces can be aligned; of the largest: the face is cut" in str(
        error
    )
    assert str(found(monkeypatch, WIDE, nobody(), *turned, nobody())).startswith("no face found")


def test_landmarks_are_looked_up_in_the_picture_as_it_is_searched():
    picture = Small(np.zeros((128, 512, 3), np.uint8), (2048, 512))
    np.testing.assert_allclose(_in_levels((FRONTAL - 0.5) * 4 + 0.5, picture), FRONTAL)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with photographs of two people and of a face too small to be taken, and of one person; and faces/."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "in").mkdir()
    person = Image.fromarray(pytest.importorskip("skimage").data.astronaut()[:256, 96:352]).resize((128, 128))
    pair = Image.new("RGB", (250, 256), "grey")
    pair.paste(person.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((112, 112)), (0, 0))
    pair.paste(person, (120, 0))
    pair.paste(person.resize((60, 60)), (100, 180))
    pair.save(folder / "in" / "pair.png")
    person.save(folder / "in" / "one.png")
    assert aligned(folder) == 0
    return folder


def aligned(work, *more):
    words = ["align", work / "in", "--face=all", "--resolution=16", "--enlarge=0.4", "--out", work / "faces", *more]
    return main([str(word) for word in words])


def tree(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")}


def test_align_cuts_every_face_and_goes_on_where_it_stopped(work, tmp_path, capsys):
    out = work / "faces"
    records = {record["id"]: record for record in read_records(out / "alignment.jsonl")}
    assert list(records) == ["one_0", "pair_0", "pair_1"]
    assert [(r["picture"], r["faces"]) for r in records.values()] == [("one", 1), ("pair", 2), ("pair", 2)]
    pixels = read_png(work / "in" / "pair.png")
    for number, (left, right) in enumerate(((0, 120), (120, 250))):
        own = records[f"pair_{number}"]
        eyes = np.array(own["landmarks"])[:2]
        assert (eyes[:, 0] > left).all() and (eyes[:, 0] < right).all() and (eyes[:, 1] < 128).all()
        assert psnr(read_png(out / f"pair_{number}.png"), align(pixels, np.array(own["landmarks"]), 16)) > 40
        assert own["notes"][0] == f"face {number + 1} of 2 from left to right"
        assert own["notes"][-1].startswith("left out: the face is too small")
    assert records["one_0"]["notes"] == []
    before = tree(out)
    (out / "pair_1.png").unlink()
    assert aligned(work) == 0 and tree(out) == before
    assert "3 faces of 2 pictures aligned" in (said := capsys.readouterr().out) and "1 of them earlier" in said
    assert aligned(work, "--face=largest") == 2 and "face was 'all', is 'largest'" in capsys.readouterr().err
    # A picture that has changed: what it had is not left behind.
    shutil.copytree(work, tmp_path / "copy")
    shutil.copy(work / "in" / "one.png", tmp_path / "copy" / "in" / "pair.png")
    assert aligned(tmp_path / "copy") == 0
    assert [r["id"] for r in read_records(tmp_path / "copy" / "faces" / "alignment.jsonl")] == ["one_0", "pair_0"]
    assert not (tmp_path / "copy" / "faces" / "pair_1.png").exists()


def test_a_picture_is_done_when_all_its_faces_are(tmp_path):
    record = {"input": "x.png", "input_sha256": "0" * 64, "quad": [[0, 0], [0, 9], [9, 9], [9, 0]], "faces": 2}
    with opened(tmp_path, dict.fromkeys(SETTINGS, 16)) as folder:
        folder.write({**record, "id": "a_0", "picture": "a"}, b"1")
        folder.write({"id": "b", "input_sha256": "0" * 64}, b"3")
        assert set(folder.finished(ids=["a", "b"])) == {"b"} and set(pictures(folder.done)) == {"b"}
        folder.fail("a", "stopped", "x.png")
        folder.write({**record, "id": "a_1", "picture": "a"}, b"2")
        assert set(folder.finished(ids=["a", "b"])) == {"a", "b"} and folder.failures() == {}
        folder.forget(["a"])
        assert list(folder.done) == ["b"] and not list(tmp_path.glob("a_*.png"))
    assert picture_of({"id": "c"}) == "c"
    (tmp_path / "alignment.jsonl").write_bytes(encode_record({**record, "id": "a_0", "picture": "../a"}))
    with (
        pytest.raises(Exception, match="the picture '../a' is not a plain relative path"),
        opened(tmp_path, dict.fromkeys(SETTINGS, 16)),
    ):
        pass


def test_each_face_goes_back_to_its_place_in_the_photograph(work, tmp_path, quick_compilation):
    ids = ("one_0", "pair_0", "pair_1")
    G = tiny_generator(discriminator=False)
    G.save(tmp_path / "g.safetensors")
    targets = np.stack([read_png(work / "faces" / f"{id}.png") for id in ids])
    run = write_run(tmp_path / "run", G, tmp_path / "g.safetensors", "w+", ids, targets)
    words = ["edit", run, "--direction=random:0", "--strengths=2", "--paste-back", work / "faces"]
    assert main([str(word) for word in [*words, "--out", tmp_path / "edits"]]) == 0
    photograph = read_png(work / "in" / "pair.png")
    records = {record["id"]: record for record in read_records(work / "faces" / "alignment.jsonl")}
    for id, columns in (("pair_0", slice(130, 250)), ("pair_1", slice(0, 110))):
        own = read_png(tmp_path / "edits" / "images" / id / "random-0" / "2.png")
        pasted = read_png(tmp_path / "edits" / "pasted" / id / "random-0" / "2.png")
        np.testing.assert_array_equal(pasted, paste(photograph, own, np.array(records[id]["quad"])))
        assert (pasted != photograph).any() and (pasted[:, columns] == photograph[:, columns]).all(), "the other stays"
