"""Which image files a folder, a glob, a file list or several paths mean: a cheap listing that opens none of them."""

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass

from lsap_jax.errors import LsapError

LIST = "@"

# What a folder is searched for. The second line are pictures that are not read here: they are listed all the same, so
# that each is reported as failed with a reason instead of being passed over.
_IMAGE_NAMES = """
    png apng jpg jpeg jpe jfif webp gif bmp dib tif tiff pbm pgm ppm pnm pfm jp2 j2k jpx avif heic heif hif
    jxl tga psd exr hdr dng cr2 cr3 nef arw ico svg
"""
IMAGE_SUFFIXES = frozenset(f".{name}" for name in _IMAGE_NAMES.split())


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Files to load, sorted by name; where a file list is among what was named, in the order of what was named.

    Attributes:
        paths: as they can be opened.
        names: relative to what was named (for several: to their common folder), '/' between folders.
        skipped: hidden files and files without an image suffix that a folder held besides.
        results: image files in the folder of the results.
    """

    paths: tuple[str, ...]
    names: tuple[str, ...]
    skipped: tuple[str, ...]
    results: tuple[str, ...] = ()


def list_files(specs: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str] | None = None) -> Listing:
    """Expands folders (recursively), globs (`**` included), file lists (`@FILE`) and files.

    A folder yields its image files by suffix; hidden ones are left out. Files that are named, listed or matched by a
    glob are always taken, whatever their suffix. A file that is named twice counts once.

    Args:
        out: folder of the results; what a folder or a glob yields of it is left out, so that the same command yields
            the same files again.

    Raises:
        LsapError: nothing is there, nothing matches, a folder that was named has no image, may not be read or is that
            of the results, or a file list is damaged.
    """
    results = os.path.realpath(out) if out is not None else None
    bases: list[str] = []
    found: dict[str, None] = {}
    skipped: list[str] = []
    own: list[str] = []
    keep_order = False
    for spec in specs:
        text = os.path.expanduser(os.fspath(spec))
        if _is_list(text):
            paths = _listed_paths(os.path.expanduser(text.removeprefix(LIST)))
            base = os.path.commonpath([os.path.abspath(os.path.dirname(path)) for path in paths])
            keep_order = True
        else:
            base, paths = _expand(text, skipped)
            if results is not None and (os.path.isdir(text) or not os.path.lexists(text)):  # not a file by its name
                if _is_below(base, results):
                    raise LsapError(f"{text}: lies in {out}, where the results go; choose another folder for them")
                paths, below = _apart(paths, results)
                own += below
            paths.sort()
        bases.append(os.path.abspath(base))
        found.update(dict.fromkeys(os.path.normpath(path) for path in paths))
    if not found:
        others = f" ({len(skipped)} other files are there)" if skipped else ""
        raise LsapError(f"{', '.join(map(str, specs)) or 'the list'}: no image files found{others}")
    root = os.path.commonpath(bases)
    named = {os.path.relpath(os.path.abspath(path), root).replace(os.sep, "/"): path for path in found}
    names = list(named) if keep_order else sorted(named)
    return Listing(
        paths=tuple(named[name] for name in names),
        names=tuple(names),
        skipped=tuple(sorted(set(skipped if results is None else _apart(skipped, results)[0]))),
        results=tuple(sorted(set(own))),
    )


def _is_below(path: str, folder: str) -> bool:
    """Whether a path is a folder, of `os.path.realpath`, or in it."""
    return os.path.join(os.path.realpath(path), "").startswith(os.path.join(folder, ""))


def _apart(paths: Sequence[str], folder: str) -> tuple[list[str], list[str]]:
    """The paths outside of a folder, and those in it."""
    inside = {place: _is_below(place, folder) for place in {os.path.dirname(path) for path in paths}}
    below = [path for path in paths if inside[os.path.dirname(path)]]
    return [path for path in paths if not inside[os.path.dirname(path)]], below


def _is_list(spec: str) -> bool:
    """Whether a text means a file list: a file whose own name begins with the sign is that file."""
    return spec.startswith(LIST) and not os.path.lexists(spec)


def _listed_paths(path: str) -> list[str]:
    """The entries of a file list, in its order, relative ones taken from the list's folder."""
    try:
        with open(path, "rb") as file:  # a pipe will do
            data = file.read()
    except OSError as error:
        raise LsapError(f"{LIST}{path}: the list cannot be read ({error.strerror})") from None
    try:
        lines = data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise LsapError(f"{path}, line {number}: is not UTF-8 text; a list has one path per line") from None
    paths = []
    for number, line in enumerate(lines, 1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        if problem := _entry_problem(entry):
            raise LsapError(f"{path}, line {number}: {entry[:100]!r} {problem}")
        paths.append(os.path.join(os.path.dirname(path), os.path.expanduser(entry)))
    if not paths:
        raise LsapError(f"{path}: the list names no file; it has one path per line")
    return paths


def _entry_problem(entry: str) -> str | None:
    """Why a line cannot be a path, as far as the text shows; a file that is missing fails alone, when it is loaded."""
    if any(character < " " or character == "\x7f" for character in entry):
        return "holds control characters; a list has one path per line and nothing else"
    if "://" in entry or entry.startswith("tfds:"):
        return "is no path; a list names local files"
    if entry.endswith(("/", os.sep)):
        return "is a folder; a list names files, and folders are named beside it"
    return None


def _expand(spec: str, skipped: list[str]) -> tuple[str, list[str]]:
    """The folder that names are relative to, and the files."""
    if os.path.isdir(spec):
        return spec, _walk(spec, skipped)
    if os.path.lexists(spec):
        return os.path.dirname(spec) or ".", [spec]
    if not glob.has_magic(spec):
        raise LsapError(f"{spec}: no such file or folder")
    paths: list[str] = []
    for match in sorted(glob.glob(spec, recursive=True)):
        if not os.path.isdir(match):
            paths.append(match)
        elif not spec.rstrip("/").endswith("**"):  # `**` has already gone into the folders it matches
            paths += _walk(match, skipped)
    if not paths:
        raise LsapError(f"{spec}: no file matches")
    return _fixed_part(spec), paths


def _fixed_part(pattern: str) -> str:
    """The folders of a pattern before its first wildcard."""
    base = os.path.dirname(pattern)
    while glob.has_magic(base):
        base = os.path.dirname(base)
    return base or "."


def _walk(top: str, skipped: list[str]) -> list[str]:
    """Image files below a folder, and the folders below it that cannot be listed, which fail when they are loaded.
    Links to folders are followed, except back to one that the walk came through.
    """
    paths: list[str] = []
    waiting: list[tuple[str, tuple[str, ...]]] = [(top, ())]
    while waiting:
        folder, above = waiting.pop()
        real = os.path.realpath(folder)
        if real in above:
            continue
        try:
            entries = list(os.scandir(folder))
        except OSError as error:
            if folder == top:
                raise LsapError(f"{folder}: cannot be listed ({error.strerror})") from None
            paths.append(folder)
            continue
        for entry in entries:
            if entry.name.startswith("."):
                skipped.append(entry.path)
            elif _is_folder(entry):
                waiting.append((entry.path, (*above, real)))
            elif os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES:
                paths.append(entry.path)
            else:
                skipped.append(entry.path)
    return paths


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
