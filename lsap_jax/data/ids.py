"""Names of images: the relative path without its suffix, made unique and safe to use as a path in a run folder.

A run writes `images/ID.png`, `codes/ID.npz` and so on, so an id may hold folders ("anna/01") but nothing that leaves
them, nothing that a terminal or a line-based file would trip over, and no two ids may meet in one file, also on file
systems that ignore case or normalise Unicode.
"""

import hashlib
import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence

from lsap_jax.errors import LsapError

_OUTPUT_SUFFIXES = (".png", ".npz")
_MOST_BYTES = 255 - len(".npz")  # of a name within a folder, on the usual file systems
_DIGEST = 16  # hexadecimal digits
_UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}  # control characters, undecodable bytes, line and paragraph separators


def id_problem(text: object) -> str | None:
    """The reason why a text cannot be an id; None if it can."""
    if not isinstance(text, str):
        return f"is a {type(text).__name__}, not a text"
    if not text:
        return "is empty"
    if any(_unsafe(character) for character in text):
        return "holds control characters, a backslash or bytes that are no UTF-8"
    for part in text.split("/"):
        if part in ("", ".", ".."):
            return "is not a plain relative path (empty, '.' or '..' between slashes)"
        if len(os.fsencode(part)) > _MOST_BYTES:
            return f"has a part longer than {_MOST_BYTES} bytes"
    return None


def check_ids(ids: Sequence[str]) -> None:
    """Raises LsapError if an id is unsafe or two ids would share a file."""
    for text in ids:
        if problem := id_problem(text):
            raise LsapError(f"id {text!r} {problem}: give the image another one")
    clashing = clashes(ids)
    if clashing:
        raise LsapError(f"ids {_listed(ids[i] for i in clashing)} would share a file: give each image its own")


def assign_ids(names: Sequence[str]) -> list[str]:
    """Ids of files.

    Args:
        names: distinct relative paths with '/' between folders.
    Returns:
        one id per name: without its suffix, or with it where two would otherwise share a file; characters that are
        unsafe in a path or a terminal are written as %XX. A part of more than 251 bytes, which would not leave room for
        the suffixes of results, is cut and ends with ~ and a digest of all of it.
    Raises:
        LsapError: two names differ in case (or in their spelling of the same accents) only.
    """
    escaped = [_escaped(name) for name in names]
    whole = [_cut(name) for name in escaped]
    ids = [_cut(_without_suffix(name)) for name in escaped]
    for name, text in zip(names, whole, strict=True):
        if problem := id_problem(text):
            raise LsapError(f"{name!r}: its name {problem}: rename it")
    while clashing := clashes(ids):
        widened = [i for i in clashing if ids[i] != whole[i]]
        if not widened:
            listed = _listed(names[i] for i in clashing)
            raise LsapError(f"{listed} would share a file on systems that ignore case or accents: rename them")
        for i in widened:
            ids[i] = whole[i]
    return ids


def clashes(ids: Sequence[str]) -> list[int]:
    """Indices of ids that would share a file with another, or have a file where another needs a folder
    (`a` writes `a.png`, and `a.png/b` needs a folder of that name).
    """
    keys = [unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold()) for text in ids]
    same, folders = defaultdict(list), set()
    for index, key in enumerate(keys):
        same[key].append(index)
        while "/" in key:
            key = key.rpartition("/")[0]
            folders.add(key)
    shared = {index for group in same.values() if len(group) > 1 for index in group}
    blocked = {index for index, key in enumerate(keys) if any(key + suffix in folders for suffix in _OUTPUT_SUFFIXES)}
    return sorted(shared | blocked)


def _without_suffix(name: str) -> str:
    folder, slash, base = name.rpartition("/")
    root, _, suffix = base.rpartition(".")
    return folder + slash + root if suffix and root.strip(".") else name


def _cut(name: str) -> str:
    """The name with its long parts cut; which name it is remains told by their digest."""
    return "/".join(part if len(part.encode()) <= _MOST_BYTES else _cut_part(part.encode()) for part in name.split("/"))


def _cut_part(part: bytes) -> str:
    digest = hashlib.sha256(part).hexdigest()[:_DIGEST]
    return f"{part[: _MOST_BYTES - _DIGEST - 1].decode(errors='ignore')}~{digest}"


def _unsafe(character: str) -> bool:
    return character == "\\" or unicodedata.category(character) in _UNPRINTABLE


def _escaped(name: str) -> str:
    return "".join(
        "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogateescape"))
        if _unsafe(character)
        else character
        for character in name
    )


def _listed(texts: Iterable[str], most: int = 4) -> str:
    texts = list(texts)
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(repr(text) for text in texts[:most]) + more
