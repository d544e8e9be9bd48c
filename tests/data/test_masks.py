"""Masks: where they are looked for, what a picture has to be to be one, and that files and arrays give the same."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lsap_jax.data import ImageError, from_arrays
from lsap_jax.data.masks import mask_files, mask_from_bytes, masks_from_arrays, with_masks
from lsap_jax.errors import LsapError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (16, 16), np.uint8)


def encoded(picture, **options):
    picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    file = io.BytesIO()
    picture.save(file, "PNG", **options)
    return file.getvalue()


def test_grey_levels_are_shares():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    mask = mask_from_bytes(encoded(levels), 16)
    assert mask.dtype == np.float32 and mask.min() == 0 and mask.max() == 1
    np.testing.assert_array_equal(mask, levels.astype(np.float32) / 255)


@pytest.mark.parametrize("mode", ["RGB", "P", "I;16", "1"])
def test_grey_is_grey_however_it_is_stored(mode):
    grey = np.where(GREY > 127, 255, 0).astype(np.uint8) if mode == "1" else GREY
    stored = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(grey).convert(mode)
    np.testing.assert_array_equal(mask_from_bytes(encoded(stored), 16), grey.astype(np.float32) / 255)


@pytest.mark.parametrize("size", [4, 16, 40])
def test_a_file_and_an_array_give_the_same_mask(size):
    grey = RNG.integers(0, 256, (size, size), np.uint8)
    arrays = masks_from_arrays(grey[None].astype(np.float32) / 255, (1, size, size, 3), 16, "crop")
    mask = mask_from_bytes(encoded(grey), 16)
    assert mask.shape == (16, 16) and 0 <= mask.min() < mask.max() <= 1
    np.testing.assert_array_equal(mask, arrays(0))


@pytest.mark.parametrize(
    ("data", "reason"),
    {
        "empty": (b"", "the file is empty"),
        "text": (b"not a picture", "not an image in a readable format"),
        "cut off": (encoded(RNG.integers(0, 256, (64, 64), np.uint8))[:-2000], "damaged or cut off"),
        "oblong": (encoded(GREY[:8]), "is 16x8 pixels; a mask is square"),
        "coloured": (encoded(RNG.integers(0, 256, (16, 16, 3), np.uint8)), "has colours; a mask is a grey picture"),
        "transparent": (encoded(np.stack([GREY, GREY], -1)), "is transparent; a mask is a grey picture without alpha"),
    }.values(),
)
def test_what_is_no_mask_is_refused(data, reason):
    with pytest.raises(ImageError, match=reason):
        mask_from_bytes(data, 16)


def test_masks_are_found_by_id(tmp_path):
    for name in ("a.png", "sub/c.png", "a.b.png", "other.png", "e.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing")
    (tmp_path / "folder.png").mkdir()
    ids = ("a", "b", "sub/c", "sub/d", "a.b", "e", "gone", "folder", "a.png/below")
    found = mask_files(tmp_path, ids)
    assert set(found) == {"a", "sub/c", "a.b", "gone", "folder"} and found["sub/c"] == tmp_path / "sub" / "c.png"


def test_names_of_inputs_have_the_mask_and_places_do_not():
    source = with_masks(from_arrays(GREY[None, ..., None], ["a"], resolution=16, channels=1), {"a": Path("m/a.png")})
    assert source.inputs == ("array 0 with mask m/a.png",) and source.origin(0) == "array 0"


def test_a_folder_without_a_mask_is_refused(tmp_path):
    with pytest.raises(LsapError, match="nowhere: is not a folder of masks"):
        mask_files(tmp_path / "nowhere", ["a"])
    (tmp_path / "b.png").write_bytes(b"")
    with pytest.raises(LsapError, match=r"has no mask of any of the 1 images; that of the first is .*a\.png"):
        mask_files(tmp_path, ["a"])
