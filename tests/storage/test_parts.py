"""The table of parts: what is written of an image, in which order, and that it is read back from files and stores."""

import numpy as np
import pytest
from test_results import RUN, result

from lsap_jax.errors import LsapError
from lsap_jax.storage.from_store import write_files
from lsap_jax.storage.parts import PARTS, Part, encoded, file_of, from_named_arrays, named_arrays
from lsap_jax.storage.results import read_manifest, read_part
from lsap_jax.storage.run_folder import RunFolder
from lsap_jax.storage.store import open_store
from lsap_jax.storage.to_store import write_store

SHIFT = "transforms/b8.torgb/scale_shift/shift"


def refined(id: str) -> dict:
    """What a refined run has of an image."""
    rng = np.random.default_rng(len(id))
    return {**result(id), "refined": {SHIFT: rng.normal(size=(8, 8, 3)).astype(np.float32)}}


def test_parts_are_written_in_the_order_of_the_table_and_empty_ones_not_at_all():
    values = {name: value for name, value in refined("a").items() if name in PARTS}
    assert list(encoded("a", dict(reversed(values.items())))) == ["codes", "images", "targets", "curves", "refined"]
    assert list(encoded("a", {**values, "curves": {}, "refined": None})) == ["codes", "images", "targets"]
    assert file_of("x/y", "images") == "images/x/y.png"
    assert file_of("x/y", "codes/smile/-3") == "codes/x/y/smile/-3.npz"
    assert file_of("x", "refined") == "refined/x.npz" and file_of("x", "animations/up") == "animations/x/up.webp"


@pytest.mark.parametrize("part", ["codes", "refined"])
def test_what_is_not_finite_is_refused(part):
    values = {"codes": {"z": np.ones(3)}, "refined": {"a": np.ones(3)}}
    values[part] = {"a": np.array([1.0, np.nan])}
    with pytest.raises(ValueError, match=f"{part} 'a' of 'me' has NaN or infinite values"):
        encoded("me", values)


def test_named_arrays_are_parts_again():
    values = refined("b")
    arrays = {k: a for name in ("codes", "images", "refined") for k, a in named_arrays(name, values[name]).items()}
    assert set(arrays) == {"codes/z", "codes/f", "images", f"refined/{SHIFT}"}
    np.testing.assert_array_equal(from_named_arrays("codes", arrays)["z"], values["codes"]["z"])
    np.testing.assert_array_equal(from_named_arrays("refined", arrays)[SHIFT], values["refined"][SHIFT])
    np.testing.assert_array_equal(from_named_arrays("images", arrays), values["images"])
    assert from_named_arrays("curves", arrays) is None


def test_a_refined_run_is_read_and_goes_through_a_store(tmp_path):
    ids = ["a", "deep/er/b"]
    with RunFolder.open(tmp_path / "run", RUN) as run:
        for id in ids:
            run.write(id, **refined(id))
        run.finish()
    manifest = read_manifest(tmp_path / "run")
    for id in ids:
        assert "refined" in manifest[id]["sha256"]
        found = read_part(tmp_path / "run", id, "refined", manifest=manifest)
        np.testing.assert_array_equal(found[SHIFT], refined(id)["refined"][SHIFT])
    write_store(tmp_path / "run", str(tmp_path / "store"))
    store = open_store(str(tmp_path / "store"))
    assert store.arrays[f"refined/{SHIFT}"].shape == (2, 8, 8, 3)
    for group in ("refined", "refined/transforms/b8.torgb/scale_shift"):  # no group is implied
        assert (tmp_path / "store" / group / "zarr.json").is_file()
    assert write_files(store, tmp_path / "back") == 0
    for id in ids:
        for part in manifest[id]["sha256"]:
            file = file_of(id, part)
            assert (tmp_path / "back" / file).read_bytes() == (tmp_path / "run" / file).read_bytes()


def test_a_new_part_is_a_row(tmp_path, monkeypatch):
    monkeypatch.setitem(PARTS, "words", Part(suffix=".txt", encode=str.encode, decode=bytes.decode, stored=False))
    with RunFolder.open(tmp_path, RUN) as run:
        run.write("a", **result("a"), words="hello")
        assert run.finished()["a"]["sha256"]["words"]
    assert (tmp_path / "words" / "a.txt").read_text() == "hello" == read_part(tmp_path, "a", "words")
    (tmp_path / "words" / "a.txt").write_text("hullo")
    with pytest.raises(LsapError, match="words/a.txt: has changed"):
        read_part(tmp_path, "a", "words")
