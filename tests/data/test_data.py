"""Every kind of picture that people have, its geometry, and what happens to files that are no images."""

import io
import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from lsap_jax.data import ImageError, from_arrays, open_images
from lsap_jax.data.decode import is_heic, picture_from_bytes
from lsap_jax.errors import LsapError
from lsap_jax.pixels import to_float, to_uint8

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (16, 16, 3), np.uint8)
GREY = RGB[..., 0]
SAME = {"resolution": 16, "channels": 3}


def save(path: Path, array: np.ndarray | Image.Image, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = array if isinstance(array, Image.Image) else Image.fromarray(array)
    picture.save(path, **options)
    return path


def load(path: Path, **options):
    return open_images(path, **{**SAME, **options}).load(0)


# Conversions


def test_conversions_follow_the_stated_formulas():
    grey_levels = np.arange(256, dtype=np.uint8)
    floats = to_float(grey_levels)
    assert floats.dtype == np.float32
    np.testing.assert_allclose(floats, np.arange(256) / 127.5 - 1, atol=1e-7)
    assert (floats[0], floats[-1]) == (-1, 1)
    np.testing.assert_array_equal(to_uint8(floats), grey_levels)
    np.testing.assert_array_equal(to_uint8(np.array([-3.0, -1.0, 0.0, 1.0, 3.0])), [0, 0, 128, 255, 255])


@given(hnp.arrays(np.float32, 8, elements=st.floats(-2, 2, width=32)))
def test_a_float_becomes_the_nearest_grey_level(image):
    distance = np.abs(to_float(to_uint8(image)) - np.clip(image, -1, 1))
    assert distance.max() <= 0.5 / 127.5 + 1e-6


def test_conversions_refuse_what_has_no_grey_level():
    with pytest.raises(ValueError, match="NaN"):
        to_uint8(np.array([0.0, np.nan]))
    with pytest.raises(TypeError, match="float64"):
        to_float(np.zeros(3))


# Kinds of pictures


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".ppm"])
def test_a_picture_of_the_right_size_keeps_its_bytes(tmp_path, suffix):
    item = load(save(tmp_path / f"a{suffix}", RGB))
    np.testing.assert_array_equal(item.image, RGB)
    assert (item.id, item.notes, len(item.sha256)) == ("a", (), 64)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif", ".jp2"])
def test_lossy_formats_are_close(tmp_path, suffix):
    smooth = np.broadcast_to(np.linspace(0, 255, 16)[:, None, None], (16, 16, 3)).astype(np.uint8)
    item = load(save(tmp_path / f"a{suffix}", np.ascontiguousarray(smooth)))
    assert np.abs(item.image.astype(int) - smooth).max() < 16


def test_grey_and_colour_go_into_either_number_of_channels(tmp_path):
    grey, colour = save(tmp_path / "grey.png", GREY), save(tmp_path / "colour.png", RGB)
    np.testing.assert_array_equal(load(grey, channels=1).image, GREY[..., None])
    np.testing.assert_array_equal(load(grey).image, np.repeat(GREY[..., None], 3, axis=-1))
    assert load(grey).notes == ("grey repeated over 3 channels",)
    luma = RGB @ np.array([0.299, 0.587, 0.114])
    assert np.abs(load(colour, channels=1).image[..., 0] - luma).max() <= 1
    assert "reduced to grey" in load(colour, channels=1).notes[0]


def test_one_bit_pictures(tmp_path):
    bits = GREY > 128
    np.testing.assert_array_equal(load(save(tmp_path / "a.png", bits), channels=1).image[..., 0], bits * 255)


def test_alpha_is_laid_on_white(tmp_path):
    alpha = RNG.integers(0, 256, (16, 16, 1), np.uint8)
    item = load(save(tmp_path / "a.png", np.concatenate([RGB, alpha], -1)))
    expected = (RGB * (alpha / 255.0)) + 255 * (1 - alpha / 255.0)
    assert np.abs(item.image - expected).max() <= 1
    assert item.notes == ("alpha laid on white",)
    opaque = load(save(tmp_path / "b.png", np.concatenate([RGB, np.full_like(alpha, 255)], -1)))
    np.testing.assert_array_equal(opaque.image, RGB)
    assert opaque.notes == ()
    grey_alpha = load(save(tmp_path / "c.png", np.concatenate([GREY[..., None], alpha], -1)), channels=1)
    assert np.abs(grey_alpha.image - (GREY[..., None] * (alpha / 255.0) + 255 - alpha)).max() <= 1


