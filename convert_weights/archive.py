"""Members of a zip file (torch saves, .npz), read with their checksums verified and their sizes bounded."""

import struct
import zipfile
import zlib
from typing import BinaryIO

from convert_weights.checkpoint import ConversionError, shown

# What a member may unpack to is its role's to say (`most` of `read`), and all that is read of an archive, however
# often, may be this many times its size: weights hardly shrink when they are compressed; torch and numpy store them.
MAX_EXPANSION = 4
FREE_BYTES = 64 * 2**20
MAX_DIRECTORY = 2**23  # bytes; the largest checkpoints have 2^18
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OverflowError,
    ValueError,
    RuntimeError,
    IndexError,
    KeyError,
    OSError,
)


class Archive:
    """A zip file whose members are read one at a time.

    Args:
        file: the open file; it must stay open while members are read.
        size: its length in bytes.
    Raises:
        ConversionError: where the directory is damaged, lists a name twice or claims absurd sizes.
    """

    def __init__(self, file: BinaryIO, size: int):
        stated = _stated_count(file, size)
        try:
            self._zip = zipfile.ZipFile(file)
        except DAMAGED as error:
            raise ConversionError(
                f"its zip directory cannot be read ({shown(str(error))}); the download is incomplete, fetch it again"
            ) from None
        if stated != (count := len(self._zip.infolist())):
            raise ConversionError(
                f"its zip directory states {stated} members but lists {count}, or has bytes after it; the file is "
                "damaged"
            )
        self._left = MAX_EXPANSION * size + FREE_BYTES
        self._latest: tuple[str, bytes] = "", b""
        self._members: dict[str, zipfile.ZipInfo] = {}
        for info in self._zip.infolist():
            if info.filename in self._members:
                raise ConversionError(f"the zip holds {shown(info.filename)} twice; the file is damaged or hostile")
            if info.compress_type not in METHODS:
                raise ConversionError(
                    f"zip member {shown(info.filename, 80)} is compressed by method {info.compress_type}, which torch "
                    "and numpy do not use; unpack the file, and pack it again stored or deflated"
                )
            self._members[info.filename] = info

    @property
    def names(self) -> list[str]:
        """Member names in directory order."""
        return list(self._members)

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def size(self, name: str) -> int:
        """The member's uncompressed size in bytes, as the directory claims it."""
        return self._members[name].file_size

    def read(self, name: str, most: int) -> bytes:
        """The whole member, which is at most `most` bytes long.

        Raises:
            ConversionError: where it is missing, longer, encrypted, truncated or fails its CRC.
        """
        if name not in self._members:
            raise ConversionError(f"the zip has no member {shown(name, 80)}; the file is incomplete, fetch it again")
        if self._latest[0] != name:  # tensors that share a storage mostly follow each other
            if (size := self.size(name)) > most:
                raise ConversionError(
                    f"zip member {shown(name, 80)} claims {size} bytes, it can have at most {most}; refused as a "
                    "decompression bomb"
                )
            data = self._start(name, size)
            if len(data) != size:
                raise ConversionError(f"zip member {shown(name, 80)} is truncated; fetch the file again")
            self._latest = name, data
        return self._latest[1]

    def head(self, name: str, count: int) -> bytes:
        """The first `count` bytes of a member; its checksum is not verified."""
        return self._start(name, min(count, self.size(name)))

    def _start(self, name: str, count: int) -> bytes:
        """The first bytes of a member: never more are unpacked, whatever its stream would give."""
        self._left -= count
        if self._left < 0:
            raise ConversionError(
                "the zip expands to far more than its size; refused as a decompression bomb: if you trust it, pack it "
                "again without compression"
            )
        try:
            with self._zip.open(self._members[name]) as stream:
                return stream.read(count)
        except DAMAGED as error:
            raise ConversionError(
                f"zip member {shown(name, 80)} is damaged ({shown(str(error))}); fetch the file again"
            ) from None


def _stated_count(file: BinaryIO, size: int) -> int:
    """The number of members that the end of the directory states, which zipfile does not compare.

    Raises:
        ConversionError: the file does not end with its directory, or that is larger than that of any checkpoint.
    """
    file.seek(max(size - 98, 0))
    tail = file.read(98)
    file.seek(0)
    if tail[-22:-18] != b"PK\x05\x06":
        raise ConversionError(
            "its zip directory is not at its end; the download is incomplete or has bytes after it, fetch it again"
        )
    count, length = struct.unpack("<HI", tail[-12:-6])
    if len(tail) == 98 and (tail[:4], tail[56:60]) == (b"PK\x06\x06", b"PK\x06\x07"):  # as torch writes it
        count, length = struct.unpack("<QQ", tail[32:48])
    if length > MAX_DIRECTORY:
        raise ConversionError(f"its zip directory has {length} bytes, at most {MAX_DIRECTORY} are read; it is hostile")
    return int(count)
