"""Files are opened here: regular files only, so that no reader waits for a pipe or reads a device without end."""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

_OTHERS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def open_file(path: str | os.PathLike) -> BufferedReader:
    """A regular file, open for reading.

    Raises:
        OSError: there is none that can be read, or it is something else; never after a wait.
    """
    kind = stat.S_IFMT(os.stat(path).st_mode)
    if kind == stat.S_IFREG:
        file = open(path, "rb", opener=_at_once)  # noqa: SIM115 - the caller closes it
        kind = stat.S_IFMT(os.fstat(file.fileno()).st_mode)
        if kind == stat.S_IFREG:
            return file
        file.close()  # it took the file's place meanwhile
    raise OSError(errno.EINVAL, f"it is {_OTHERS.get(kind, 'no file')}, not a file", str(path))


def read_file(path: str | os.PathLike, most: int) -> bytes:
    """All of a regular file of at most `most` bytes.

    Raises:
        OSError: as `open_file`, or it is larger.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise OSError(errno.EFBIG, f"it has {size} bytes, such files have at most {most}", str(Path(path)))
        return file.read(size)


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
