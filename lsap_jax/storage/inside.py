"""Reading the files of a results folder, which may come from elsewhere: no name in it leads out of it, and nothing but
a regular file is read.
"""

import errno
import os
import stat
from pathlib import Path

from lsap_jax.errors import LsapError

MOST_BYTES = 2**31  # of one file; the codes of an image are a few MB, the largest manifests a few hundred


def inside(folder: str | os.PathLike[str], name: str) -> Path:
    """The path of a file of a folder.

    Args:
        name: relative, '/' between its parts.
    Raises:
        LsapError: the name, or a symbolic link on the way, leads out of the folder.
    """
    parts = name.split("/")
    if os.path.splitdrive(name)[0] or any(part in ("", ".", "..") or set(part) & {"\\", "\0"} for part in parts):
        raise LsapError(f"{folder}: names a file {name[:200]!r}, which is not a path inside the folder; do not use it")
    path, root = Path(folder) / name, os.path.realpath(folder)
    if os.path.commonpath([root, real := os.path.realpath(path)]) != root:
        raise LsapError(f"{path}: is a link out of {folder}, to {real}; put a copy in its place")
    return path


def read_inside(folder: str | os.PathLike[str], name: str) -> bytes:
    """A file of a folder.

    Raises:
        LsapError: as `inside`; neither a regular file nor a folder, or one of more than `MOST_BYTES`.
        OSError: it is missing or cannot be read.
    """
    path = inside(folder, name)
    about = os.stat(path)
    if stat.S_ISDIR(about.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(about.st_mode):  # reading a pipe would never end
        raise LsapError(f"{path}: is not a regular file; put the file in its place")
    if about.st_size > MOST_BYTES:
        raise LsapError(f"{path}: is of {about.st_size} bytes, more than {MOST_BYTES}; this package wrote no such file")
    return path.read_bytes()
