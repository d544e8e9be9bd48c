"""The bytes of one image file, or one array, as a picture in grey or RGB with eight bits per channel.

All common kinds of pictures are decoded as they are meant to look: transparent ones are laid on white, sixteen bits are
scaled (x / 257) and not cut off (but for colours of PNG, of which Pillow reads the high bytes), the camera's rotation
is applied. Embedded colour profiles are not applied.
"""

import io
import re

import numpy as np
from PIL import Image, ImageFile

from lsap_jax.errors import LsapError
from lsap_jax.pixels import to_uint8

# An allow-list: Pillow's other readers start programs (EPS), have no signature (TGA takes text for a picture) or are
# hardly tested. Each name here has a signature; JPEG covers the multi-picture files of phones.
READABLE = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
_NAMES = "PNG, JPEG, WebP, GIF, BMP, TIFF, PNM, JPEG 2000, AVIF, HEIC"

# HEIC, which phones write, is read by pillow-heif. These brands are of HEVC in a HEIF container (ISO 23008-12); what
# names no codec as its first brand (mif1) lists those that it is compatible with.
_HEIC = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"))

# A JPEG 2000 file that is cut off between its header and its first tile decodes to a black picture without complaint.
# Its packets never hold these two markers (ISO 15444-1, annex A), so the last ones tell whether it is whole.
_JP2_DATA, _JP2_END = b"\xff\x93", b"\xff\xd9"

# What one picture may cost beside its pixels, which Pillow bounds: a file of kilobytes must not take minutes.
MOST_SCANS = 64  # of a JPEG, each a pass over all its pixels; encoders make about ten
MOST_PLAIN = 2**24  # bytes of a PNM in plain text, which is read at some megabytes a second
MOST_PIXELS = {"JPEG2000": 2**25}  # its decoder takes 40 bytes for a pixel
COUNTED = 2**22  # bytes of a GIF or TIFF whose frames are counted, which is a walk through all of it
_SCAN = re.compile(rb"\xff\xda\x00(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")

ON_WHITE = "alpha laid on white"  # the note of what was transparent

_EXIF_ORIENTATION = 0x0112
_ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(LsapError):
    """One image cannot be used; the others can. `reason` is the message without the name of the input."""

    def __init__(self, reason: str, source: str | None = None):
        super().__init__(f"{source}: {reason}" if source else reason)
        self.reason = reason


def picture_from_bytes(data: bytes) -> tuple[Image.Image, list[str]]:
    """Decodes one file.

    Args:
        data: the whole file.
    Returns:
        the picture in mode L (grey sources) or RGB, upright, without alpha; and what was done, in words.
    Raises:
        ImageError: empty, cut off, damaged, not an image, or so large that decoding it would exhaust the memory; HEIC
            where pillow-heif is not installed.
    """
    if not data:
        raise ImageError("the file is empty")
    notes: list[str] = []
    formats = _heif() if is_heic(data) else READABLE
    try:
        with Image.open(io.BytesIO(data), formats=formats) as opened:
            _check_cost(opened, data)
            notes += _frames_note(opened, len(data))
            opened.load()
            if opened.format == "JPEG2000" and data.rfind(_JP2_END) <= data.rfind(_JP2_DATA):
                raise ImageError("damaged or cut off: the end of the JPEG 2000 data is missing")
            return _grey_or_rgb(_upright(opened, notes), notes), notes
    except ImageError:
        raise
    except Image.UnidentifiedImageError:
        raise ImageError(f"not an image in a readable format ({_NAMES}), or cut off in its header") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"too large to decode safely: {error}; scale it down first") from None
    except MemoryError:
        raise ImageError("too large for this machine's memory; scale it down first") from None
    except Exception as error:  # a damaged file can make a decoder raise anything
        raise ImageError(f"damaged or cut off: {error or type(error).__name__}") from None


def is_heic(data: bytes) -> bool:
    """Whether a file is HEIC by its brands, and not, as AVIF in the same container, read by Pillow."""
    if data[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(data[:4]), 256)
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, end - 3, 4))}
    return bool(brands & _HEIC) and b"avif" not in brands


def _heif() -> tuple[str]:
    """The reader of HEIC, made known to Pillow.

    Raises:
        ImageError: it is not installed.
    """
    try:
        import pillow_heif
    except ImportError:
        raise ImageError(
            "a HEIC picture, which needs pillow-heif: install the extra `heic` of lsap_jax (pip install pillow-heif), "
            "or save the picture as JPEG"
        ) from None
    pillow_heif.register_heif_opener()
    return ("HEIF",)


