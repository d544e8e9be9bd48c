"""torch's containers without torch: the zip of torch ≥ 1.6, the legacy format, and the blobs in NVlabs pickles."""

from convert_weights.archive import Archive
from convert_weights.builders import ADVICE, ALLOWED, STORAGE_CLASSES, Array, object_dtype, storage_dtype
from convert_weights.checkpoint import ConversionError, shown
from convert_weights.pickle_limits import Budget
from convert_weights.pickle_machine import Builder, Rules, load
from convert_weights.tensors import Storage, numpy_dtype, whole

MAX_PICKLE = 2**24  # bytes of a zip's data.pkl; the largest checkpoints have 2^20
MAX_WORD = 64  # bytes of its byteorder
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_START = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
LEGACY_PROTOCOL = 1001


def read_zip(archive: Archive) -> object:
    """The object in a torch zip; its tensors read their member, CRC verified, when they are asked for.

    Raises:
        ConversionError: for TorchScript, damage, and anything that is not on the allow-list.
    """
    if any("/code/" in name or name.endswith("/constants.pkl") for name in archive.names):
        raise ConversionError(
            "is TorchScript (a program with weights), which is not read; for LPIPS use torchvision's "
            "vgg16-397923af.pth "
            "and lpips/weights/v0.1/vgg.pth, otherwise save a state_dict"
        )
    pickles = [name for name in archive.names if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ConversionError(
            "is a zip without exactly one data.pkl; it is not a torch checkpoint, or must be unpacked"
        )
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}byteorder" in archive and archive.read(f"{root}byteorder", MAX_WORD) != b"little":
        raise ConversionError("was saved on a big-endian machine; save it again on a little-endian one")
    storages: dict[str, Storage] = {}

    def persistent(pid: object) -> Storage:
        key, dtype, numel = _storage_id(pid)
        storage = _same(storages, key, dtype, numel)
        if storage.read is None:
            member = f"{root}data/{key}"
            if member not in archive:
                raise ConversionError(
                    f"the zip has no member {shown(member, 80)}; the file is incomplete, fetch it again"
                )
            size = numel * numpy_dtype(dtype).itemsize
            if archive.size(member) != size:
                raise ConversionError(
                    f"storage {shown(key)} should hold {numel} values of {dtype} but has {archive.size(member)} "
                    "bytes; the file is damaged"
                )
            storage.read = lambda: archive.read(member, size)
        return storage

    data = memoryview(archive.read(pickles[0], MAX_PICKLE))
    value, end = load(data, Rules(builders=ALLOWED, advice=ADVICE, persistent=persistent))
    _check_end(data, end)
    return value


def read_legacy(
    data: memoryview, builders: dict[str, Builder | None] = ALLOWED, budget: Budget | None = None
) -> object:
    """The object in a legacy torch file (or blob): five pickles, then the storages that the tensors view.

    Args:
        builders: the globals that it may name.
        budget: of the file that a blob lies in.

    Raises:
        ConversionError: for damage and anything that is not in `builders`.
    """
    storages: dict[str, Storage] = {}
    views: dict[tuple[str, str], Storage] = {}

    def persistent(pid: object) -> Storage:
        key, dtype, numel = _storage_id(pid)
        storage = _same(storages, key, dtype, numel)
        view = pid[5] if isinstance(pid, tuple) and len(pid) > 5 else None
        return storage if view is None else _view(views, storage, key, view)

    budget = budget or Budget.of(data)
    rules = Rules(builders=builders, advice=ADVICE, persistent=persistent, budget=budget)
    plain = Rules(builders={}, budget=budget)
    magic, at = load(data, plain)
    protocol, at = load(data, plain, at)
    system, at = load(data, plain, at)
    if magic != LEGACY_MAGIC or protocol != LEGACY_PROTOCOL or not isinstance(system, dict):
        raise ConversionError("does not start as a torch file should; it is damaged, fetch it again")
    if system.get("little_endian") is not True:
        raise ConversionError("was saved on a big-endian machine; save it again on a little-endian one")
    value, at = load(data, rules, at)
    keys, at = load(data, plain, at)
    if not isinstance(keys, list) or any(type(k) is not str for k in keys) or sorted(keys) != sorted(storages):
        raise ConversionError("its list of storages does not match its tensors; the file is damaged, fetch it again")
    for key in keys:
        at = _fill(storages[key], key, data, at)
    _check_end(data, at)
    return value


