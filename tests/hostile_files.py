"""Files that ask their reader for far more time or memory than they have bytes: name -> a function that writes one."""

import io
import json
import struct
import zipfile
import zlib

import foreign_dialects as dialects
import foreign_files as files
import numpy as np
from PIL import Image

MEGA = 2**20
G = dialects.random_generator()


def stream(*parts: bytes) -> bytes:
    """A pickle of these opcodes."""
    return b"\x80\x04" + b"".join(parts) + b"."


def named(name: str) -> bytes:
    """GLOBAL."""
    module, _, last = name.rpartition(".")
    return b"c" + f"{module}\n{last}\n".encode()


def colliding(count: int, value: bytes = b"N") -> bytes:
    """Integers of one hash, each followed by `value`."""
    return b"".join(b"\x8a\x0f" + (i * (2**61 - 1)).to_bytes(15, "little") + value for i in range(1, count))


def text(count: int) -> bytes:
    return b"X" + struct.pack("<I", count) + b"a" * count


PICKLES = {
    "keys of one hash": lambda: stream(b"}(", colliding(60_000), b"u"),
    "members of one hash": lambda: stream(b"\x8f(", colliding(60_000, b""), b"\x90"),
    "a frozen set of one hash": lambda: stream(b"(", colliding(60_000, b""), b"\x91"),
    "a set from a list of one hash": lambda: stream(named("builtins.set"), b"](", colliding(60_000, b""), b"e\x85R"),
    "pairs of one hash": lambda: stream(
        named("collections.OrderedDict"), b"](", colliding(60_000, b"N\x86"), b"e\x85R"
    ),
    "sets without end": lambda: stream(b"(", b"\x8f" * (MEGA // 2), b"l"),
    "nested tuples": lambda: stream(b")", b"\x85" * (MEGA // 4)),
    "one text encoded again and again": lambda: stream(
        named("_codecs.encode"), b"\x94", text(MEGA), b"\x8c\x06latin1\x86\x94", b"(", b"h\x00h\x01R" * 100_000, b"l"
    ),
    "one list made a set again and again": lambda: stream(
        named("builtins.set"), b"\x94](", b"K\x01" * 100_000, b"e\x85\x94", b"(", b"h\x00h\x01R" * 50_000, b"l"
    ),
    "one blob read again and again": lambda: stream(
        named("torch.storage._load_from_bytes"),
        b"\x94B" + struct.pack("<I", MEGA) + b"\x80\x02" + b"N0" * (MEGA // 2 - 1) + b"\x85\x94",
        b"(",
        b"h\x00h\x01R" * 50_000,
        b"l",
    ),
    "one dict under many names": lambda: files.plain(_repeated(), 4),
    "components of components": lambda: files.plain((_tree(),) * 3, 4),
    "modules of modules": lambda: files.plain({"G_ema": _modules()}, 4),
    "a version of many laughs": lambda: files.plain(_laughing(), 4),
}


def _repeated() -> dict:
    same = {f"{i:x}": 1 for i in range(30_000)}
    return {f"{i:x}": same for i in range(30_000)}


def _tree() -> files.Obj:
    node = files.tf_network({}, {}, 4)
    for _ in range(4):
        node = files.tf_network({}, {}, 4, {f"{i:x}": node for i in range(1000)})
    return node


def _modules() -> files.Obj:
    node = files.module("Generator", {}, {})
    for _ in range(11):
        node = files.module("Generator", {}, {f"{i:x}": node for i in range(100)})
    return node


def _laughing() -> tuple:
    network, laugh = dialects.tensorflow_generator(G), ["ha"]
    for _ in range(60):
        laugh = [laugh, laugh]
    network.state["version"] = laugh
    return network, dialects.tensorflow_discriminator(dialects.random_discriminator()), network


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def lying(name: str, claimed: int, size: int) -> bytes:
    """A zip whose one member claims fewer bytes than it unpacks to."""
    data = zipped({name: bytes(size)})
    return data.replace(struct.pack("<I", size), struct.pack("<I", claimed))


def npy(descr: str, shape: tuple, values: bytes = b"") -> bytes:
    head = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + values


def lzma_damaged() -> bytes:
    data = bytearray(zipped({"a/data.pkl": b"x" * 1000}, zipfile.ZIP_LZMA))
    data[45] ^= 255
    return bytes(data)


def bzip(size: int) -> bytes:
    return zipped({"a/data.pkl": bytes(size)}, zipfile.ZIP_BZIP2)


ARCHIVES = {
    "a data.pkl of zeros": lambda: zipped({"a/data/0": b"", "a/data.pkl": bytes(24 * MEGA)}),
    "a data.pkl that claims too little": lambda: lying("a/data.pkl", 100, 24 * MEGA),
    "a damaged LZMA member": lzma_damaged,
    "a bzip2 bomb": lambda: bzip(24 * MEGA),
    "tensors of zeros": lambda: files.torch_zip(files.T(np.zeros((1, 18 * MEGA), np.float32)), compression=8),
    "an array of zeros": lambda: zipped({"w.npy": npy("<f4", (1, 18 * MEGA), bytes(72 * MEGA))}),
    "an array of terabytes": lambda: zipped({"w.npy": npy("<f4", (2**40,))}),
    "an array of objects": lambda: zipped({"w.npy": npy("|O", (3,), b"x" * 24)}),
    "an .npy of terabytes": lambda: npy("<f8", (2**40, 512)),
    "an .npy of objects": lambda: npy("|O", (3,), b"\x80\x04N."),
    "a directory of many members": lambda: zipped({f"{i:x}": b"" for i in range(8_000)}, zipfile.ZIP_STORED),
}
CODES = {name: ARCHIVES[name] for name in ("an array of zeros", "an array of terabytes", "an array of objects")} | {
    "lzma": lambda: zipped({"w.npy": npy("<f4", (1,), bytes(4))}, zipfile.ZIP_LZMA),
    "not a zip": lambda: b"PK\x03\x04" + bytes(100),
}


def converted(metadata: str | None, tensors: dict | None = None, values: bytes = b"") -> bytes:
    """A safetensors file with this entry in its header."""
    head = json.dumps({"__metadata__": {"lsap_jax": metadata}, **(tensors or {})}).encode()
    return struct.pack("<Q", len(head)) + head + values


EMPTY = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
HEADER = {"format_version": 1, "kind": "generator", "config": {}, "provenance": {}, "sha256": "0" * 64}
CONVERTED = {
    "null": lambda: converted("null"),
    "a list": lambda: converted("[1, 2]"),
    "a number": lambda: converted("3"),
    "deep": lambda: converted("[" * 100_000 + "]" * 100_000),
    "lists without end": lambda: converted("[" + "[]," * MEGA + "[]]"),
    "no metadata": lambda: struct.pack("<Q", 2) + b"{}",
    "a huge header": lambda: struct.pack("<Q", 2**62) + b"{",
    "a header of spaces": lambda: struct.pack("<Q", 2**24) + b"{" + b" " * 2**24,
    "many tensors": lambda: converted(json.dumps(HEADER), {f"t{i}": EMPTY for i in range(40_000)}),
    "a deep container": lambda: struct.pack("<Q", 100_001) + b'{"a":' + b"[" * 100_000,
    **{
        f"{key} is {value!r}": lambda key=key, value=value: converted(json.dumps({**HEADER, key: value}))
        for key, value in (("kind", []), ("config", [1]), ("provenance", 3), ("sha256", None), ("format_version", "1"))
    },
    "format_version is true": lambda: converted(json.dumps({**HEADER, "format_version": True})),
}


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, extra: bytes = b"", data: bytes = b"") -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", head), extra, chunk(b"IDAT", data), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def scans(count: int) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    out = io.BytesIO()
    Image.new("L", (4000, 4000)).save(out, "JPEG", progressive=True)
    data = out.getvalue()
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * count + data[-2:]


def jpeg2000() -> bytes:
    """One whose header says that it is large."""
    out = io.BytesIO()
    Image.new("RGB", (64, 64)).save(out, "JPEG2000", no_jp2=True)
    return out.getvalue().replace(struct.pack(">II", 64, 64), struct.pack(">II", 12000, 12000))


PICTURES = {
    "a PNG of 10^10 pixels": lambda: png(100_000, 100_000),
    "a PNG that unpacks to more": lambda: png(8, 8, data=zlib.compress(bytes(24 * MEGA))),
    "a text that unpacks to more": lambda: png(8, 8, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(24 * MEGA)))),
    "a JPEG of many scans": lambda: scans(5000),
    "a JPEG 2000 of many pixels": jpeg2000,
    "a plain PNM": lambda: b"P3 3000 3000 255\n" + b"1 " * 9 * MEGA,
    "a GIF of many frames": lambda: (
        b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
        + (b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00") * 100_000 + b";"
    ),
}  # fmt: skip
HARMLESS = ("a GIF of many frames", "a PNG that unpacks to more")  # of which only the start is read
FILES = {
    "foreign": PICKLES | ARCHIVES,
    "directions": {n: PICKLES[n] for n in ("keys of one hash", "nested tuples")} | {n: ARCHIVES[n] for n in ARCHIVES},
    "converted": CONVERTED,
    "code": CODES,
    "picture": PICTURES,
}
