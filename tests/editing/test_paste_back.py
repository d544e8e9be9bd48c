"""`edit --paste-back`: edits in the photographs that their faces were cut out of."""

import json

import colour
import numpy as np
import pytest
from PIL import Image
from small_runs import write_run

from lsap_jax.cli import main
from lsap_jax.faces.align import cut_out
from lsap_jax.faces.aligned_folder import SETTINGS, opened
from lsap_jax.faces.paste import paste as paste_square
from lsap_jax.storage.atomic import sha256
from lsap_jax.storage.file_bytes import png_bytes
from lsap_jax.storage.results import finished_problem
from lsap_jax.testing import tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation")
IDS = ("a", "sub/b")
CROP = {"input": "x.png", "input_sha256": "0" * 64, "quad": [[0.5, 0], [0, 9], [9, 9], [9, 0]]}
QUADS = ([[10.0, 5], [10, 45], [50, 45], [50, 5]], [[30.0, 2], [2, 30], [30, 58], [58, 30]])


@pytest.fixture
def work(tmp_path):
    """A folder with photographs, their faces/ as `lsap-jax align` leaves them, and a run of these."""
    G = tiny_generator()
    G.save(tmp_path / "g.safetensors")
    targets = []
    with opened(tmp_path / "faces", dict.fromkeys(SETTINGS, 16)) as folder:
        for id, quad, pixels in zip(IDS, QUADS, tiny_images(2, 64), strict=True):
            data, file = png_bytes(pixels), tmp_path / f"{id[-1]}.png"
            file.write_bytes(data)
            targets.append(cut_out(pixels, np.array(quad), 16))
            record = {"id": id, "input": str(file), "input_sha256": sha256(data), "quad": quad}
            folder.write(record, png_bytes(targets[-1]))
        folder.finish()
    write_run(tmp_path / "run", G, tmp_path / "g.safetensors", "w+", IDS, np.stack(targets))
    return tmp_path


def words_of(work, *more):
    return ["edit", work / "run", "--direction=random:0", "--strengths=0,2", "--out", work / "edits", *more]


def edit(work):
    return main([str(word) for word in words_of(work, "--paste-back", work / "faces")])


def pixels(path):
    return np.array(Image.open(path))


def test_edits_are_put_back_into_their_photographs(work, capsys):
    assert edit(work) == 0
    for id, quad in zip(IDS, QUADS, strict=True):
        photograph = pixels(work / f"{id[-1]}.png")
        for strength in ("0", "2"):
            own = pixels(work / "edits" / "images" / id / "random-0" / f"{strength}.png")
            found = pixels(work / "edits" / "pasted" / id / "random-0" / f"{strength}.png")
            np.testing.assert_array_equal(found, paste_square(photograph, own, np.array(quad)))
            assert found.shape == photograph.shape and (found != photograph).any()
    assert json.loads((work / "edits" / "edit.json").read_text())["paste_back"]["feather"] > 0
    assert main(["verify", str(work / "edits")]) == 0
    lost = work / "edits" / "pasted" / "a" / "random-0" / "2.png"
    kept = lost.read_bytes()
    lost.unlink()
    assert edit(work) == 2 and f"{lost}: is missing" in capsys.readouterr().err
    lost.write_bytes(kept)
    assert edit(work) == 0 and "2 images edited, 2 of them earlier" in capsys.readouterr().out
    assert main([str(word) for word in words_of(work)]) == 2  # without --paste-back: other settings
    assert "paste_back" in capsys.readouterr().err


def test_photographs_and_faces_that_changed_fail_alone(work):
    (work / "a.png").write_bytes(png_bytes(tiny_images(1, 64, seed=5)[0]))
    assert edit(work) == 1
    failed = [json.loads(line) for line in (work / "edits" / "failures.jsonl").read_text().splitlines()]
    assert [one["id"] for one in failed] == ["a"] and "a.png: has changed since it was aligned" in failed[0]["reason"]
    assert (work / "edits" / "pasted" / "sub" / "b" / "random-0" / "2.png").exists()


def test_another_folder_is_refused_in_one_line(work, capsys):
    with opened(work / "others", dict.fromkeys(SETTINGS, 16)) as folder:
        folder.write({"id": "c", "input": "c.png", "input_sha256": "0" * 64, "quad": QUADS[0]}, b"")
    for name, message in (
        ("others", "alignment.jsonl does not have 'a'"),
        ("run", "manifest.jsonl does not say where it cut out 'a'"),
        ("sub", "sub: has no alignment.json"),
    ):
        words = ["edit", work / "run", "--direction=random:0", "--paste-back", work / name, "--out", work / "x"]
        assert main([str(word) for word in words]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert not (work / "x").exists()


@pytest.fixture
def on_the_way(work, monkeypatch):
    """`work` with cut/, a run of the same faces that `invert --align` cut out, and refined/, which refined that one."""
    crops = [
        {"input": str(file), "input_sha256": sha256(file.read_bytes()), "quad": quad}
        for file, quad in zip((work / "a.png", work / "b.png"), QUADS, strict=True)
    ]
    targets = np.stack([pixels(work / "run" / "targets" / f"{id}.png") for id in IDS])
    G = tiny_generator()
    write_run(work / "cut", G, work / "g.safetensors", "w+", IDS, targets, crops=crops)
    colour.add_rows(monkeypatch)
    assert main(["refine", str(work / "cut"), "--method=colour", "--out", str(work / "refined")]) == 0
    return work


def paste(work, run, aligned, out):
    words = ["edit", work / run, "--direction=random:0", "--strengths=2", "--paste-back", work / aligned]
    return main([str(word) for word in [*words, "--out", work / out]])


def test_runs_that_cut_faces_out_know_where(on_the_way, capsys):
    work = on_the_way
    for run, aligned, out in (("cut", "cut", "one"), ("cut", "faces", "two"), ("refined", "refined", "three")):
        assert paste(work, run, aligned, out) == 0
    for id in IDS:
        one, two, three = (
            (work / f / "pasted" / id / "random-0" / "2.png").read_bytes() for f in ("one", "two", "three")
        )
        assert one == two != three
    (work / "a.png").write_bytes(png_bytes(tiny_images(1, 64, seed=5)[0]))
    assert (
        paste(work, "cut", "cut", "four") == 1 and "a.png: has changed since it was aligned" in capsys.readouterr().err
    )
    other = write_run(
        work / "other", tiny_generator(), work / "g.safetensors", "w+", IDS, tiny_images(2), crops=[CROP] * 2
    )
    assert paste(work, "cut", other.name, "five") == 1
    assert "is not what this image of the run is of" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [
    {"quad": QUADS[0][:3]}, {"quad": [[0, 1]] * 3 + [[0, "x"]]}, {"quad": [[0, 1]] * 3 + [[0, 1e300]]}, {"quad": None},
    {"input": 3}, {"input_sha256": "x"}, {"quad": [[0, 1]] * 3 + [[0, True]]},
])  # fmt: skip
def test_where_a_face_was_cut_out_is_checked(wrong):
    record = {"id": "a", "input_sha256": "0" * 64, "sha256": {}, "metrics": {}, "flags": [], "notes": []}
    assert finished_problem(record) is None and finished_problem({**record, "crop": CROP}) is None
    assert finished_problem({**record, "crop": {**CROP, **wrong}})