def read_plain(data: memoryview) -> object:
    """The object in a plain pickle (NVlabs snapshots, TensorFlow networks); tensors inside are legacy blobs."""
    return _plain(data, {})


def read_objects(data: memoryview) -> dict:
    """The dictionary that numpy.save pickled into an .npy, from where its values start; read like any other pickle."""
    value = _plain(data, {"numpy.dtype": object_dtype})
    objects = value.objects if isinstance(value, Array) else None
    if objects is None or len(objects) != 1 or type(objects[0]) is not dict:
        raise ConversionError(
            "holds pickled Python objects other than one dictionary, which are not read; save plain numeric arrays "
            "instead"
        )
    return objects[0]


def _plain(data: memoryview, more: dict[str, Builder | None]) -> object:
    budget = Budget.of(data)
    blobs: dict[str, Builder | None] = {"torch.storage._load_from_bytes": lambda args: _blob(args, budget)}
    value, end = load(data, Rules(builders=ALLOWED | blobs | more, advice=ADVICE, budget=budget))
    _check_end(data, end)
    return value


def _blob(args: tuple, budget: Budget) -> Storage:
    """`torch.storage._load_from_bytes`, which would run any pickle: here only a storage in legacy format is read."""
    (blob,) = args
    if not isinstance(blob, (bytes, memoryview)):
        raise TypeError("a blob that is no bytes")
    storage = read_legacy(memoryview(blob), STORAGE_CLASSES, budget)
    if not isinstance(storage, Storage):
        raise ConversionError(
            "an embedded torch blob holds something other than a storage; the file is damaged or hostile"
        )
    return storage


def _storage_id(pid: object) -> tuple[str, str, int]:
    if isinstance(pid, tuple) and pid and pid[0] == "module":
        raise ConversionError("holds a whole module with its source text; save module.state_dict() and convert that")
    if not isinstance(pid, tuple) or not 5 <= len(pid) <= 6 or pid[0] != "storage" or type(pid[2]) is not str:
        raise ConversionError("a persistent id does not describe a storage; the file is damaged")
    return pid[2], storage_dtype(pid[1]), whole(pid[4], "a storage's size")  # pid[3], the device, does not matter


def _same(storages: dict[str, Storage], key: str, dtype: str, numel: int) -> Storage:
    """The storage of that key; tensors that share it must agree on its type and size."""
    storage = storages.setdefault(key, Storage(dtype, numel))
    if (storage.dtype, storage.numel) != (dtype, numel):
        raise ConversionError(f"storage {shown(key)} is described in two ways; the file is damaged")
    return storage


def _view(views: dict[tuple[str, str], Storage], root: Storage, key: str, view: object) -> Storage:
    """A part of a storage, as torch before 0.4 described shared memory."""
    if not isinstance(view, tuple) or len(view) != 3 or type(view[0]) is not str:
        raise ConversionError("a storage's view is not described properly; the file is damaged")
    offset, size = whole(view[1], "a view's offset"), whole(view[2], "a view's size")
    if offset + size > root.numel:
        raise ConversionError(
            f"a view of {size} values at {offset} leaves its storage of {root.numel}; the file is damaged"
        )

    def read() -> bytes | memoryview:
        return root.flat()[offset : offset + size].tobytes()

    return views.setdefault((key, view[0]), Storage(root.dtype, size, read, root=root))


def _fill(storage: Storage, key: str, data: memoryview, at: int) -> int:
    """Points a storage to its bytes; returns the offset behind them."""
    count = int.from_bytes(data[at : at + 8], "little", signed=True)
    end = at + 8 + storage.numel * numpy_dtype(storage.dtype).itemsize
    if count != storage.numel or end > len(data):
        raise ConversionError(
            f"storage {shown(key)} should hold {storage.numel} values, the file has {count} in "
            f"{max(len(data) - at - 8, 0)} bytes; "
            "it is truncated or damaged, fetch it again"
        )
    part = data[at + 8 : end]
    storage.read = lambda: part
    return end


def _check_end(data: memoryview, end: int) -> None:
    if end != len(data):
        raise ConversionError(
            f"has {len(data) - end} bytes after its end; the file is damaged or several files were joined"
        )
