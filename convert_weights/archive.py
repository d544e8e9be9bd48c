"""Members of a zip file (torch saves, .npz), read with their checksums verified and their sizes bounded."""

import struct
import zipfile
import zlib
from typing import BinaryIO

from convert_weights.checkpoint import ConversionError, shown

# Deflate cannot expand weights by much: a file that claims more than this is a decompression bomb.
MAX_EXPANSION = 32
FREE_BYTES = 64 * 2**20
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
        try:
            self._zip = zipfile.ZipFile(file)
        except DAMAGED as error:
            raise ConversionError(
                f"its zip directory cannot be read ({shown(str(error))}); the download is incomplete, fetch it again"
            ) from None
        _check_count(file, size, len(self._zip.infolist()))
        self._members: dict[str, zipfile.ZipInfo] = {}
        for info in self._zip.infolist():
            if info.filename in self._members:
                raise ConversionError(f"the zip holds {shown(info.filename)} twice; the file is damaged or hostile")
            self._members[info.filename] = info
        if sum(info.file_size for info in self._members.values()) > MAX_EXPANSION * size + FREE_BYTES:
            raise ConversionError("the zip claims to expand to far more than its size; refused as a decompression bomb")

    @property
    def names(self) -> list[str]:
        """Member names in directory order."""
        return list(self._members)

    def size(self, name: str) -> int:
        """The member's uncompressed size in bytes, as the directory claims it."""
        return self._members[name].file_size

    def read(self, name: str) -> bytes:
        """The whole member.

        Raises:
            ConversionError: where it is missing, encrypted, truncated or fails its CRC.
        """
        if name not in self._members:
            raise ConversionError(f"the zip has no member {shown(name, 80)}; the file is incomplete, fetch it again")
        try:
            data = self._zip.read(self._members[name])
        except DAMAGED as error:
            raise ConversionError(
                f"zip member {shown(name, 80)} is damaged ({shown(str(error))}); fetch the file again"
            ) from None
        if len(data) != self._members[name].file_size:
            raise ConversionError(f"zip member {shown(name, 80)} is truncated; fetch the file again")
        return data

    def head(self, name: str, count: int) -> bytes:
        """The first `count` bytes of a member; its checksum is not verified."""
        try:
            with self._zip.open(self._members[name]) as stream:
                return stream.read(count)
        except DAMAGED as error:
            raise ConversionError(
                f"zip member {shown(name, 80)} is damaged ({shown(str(error))}); fetch the file again"
            ) from None


def _check_count(file: BinaryIO, size: int, count: int) -> None:
    """Compares the members found with the number that the end of the directory states, which zipfile does not."""
    file.seek(max(size - 98, 0))
    tail = file.read(98)
    end, big = tail[-22:], tail[:56]
    stated = struct.unpack("<H", end[10:12])[0] if end[:4] == b"PK\x05\x06" else -1
    if stated == 0xFFFF and big[:4] == b"PK\x06\x06":
        stated = struct.unpack("<Q", big[32:40])[0]
    if stated != count:
        raise ConversionError(
            f"its zip directory states {stated} members but lists {count}, or has bytes after it; the file is damaged"
        )
