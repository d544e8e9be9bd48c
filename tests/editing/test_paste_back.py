"""`edit --paste-back`: edits in the photographs that their faces were cut out of."""

import json

import numpy as np
import pytest
from PIL import Image
from small_runs import write_run

from lsap_jax.cli import main
from lsap_jax.faces.align import cut_out
from lsap_jax.faces.aligned_folder import SETTINGS, opened
from lsap_jax.faces.paste import paste
from lsap_jax.storage.atomic import sha256
from lsap_jax.storage.file_bytes import png_bytes
from lsap_jax.testing import tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation")
IDS = ("a", "sub/b")
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
            np.testing.assert_array_equal(found, paste(photograph, own, np.array(quad)))
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
        folder.write({"id": "c", "input": "c.png", "input_sha256": "", "quad": QUADS[0]}, b"")
    for name, message in (("others", "alignment.jsonl does not have 'a'"), ("run", "has no alignment.json")):
        words = ["edit", work / "run", "--direction=random:0", "--paste-back", work / name, "--out", work / "x"]
        assert main([str(word) for word in words]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert not (work / "x").exists()