def test_palettes_with_and_without_a_transparent_colour(tmp_path):
    indexed = Image.new("P", (16, 16))
    indexed.putdata((GREY // 64).ravel().tolist())
    indexed.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 10, 20, 30])
    palette = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 30]])
    np.testing.assert_array_equal(load(save(tmp_path / "a.png", indexed)).image, palette[GREY // 64])
    palette[1] = 255  # the transparent colour shows the white ground
    for name, transparency in (("b.png", 1), ("c.png", b"\xff\x00\xff\xff"), ("d.gif", 1)):
        item = load(save(tmp_path / name, indexed, transparency=transparency))
        np.testing.assert_array_equal(item.image, palette[GREY // 64])
        assert item.notes == ("alpha laid on white",)


def test_a_transparent_colour_of_an_rgb_picture_survives_turning(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    item = load(save(tmp_path / "a.png", RGB, transparency=tuple(RGB[0, 0].tolist()), exif=exif))
    expected = RGB[::-1, ::-1].copy()
    expected[-1, -1] = 255
    np.testing.assert_array_equal(item.image, expected)


def test_cmyk(tmp_path):
    flat = Image.fromarray(np.full((16, 16, 3), (200, 100, 50), np.uint8)).convert("CMYK")
    for item in (load(save(tmp_path / name, flat)) for name in ("a.jpg", "a.tiff")):
        assert np.abs(item.image.astype(int) - (200, 100, 50)).max() <= 3
        assert "CMYK" in item.notes[0]


def test_sixteen_bits_are_scaled_not_saturated(tmp_path):
    deep = GREY.astype(np.uint16) * 257
    deep[0, :4] = [0, 128, 129, 65535]  # rounded, not cut off
    expected = GREY.copy()
    expected[0, :4] = [0, 0, 1, 255]
    for name in ("a.png", "a.tiff", "a.pgm"):
        item = load(save(tmp_path / name, deep), channels=1)
        np.testing.assert_array_equal(item.image[..., 0], expected, err_msg=name)
        assert item.notes == ("16 bits scaled to 8",)
    big_endian = Image.frombytes("I;16B", (16, 16), deep.astype(">u2").tobytes())
    np.testing.assert_array_equal(load(save(tmp_path / "b.tiff", big_endian), channels=1).image[..., 0], expected)


def test_sixteen_bits_per_colour_are_scaled_not_saturated(tmp_path):
    deep = RGB.astype(">u2") * 257
    for name, data in (("a.ppm", b"P6 16 16 65535\n" + deep.astype(">u2").tobytes()), ("a.png", png_16(deep))):
        (tmp_path / name).write_bytes(data)
        assert np.abs(load(tmp_path / name).image.astype(int) - RGB).max() <= 1


def png_16(array: np.ndarray) -> bytes:
    """A PNG with 16 bits per colour, which Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", array.shape[1], array.shape[0], 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_32_bit_integers_and_floats(tmp_path):
    as_integers = save(tmp_path / "a.tiff", GREY.astype(np.int32) * 257)
    np.testing.assert_array_equal(load(as_integers, channels=1).image[..., 0], GREY)
    for name, array, note in (
        ("b.tiff", GREY.astype(np.float32) / 255, "floats scaled from [0, 1]"),
        ("c.tiff", GREY.astype(np.float32), "floats scaled from [0, 255]"),
    ):
        item = load(save(tmp_path / name, array), channels=1)
        np.testing.assert_array_equal(item.image[..., 0], GREY)
        assert item.notes == (note,)
    for name, array, reason in (
        ("d.tiff", np.full((4, 4), 70000, np.int32), "70000"),
        ("e.tiff", np.full((4, 4), -1, np.int32), "-1"),
        ("f.tiff", np.full((4, 4), 300, np.float32), "300"),
        ("g.tiff", np.full((4, 4), np.nan, np.float32), "NaN"),
    ):
        with pytest.raises(ImageError, match=reason):
            load(save(tmp_path / name, array))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tiff", ".webp", ".jpg"])
def test_cameras_rotation_is_applied(tmp_path, orientation, suffix):
    turned_by_viewer = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: lambda a: np.rot90(a),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {".webp": {"lossless": True}, ".jpg": {"quality": 100, "subsampling": 0}}.get(suffix, {})
    item = load(save(tmp_path / f"a{suffix}", RGB, exif=exif, **options))
    difference = np.abs(item.image.astype(int) - turned_by_viewer(RGB))
    assert difference.max() <= (5 if suffix == ".jpg" else 0)


def test_a_damaged_exif_block_does_not_cost_the_image(tmp_path):
    item = load(save(tmp_path / "a.webp", RGB, lossless=True, exif=b"Exif\0\0XX\0\0\0\0\0\0garbage"))
    np.testing.assert_array_equal(item.image, RGB)
    assert "EXIF" in item.notes[0]


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".tiff"])
def test_the_first_frame_of_an_animation_is_taken_and_noted(tmp_path, suffix):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    item = load(save(tmp_path / f"a{suffix}", frames[0], save_all=True, append_images=frames[1:]))
    assert np.abs(item.image.astype(int) - (255, 0, 0)).max() <= 2
    assert "first of 3 frames" in item.notes


# Geometry


def test_crop_pad_and_scaling_are_stated(tmp_path):
    wide = np.zeros((16, 33, 3), np.uint8)
    wide[:, 8:24] = RGB
    path = save(tmp_path / "a.png", wide)
    cropped = load(path)
    np.testing.assert_array_equal(cropped.image, RGB)
    assert cropped.notes == ("cropped 33x16 to 16x16",)
    padded = load(path, fit="pad", resolution=33)
    assert padded.notes == ("padded 33x16 to 33x33 with white",)
    np.testing.assert_array_equal(padded.image[8:24], wide)
    assert (padded.image[:8] == 255).all() and (padded.image[24:] == 255).all()
    assert load(path, resolution=8).notes == ("cropped 33x16 to 16x16", "downscaled from 16x16 to 8x8")
    assert load(path, resolution=64).notes[1] == "upscaled from 16x16 to 64x64"
    tall = load(save(tmp_path / "b.png", wide.transpose(1, 0, 2)[:32]), fit="pad", channels=1)
    assert tall.image.shape == (16, 16, 1)
    assert tall.notes[1:] == ("padded 16x32 to 32x32 with white", "downscaled from 16x32 to 8x16")


def test_scaling_is_antialiased_lanczos(tmp_path):
    large = RNG.integers(0, 256, (64, 64, 3), np.uint8)
    expected = np.asarray(Image.fromarray(large).resize((16, 16), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(load(save(tmp_path / "a.png", large)).image, expected)


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(["crop", "pad"]), st.sampled_from([1, 3]))
def test_any_size_becomes_the_square(width, height, fit, channels):
    arrays = np.zeros((1, height, width, 3), np.uint8)
    item = from_arrays(arrays, resolution=8, channels=channels, fit=fit).load(0)
    assert item.image.shape == (8, 8, channels) and item.image.dtype == np.uint8
    assert bool(item.notes) == ((width, height) != (8, 8) or channels == 1)


def test_an_extreme_strip_is_padded_without_a_giant_square(tmp_path):
    strip = save(tmp_path / "a.png", np.zeros((1, 60000), np.uint8))
    assert load(strip, fit="pad").image.shape == (16, 16, 3)


@pytest.mark.parametrize("options", [{"resolution": 0}, {"channels": 2}, {"fit": "stretch"}])
def test_unknown_options_are_refused(tmp_path, options):
    with pytest.raises(LsapError, match=str(next(iter(options.values())))):
        load(save(tmp_path / "a.png", RGB), **options)


# HEIC, where pillow-heif is installed and where it is not


def heif():
    module = pytest.importorskip("pillow_heif", reason="pillow-heif, the extra `heic`, is not installed")
    module.register_heif_opener()
    return module


SMOOTH = np.stack(np.broadcast_arrays(np.arange(0, 255, 4)[:, None], np.arange(64)[None] * 2, 90), -1).astype(np.uint8)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_photograph_of_a_phone_is_read_and_stands_upright(tmp_path, orientation):
    heif()
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(tmp_path / "photo.heic", SMOOTH, quality=95, exif=exif.tobytes())
    item = load(tmp_path, resolution=64)
    turned = np.rot90(SMOOTH, {1: 0, 3: 2, 6: 3, 8: 1}[orientation])
    assert item.id == "photo" and np.abs(item.image.astype(int) - turned).max() <= 12


def test_grey_and_transparent_heic(tmp_path):
    heif()
    save(tmp_path / "grey" / "a.heif", SMOOTH[..., 0], quality=95)
    grey = load(tmp_path / "grey", resolution=64)
    assert np.abs(grey.image.astype(int) - SMOOTH[..., :1]).max() <= 12
    clear = np.concatenate([SMOOTH, np.zeros_like(SMOOTH[..., :1])], -1)
    save(tmp_path / "clear" / "a.hif", Image.fromarray(clear), format="HEIF", quality=95)
    found = load(tmp_path / "clear", resolution=64)
    assert "alpha laid on white" in found.notes and found.image.min() >= 250


def test_without_its_reader_heic_is_refused_by_name_and_the_others_are_read(tmp_path, monkeypatch):
    save(tmp_path / "good.png", RGB)
    (tmp_path / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(64))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    outcomes = dict(open_images(tmp_path, **SAME).stream())
    np.testing.assert_array_equal(outcomes[0].image, RGB)
    assert outcomes[1].reason == (
        "a HEIC picture, which needs pillow-heif: install the extra `heic` of lsap_jax (pip install pillow-heif), or "
        "save the picture as JPEG"
    )
    setup = (Path(__file__).parents[2] / "setup.py").read_text()
    assert '"heic": ["pillow-heif' in setup, "a message names an extra that there is"


def test_a_damaged_heic_fails_alone(tmp_path):
    heif()
    (tmp_path / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(64))
    with pytest.raises(ImageError, match="readable format"):
        load(tmp_path)


def test_avif_in_the_same_container_needs_no_other_reader(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    buffer = io.BytesIO()
    Image.fromarray(SMOOTH).save(buffer, "AVIF")
    data = buffer.getvalue()
    assert not is_heic(data) and picture_from_bytes(data)[0].size == (64, 64)
    assert not is_heic(b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf") and not is_heic(b"") and not is_heic(b"ftypheic")
    assert is_heic(b"\0\0\0\x1cftypmif1\0\0\0\0mif1heicmiaf") and is_heic(b"\0\0\0\x10ftypheix\0\0\0\0")


# Files that cannot be used


def test_unusable_files_fail_with_their_reason_and_leave_the_others(tmp_path):
    save(tmp_path / "good.png", RGB)
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("this is no picture\n" * 40)
    (tmp_path / "photo.psd").write_bytes(b"8BPS\0\1" + bytes(64))
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")
    source = open_images(tmp_path, **SAME)
    outcomes = {source.ids[i]: outcome for i, outcome in source.stream()}
    np.testing.assert_array_equal(outcomes.pop("good").image, RGB)
    reasons = {"empty": "empty", "text": "readable format", "photo": "readable format", "dangling": "not there"}
    for name, reason in {**reasons, "pipe": "not a regular"}.items():
        error = outcomes.pop(name)
        assert isinstance(error, ImageError)
        assert reason in error.reason and str(tmp_path / name) in str(error) and str(tmp_path) not in error.reason
    assert not outcomes


@pytest.mark.filterwarnings("ignore:Corrupt EXIF", "ignore:Truncated File Read")
@pytest.mark.parametrize(
    "suffix", [".png", ".jpg", ".webp", ".gif", ".bmp", ".tiff", ".ppm", ".jp2", ".j2k", ".avif", ".heic"]
)
def test_a_file_cut_off_anywhere_never_passes_for_a_whole_one(suffix):
    if suffix == ".heic":
        heif()
    buffer = io.BytesIO()
    smooth = np.ascontiguousarray(np.broadcast_to(np.arange(96, 112)[:, None, None], (16, 16, 3)).astype(np.uint8))
    Image.fromarray(smooth).save(buffer, Image.registered_extensions()[suffix])
    whole = buffer.getvalue()
    picture, _ = picture_from_bytes(whole)
    refused = 0
    for length in range(len(whole)):
        try:
            cut, _ = picture_from_bytes(whole[:length])
        except ImageError:
            refused += 1
        else:  # only a trailer is missing
            np.testing.assert_array_equal(np.asarray(cut), np.asarray(picture))
    assert refused > 0.85 * len(whole) - 25


@given(
    st.binary(max_size=64),
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"II*\0", b"P5 "]),
)
def test_arbitrary_bytes_are_an_error_or_a_picture(data, magic):
    try:
        picture, _ = picture_from_bytes(magic + data)
    except ImageError as error:
        assert str(error) and "\n" not in str(error)
    else:
        assert picture.mode in ("L", "RGB")


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ImageError, match="too large"):
        load(save(tmp_path / "a.png", RGB))


def test_programs_are_never_started_to_read_a_picture(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    with pytest.raises(ImageError, match="readable format"):
        load(tmp_path / "a.png")


def test_a_file_that_may_not_be_read_or_is_huge_or_vanishes(tmp_path, monkeypatch):
    source = open_images(save(tmp_path / "a.png", RGB), **SAME)
    monkeypatch.setattr("lsap_jax.data.source._MOST_FILE_BYTES", 10)
    with pytest.raises(ImageError, match="larger than"):
        source.load(0)
    monkeypatch.undo()

    def denied(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(ImageError, match="Permission denied"):
        source.load(0)
    monkeypatch.undo()
    (tmp_path / "a.png").unlink()
    with pytest.raises(ImageError, match="no longer there"):
        source.load(0)


@pytest.mark.parametrize("kind", ["GIF", "TIFF"])
@pytest.mark.parametrize("count", [1, 3])
def test_frames_of_large_files_are_noted_without_being_counted(kind, count, monkeypatch):
    out = io.BytesIO()
    frames = [Image.new("L", (9, 7), 40 * i) for i in range(count)]
    frames[0].save(out, kind, save_all=True, append_images=frames[1:])
    picture, notes = picture_from_bytes(out.getvalue())
    monkeypatch.setattr("lsap_jax.data.decode.COUNTED", 10)
    again, others = picture_from_bytes(out.getvalue())
    assert again.tobytes() == picture.tobytes() and again.mode == picture.mode
    assert (notes, others) == ((["first of 3 frames"], ["first of several frames"]) if count == 3 else ([], []))