def picture_from_array(array: np.ndarray) -> tuple[Image.Image, list[str]]:
    """One image held as an array.

    Args:
        array: [H, W, C] with C of 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA); uint8, uint16 (scaled by 1/257) or
            float in [-1, 1]. Floats beyond that up to 2, as generators produce them, are clipped.
    Returns:
        as `picture_from_bytes`.
    Raises:
        ImageError: another shape or dtype, NaN, or floats in another range.
    """
    array = np.asarray(array)
    notes: list[str] = []
    if array.ndim != 3 or array.shape[2] not in (1, 2, 3, 4) or 0 in array.shape:
        raise ImageError(
            f"an array of shape {list(array.shape)} is not an image: [H, W, C] with 1 to 4 channels is needed"
        )
    if np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all():
            raise ImageError("the array has NaN or infinite values")
        low, high = float(array.min()), float(array.max())
        if max(-low, high) > 2:
            raise ImageError(f"values from {low:.4g} to {high:.4g} are not in [-1, 1]: rescale them, or pass uint8")
        if max(-low, high) > 1.0001:
            notes.append(f"clipped to [-1, 1] from {low:.4g} to {high:.4g}")
        array = to_uint8(array)
    elif array.dtype == np.uint16:
        array = _scaled_16(array)
        notes.append("16 bits scaled to 8")
    elif array.dtype != np.uint8:
        raise ImageError(f"an array of {array.dtype} is not an image: use uint8, uint16, or float in [-1, 1]")
    picture = Image.fromarray(np.ascontiguousarray(array[..., 0] if array.shape[2] == 1 else array))
    return _grey_or_rgb(picture, notes), notes


def _check_cost(opened: ImageFile.ImageFile, data: bytes) -> None:
    """Raises ImageError where decoding would take more time or memory than any real picture of that size."""
    pixels, most = opened.width * opened.height, MOST_PIXELS.get(str(opened.format))
    if most is not None and pixels > most:
        raise ImageError(f"too large to decode safely: {opened.format} of {pixels} pixels; scale it down first")
    scans = len(_SCAN.findall(data)) if opened.format in ("JPEG", "MPO") else 0
    if scans > MOST_SCANS:
        raise ImageError(f"a JPEG of {scans} scans, which take too long to decode; save it again")
    if data[:2] in (b"P1", b"P2", b"P3") and len(data) > MOST_PLAIN:
        raise ImageError(f"a plain-text PNM of more than {MOST_PLAIN // 2**20} MiB; save it as PNG")


def _frames_note(opened: ImageFile.ImageFile, size: int) -> list[str]:
    if opened.format in ("GIF", "TIFF") and size > COUNTED:
        try:
            opened.seek(1)
        except EOFError:
            return []
        opened.seek(0)
        return ["first of several frames"]
    if not getattr(opened, "is_animated", False):
        return []
    return [f"first of {getattr(opened, 'n_frames', 'several')} frames"]


def _upright(picture: Image.Image, notes: list[str]) -> Image.Image:
    try:
        orientation = picture.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # the pixels are whole, only the camera's block is damaged, in whatever way
        notes.append("EXIF block unreadable, taken as upright")
        return picture
    if orientation not in _ORIENTATIONS:
        return picture
    notes.append(f"turned upright (EXIF orientation {orientation})")
    turned = picture.transpose(_ORIENTATIONS[orientation])
    turned.info = dict(picture.info)  # a colour that means "transparent" would be lost
    return turned


def _grey_or_rgb(picture: Image.Image, notes: list[str]) -> Image.Image:
    if picture.mode.startswith("I;16"):
        notes.append("16 bits scaled to 8")
        return Image.fromarray(_scaled_16(np.asarray(picture)))
    if picture.mode == "I":
        return Image.fromarray(_from_integers(np.asarray(picture), notes))
    if picture.mode == "F":
        return Image.fromarray(_from_floats(np.asarray(picture), notes))
    grey = picture.mode in ("1", "L", "LA", "La")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        if picture.getchannel("A").getextrema() != (255, 255):
            notes.append(ON_WHITE)
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    elif picture.mode == "CMYK":
        notes.append("CMYK converted to RGB without a colour profile")
    return picture.convert("L" if grey else "RGB")


def _scaled_16(array: np.ndarray) -> np.ndarray:
    """round(x / 257): 65535 is 255, and every 8-bit level comes back from level * 257."""
    return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _from_integers(array: np.ndarray, notes: list[str]) -> np.ndarray:
    """32-bit greys. PNM and older PNG readers deliver 16-bit files this way, so the range is taken as 16 bits."""
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > 65535:
        raise ImageError(f"32-bit values from {low} to {high} have no agreed range: convert it to 8 or 16 bits first")
    notes.append("16 bits scaled to 8")
    return _scaled_16(array)


def _from_floats(array: np.ndarray, notes: list[str]) -> np.ndarray:
    """Float greys: the usual ranges are 0 to 1 and 0 to 255; the picture's own values decide, and the note says so."""
    if not np.isfinite(array).all():
        raise ImageError("the file has NaN or infinite values")
    low, high = float(array.min()), float(array.max())
    if low < 0 or high > 255:
        raise ImageError(f"float values from {low:.4g} to {high:.4g} have no agreed range: convert it to 8 bits first")
    top = 1 if high <= 1 else 255
    notes.append(f"floats scaled from [0, {top}]")
    return np.floor(array * (255 / top) + 0.5).astype(np.uint8)
