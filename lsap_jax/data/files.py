"""Which image files a folder, a glob or a list of paths means: a cheap listing that opens none of them."""

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass

from lsap_jax.errors import LsapError

# What a folder is searched for. The second line are pictures that are not read here: they are listed all the same, so
# that each is reported as failed with a reason instead of being passed over.
_IMAGE_NAMES = """
    png apng jpg jpeg jpe jfif webp gif bmp dib tif tiff pbm pgm ppm pnm pfm jp2 j2k jpx avif
    heic heif jxl tga psd exr hdr dng cr2 cr3 nef arw ico svg
"""
IMAGE_SUFFIXES = frozenset(f".{name}" for name in _IMAGE_NAMES.split())


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Files to load, sorted by name.

    Attributes:
        paths: as they can be opened.
        names: relative to what was named (for several: to their common folder), '/' between folders.
        skipped: hidden files and files without an image suffix that a folder held besides.
    """

    paths: tuple[str, ...]
    names: tuple[str, ...]
    skipped: tuple[str, ...]


def list_files(specs: Sequence[str | os.PathLike[str]]) -> Listing:
    """Expands folders (recursively), globs (`**` included) and files.

    A folder yields its image files by suffix; hidden ones are left out. Files that are named, or matched by a glob,
    are always taken, whatever their suffix. A file that is named twice counts once.

    Raises:
        LsapError: nothing there, nothing matched, no image in it, or a folder that may not be read.
    """
    bases: list[str] = []
    found: dict[str, None] = {}
    skipped: list[str] = []
    for spec in specs:
        base, paths = _expand(os.path.expanduser(os.fspath(spec)), skipped)
        bases.append(os.path.abspath(base))
        found.update(dict.fromkeys(os.path.normpath(path) for path in paths))
    if not found:
        others = f" ({len(skipped)} other files are there)" if skipped else ""
        raise LsapError(f"{', '.join(map(str, specs)) or 'the list'}: no image files found{others}")
    root = os.path.commonpath(bases)
    named = {os.path.relpath(os.path.abspath(path), root).replace(os.sep, "/"): path for path in found}
    names = sorted(named)
    return Listing(paths=tuple(named[name] for name in names), names=tuple(names), skipped=tuple(sorted(set(skipped))))


def _expand(spec: str, skipped: list[str]) -> tuple[str, list[str]]:
    """The folder that names are relative to, and the files."""
    if os.path.isdir(spec):
        return spec, _walk(spec, skipped, ())
    if os.path.lexists(spec):
        return os.path.dirname(spec) or ".", [spec]
    if not glob.has_magic(spec):
        raise LsapError(f"{spec}: no such file or folder")
    paths: list[str] = []
    for match in sorted(glob.glob(spec, recursive=True)):
        if not os.path.isdir(match):
            paths.append(match)
        elif not spec.rstrip("/").endswith("**"):  # `**` has already gone into the folders it matches
            paths += _walk(match, skipped, ())
    if not paths:
        raise LsapError(f"{spec}: no file matches")
    return _fixed_part(spec), paths


def _fixed_part(pattern: str) -> str:
    """The folders of a pattern before its first wildcard."""
    base = os.path.dirname(pattern)
    while glob.has_magic(base):
        base = os.path.dirname(base)
    return base or "."


def _walk(folder: str, skipped: list[str], above: tuple[str, ...]) -> list[str]:
    """Image files below a folder. Links to folders are followed, except back to one that the walk came through."""
    real = os.path.realpath(folder)
    if real in above:
        return []
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise LsapError(f"{folder}: cannot be listed ({error.strerror})") from None
    paths: list[str] = []
    for entry in entries:
        if entry.name.startswith("."):
            skipped.append(entry.path)
        elif entry.is_dir():
            paths += _walk(entry.path, skipped, (*above, real))
        elif os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES:
            paths.append(entry.path)
        else:
            skipped.append(entry.path)
    return paths
