"""A folder that goes on only with what it was begun with."""

import json

import pytest

from lsap_jax.errors import LsapError
from lsap_jax.storage import atomic
from lsap_jax.storage.checked_json import parsed
from lsap_jax.storage.matching import Layout, Rule, begin, claimed, read_record

ALBUM = Layout("album.json", "album 1", "album")
BARE = Layout("bare.json", "", "training")
SETTINGS = {"size": {"width": 3, "height": (4, 5)}, "seed": 0}


def test_the_settings_are_recorded_once(tmp_path):
    kept = begin(tmp_path, ALBUM, SETTINGS)
    assert kept == {"format": "album 1", "size": {"width": 3, "height": [4, 5]}, "seed": 0}
    assert read_record(tmp_path, ALBUM) == kept == json.loads((tmp_path / "album.json").read_text())
    before = (tmp_path / "album.json").stat()
    assert begin(tmp_path, ALBUM, SETTINGS) == kept
    assert (tmp_path / "album.json").stat().st_mtime_ns == before.st_mtime_ns


def test_numbers_beyond_all_are_no_json():
    assert parsed(b'{"a": 1e300, "b": 2.5}') == {"a": 1e300, "b": 2.5}
    for text in (b"1e999", b"[-1e999]", b"NaN", b"Infinity"):
        with pytest.raises(ValueError, match="is not JSON"):
            parsed(text)


@pytest.mark.parametrize(
    ("rule", "changed", "refused"),
    [
        (Rule(), {"seed": 1}, "seed was 0, is 1"),
        (Rule(), {"more": True}, "more was 'absent', is True"),
        (Rule(("size",)), {"seed": 1}, None),
        (Rule(("size",)), {"size": {"width": 2}}, r"size.height was \[4, 5\], is 'absent'; size.width was 3, is 2"),
        (Rule(None, ("size.width",)), {"size": {"width": 2, "height": [4, 5]}}, None),
        (Rule(()), {"seed": 1, "size": 0}, None),
    ],
)
def test_what_differs_is_refused_by_the_rule(tmp_path, rule, changed, refused):
    kept = begin(tmp_path, ALBUM, SETTINGS)
    if refused is None:
        assert begin(tmp_path, ALBUM, {**SETTINGS, **changed}, rule) == kept
    else:
        with pytest.raises(LsapError, match=f"was started with other settings .{refused}.: repeat them"):
            begin(tmp_path, ALBUM, {**SETTINGS, **changed}, rule)
    assert read_record(tmp_path, ALBUM) == kept


def test_records_of_another_format_and_damaged_ones_are_refused(tmp_path):
    for text, message in (
        ('{"format": "album 2"}', "format is 'album 2', this version reads 'album 1'"),
        ("{}", "format is '', this version reads 'album 1'"),
        ("[]", "album.json: is damaged"),
        ('{"format": ', "album.json: is damaged"),
    ):
        (tmp_path / "album.json").write_text(text)
        with pytest.raises(LsapError, match=message):
            begin(tmp_path, ALBUM, SETTINGS)
    with pytest.raises(LsapError, match="is not a training folder, it has no bare.json"):
        read_record(tmp_path, BARE)


def test_a_layout_without_a_format_has_none(tmp_path):
    begin(tmp_path, BARE, {"lr": 0.5})
    assert json.loads((tmp_path / "bare.json").read_text()) == {"lr": 0.5}
    with pytest.raises(LsapError, match="lr was 0.5, is 0.25"):
        begin(tmp_path, BARE, {"lr": 0.25})


def test_a_claimed_folder_is_nobody_elses(tmp_path):
    with claimed(tmp_path / "a", ALBUM, SETTINGS) as kept:
        assert kept["seed"] == 0
        with pytest.raises(atomic.InUse), claimed(tmp_path / "a", ALBUM, SETTINGS):
            pass
    with claimed(tmp_path / "a", ALBUM, SETTINGS):
        pass
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.tex").write_text("")
    with pytest.raises(LsapError, match="holds 'thesis.tex' but no album.json"), claimed(tmp_path / "b", ALBUM, {}):
        pass
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["thesis.tex"]
