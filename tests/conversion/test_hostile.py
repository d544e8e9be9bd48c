"""Files that try to run code, to exhaust memory or to break the reader: refused by name, and nothing happens."""

import os
import pickle
import struct
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

import foreign_dialects as dialects
import foreign_files as files
import numpy as np
import pytest

import convert_weights
from convert_weights import ConversionError
from convert_weights.builders import ALLOWED
from convert_weights.pickle_limits import MAX_STEPS
from convert_weights.pickle_machine import Rules, load

G = dialects.random_generator()
OBJ, REF, T = files.Obj, files.Ref, files.T
TARGET = Path(tempfile.gettempdir()) / f"executed-by-a-checkpoint-{os.getpid()}"
COMMAND = f"touch {TARGET}"


@pytest.fixture
def refused(tmp_path):
    """refused(bytes, words) -> message; fails if the file is read, code runs, or much memory or time is used."""

    def run(data, *words):
        path = tmp_path / "weights"
        path.write_bytes(data)
        tracemalloc.start()
        start = time.perf_counter()
        try:
            with pytest.raises(ConversionError) as error:
                convert_weights.read(path)
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        message = str(error.value)
        assert not TARGET.exists() and "\n" not in message and len(message) < 1200
        assert peak < 64 * len(data) + 2**21  # an object per byte at most, whatever sizes the file claims
        assert time.perf_counter() - start < 30
        for word in words:
            assert word in message
        return message

    return run


def call(module, name, *args):
    return OBJ(REF(module, name), args)


ATTACKS = {
    "os.system": call("os", "system", COMMAND),
    "posix.system": call("posix", "system", COMMAND),
    "builtins.eval": call("builtins", "eval", "1+1"),
    "builtins.exec": call("builtins", "exec", "raise SystemExit"),
    "builtins.getattr": call("builtins", "getattr", "x", "y"),
    "__builtin__.apply": call("__builtin__", "apply", ()),
    "subprocess.Popen": call("subprocess", "Popen", (COMMAND,)),
    "torch.load": call("torch", "load", "x"),
    "torch.serialization.load": call("torch.serialization", "load", "x"),
    "numpy.load": call("numpy", "load", "x"),
    "numpy.core.multiarray._reconstruct.__globals__": REF("numpy.core.multiarray", "_reconstruct.__globals__"),
    "collections.OrderedDict.__class__": REF("collections", "OrderedDict.__class__"),
    "torch.device": call("torch", "device", "cpu"),
    "functools.partial": call("functools", "partial", "x"),
    "operator.methodcaller": call("operator", "methodcaller", "x"),
}


@pytest.mark.parametrize("name", sorted(ATTACKS))
@pytest.mark.parametrize("write", [files.plain, files.torch_zip, files.torch_legacy])
def test_globals_beyond_the_list_are_named_and_never_called(refused, name, write):
    refused(write({"G_ema": ATTACKS[name]}), name, "never run")
    refused(write({"G_ema": files.nvlabs(G, "Generator", files.generator_facts()), "x": [ATTACKS[name]]}), name)


def test_blobs_inside_a_pickle_are_no_way_around(refused):
    load_from_bytes = REF("torch.storage", "_load_from_bytes")
    for value in (ATTACKS["os.system"], OBJ(load_from_bytes, (b"x",)), call("collections", "OrderedDict")):
        inner = files.blob(b"", "FloatStorage", 0, value)
        message = refused(files.plain({"G_ema": OBJ(load_from_bytes, (inner,))}))
        assert value.ref.name in message
    refused(files.plain({"G_ema": OBJ(load_from_bytes, (pickle.dumps(5),))}), "ends early")
    refused(files.plain({"G_ema": OBJ(load_from_bytes, ("text",))}), "damaged")
    refused(
        files.plain({"G_ema": OBJ(load_from_bytes, (files.blob(b"", "FloatStorage", 0, [1]),))}), "other than a storage"
    )
    # the real torch function is refused outside plain pickles, where torch never writes it
    refused(files.torch_zip({"G_ema": OBJ(load_from_bytes, (b"",))}), "torch.storage._load_from_bytes")


def test_classes_on_the_list_cannot_be_misused(refused):
    storage, array = REF("torch", "FloatStorage"), REF("numpy.core.multiarray", "_reconstruct")
    dtype = files.dtype_of(np.float32)
    cases = [
        OBJ(storage, (10**12,)),  # allocating by calling the class
        OBJ(array, (REF("os", "system"), (0,), b"b")),
        OBJ(array, (REF("collections", "OrderedDict"), (0,), b"b")),
        OBJ(REF("numpy", "dtype"), ("O8", False, True)),
        OBJ(REF("numpy", "dtype"), ([("a", "O")], False, True)),
        OBJ(REF("numpy", "dtype"), ("f4", False, True), state=(3, ">", None, None, None, -1, -1, 0)),
        OBJ(array, (REF("numpy", "ndarray"), (0,), b"b"), state=(1, (2,), dtype, False, [OBJ(storage), 1])),
        OBJ(array, (REF("numpy", "ndarray"), (0,), b"b"), state=(1, (10**12,), dtype, False, b"1234")),
        OBJ(array, (REF("numpy", "ndarray"), (0,), b"b"), state=(1, (1, 2), dtype, True, b"12345678")),
        OBJ(REF("numpy._core.multiarray", "scalar"), (dtype, b"12")),
        OBJ(REF("numpy._core.multiarray", "scalar"), ("f4", b"1234")),
        OBJ(REF("_codecs", "encode"), ("x", "rot13")),
        OBJ(REF("_codecs", "encode"), ("x", "hex")),
        OBJ(REF("builtins", "set"), ([[1]],)),
        OBJ(REF("builtins", "set"), ("abc",)),
        OBJ(REF("collections", "OrderedDict"), ([(("a", "b"), 1)],)),
        OBJ(REF("collections", "OrderedDict"), ([("a", 1), ("a", 2)],)),
        OBJ(REF("collections", "OrderedDict"), (1, 2)),
        OBJ(REF("collections", "OrderedDict"), state={"__class__": 1}),
        OBJ(REF("torch._utils", "_rebuild_tensor_v2"), (1, 2)),
        OBJ(REF("torch._utils", "_rebuild_tensor_v2"), (1, 0, (1,), (1,), False, {})),
        OBJ(REF("torch._utils", "_rebuild_parameter"), (1, False, {})),
        OBJ(REF("argparse", "Namespace"), (1,)),
        OBJ(REF("torch_utils.persistence", "_reconstruct_persistent_obj"), ({"type": "class"},)),
        OBJ(REF("torch_utils.persistence", "_reconstruct_persistent_obj"), ("import os",)),
        OBJ(REF("torch", "FloatStorage"), new=True, state={"x": 1}),
    ]
    for case in cases:
        refused(files.plain({"G_ema": case}))
    module = files.nvlabs(G, "Generator", files.generator_facts())
    module.args[0]["version"] = 7
    refused(files.plain({"G_ema": module}), "version 7")


OLD_OPCODES = [
    b"I1\n.",
    b"cos\nsystem\n(S'x'\ntR.",
    b"(ios\nsystem\n.",
    b"(cos\nsystem\no.",
    b"\x82\x01.",
    b"P0\n.",
    b"\x97.",
]


@pytest.mark.parametrize("body", OLD_OPCODES)
def test_opcodes_that_no_writer_uses_are_refused(refused, body):
    refused(b"\x80\x02" + body, "pickle")


def pickled(*parts):
    return b"\x80\x04" + b"".join(parts)


def test_sizes_are_checked_before_anything_is_allocated(refused):
    huge = struct.pack("<Q", 2**60)
    for body in (
        b"\x8e" + huge,
        b"\x8d" + huge,
        b"B" + b"\xff" * 4,
        b"X" + b"\xff" * 4,
        b"\x8b" + b"\xff" * 4,
        b"\x95" + huge,
    ):
        refused(pickled(body, b"."))
    refused(pickled(b"X\x00\x00\x00\x10", b"a" * 10), "text of 268435456 bytes")
    refused(pickled(b"\x8b\x11\x00\x00\x00" + b"1" * 17 + b"."), "integer of 17 bytes")
    legacy = files.torch_legacy(T(np.ones((2, 2), np.float32)))
    count = struct.pack("<q", 4)
    refused(legacy.replace(count, struct.pack("<q", 2**60)), "truncated or damaged")
    refused(legacy.replace(count, struct.pack("<q", -1)), "truncated or damaged")
    refused(legacy + b"more", "4 bytes after its end")
    refused(pickled(b"N.", b"more"), "after its end")


def test_depth_recursion_and_repetition(refused):
    refused(pickled(b"(" * 10_000), "nests deeper")
    refused(pickled(b")", b"\x85" * 50_000, b"."), "instead of a checkpoint")
    refused(pickled(b"]", b"\x94h\x00a" * 3, b"."))  # a list that contains itself
    laughs = b"]\x94" + b"".join(b"](" + b"h" + bytes([i]) + b"h" + bytes([i]) + b"e\x94" for i in range(60))
    refused(pickled(laughs, b"."))
    key = b"}" + b")" + b"\x85" * 50_000 + b"Ns."  # a key whose hash would recurse
    refused(pickled(key), "damaged")
    assert sys.getrecursionlimit() < 50_000


def test_endless_streams_end():
    start = time.perf_counter()
    with pytest.raises(ConversionError, match="steps"):
        load(memoryview(pickled(b"N0" * MAX_STEPS, b".")), Rules(builders=ALLOWED))
    assert time.perf_counter() - start < 20


def test_nested_modules_and_shared_ones_are_bounded(refused):
    node = files.module("Generator", {}, {})
    for _ in range(40):
        node = files.module("Generator", {}, {"inner": node})
    refused(files.plain({"G_ema": node}), "persistent module")
    loop = files.nvlabs(G, "Generator", files.generator_facts())
    loop.args[0]["state"]["_modules"] = None
    refused(files.plain({"G_ema": loop}), "_modules")
    tf = files.tf_network({}, {}, 4)
    for _ in range(10):
        tf = files.tf_network({}, {}, 4, {"inner": tf})
    refused(files.plain((tf, tf, tf)), "lacks its variables")


def test_tensorflow_states_are_checked(refused):
    good = lambda: dialects.tensorflow_generator(G)  # noqa: E731
    d = dialects.tensorflow_discriminator(dialects.random_discriminator())
    for change, words in [
        (lambda s: s.update(variables=[("a", np.ones(2, np.float32))] * 2), "twice"),
        (lambda s: s.update(variables=[("a", "text")]), "is not an array"),
        (lambda s: s.update(variables=[("a",)]), "(name, value)"),
        (lambda s: s.update(variables=None), "lacks its variables"),
        (lambda s: s.update(static_kwargs=[1]), "how it was built"),
        (lambda s: s.update(static_kwargs=files.easy_dict({"resample_kernel": "x"})), "resample_kernel"),
        (lambda s: s.update(static_kwargs=files.easy_dict({"mapping_lrmul": -1.0})), "mapping_lrmul"),
        (lambda s: s.update(static_kwargs=files.easy_dict({"nonlinearity": "relu"})), "nonlinearity"),
        (lambda s: s.update(static_kwargs=files.easy_dict({"latent_size": 5})), "z_dim 5"),
        (lambda s: s.update(components=files.easy_dict({"mapping": 3})), "no state"),
    ]:
        network = good()
        change(network.state)
        refused(files.plain((network, d, network)), words)
    odd = dialects.tensorflow_discriminator(dialects.random_discriminator(), mbstd_group_size=0)
    refused(files.plain((good(), odd, good())), "mbstd_group_size")
    refused(files.plain(good()), "single network")


def test_states_are_taken_once_and_only_where_they_belong():
    rules = Rules(builders=ALLOWED)
    for body in (
        b"N}b.",
        b"]}b.",
        b"cargparse\nNamespace\n)\x81}b}b.",
        b"ctorch\nFloatStorage\n}b.",
        b"cnumpy\ndtype\nX\x02\x00\x00\x00f4\x85RNb.",
    ):
        with pytest.raises(ConversionError, match="damaged"):
            load(memoryview(b"\x80\x02" + body), rules)


NONSENSE = [b".", b"NN.", b"(N.", b"Ne.", b"}(Nu.", b"h\x05.", b"0.", b"cos", b"cos\n" + b"a" * 300, b"\x93.", b"R."]
NONSENSE += [b"s.", b"\x87.", b"NNR.", b"]]]s.", b"N]a.", b"(N\x90.", b"K\x01Q.", b"\x80\x02N.", b"Nq\x05."]


@pytest.mark.parametrize("body", NONSENSE)
def test_streams_that_make_no_sense_are_damaged_not_crashes(refused, body):
    refused(b"\x80\x02" + body)


def test_every_opcode_of_the_writers_is_understood():
    value = {"text": "ü" * 300, "bytes": b"x" * 300, "long": [1, 255, 65535, -1, 2**40, -(2**70)], "float": 1.5}
    value |= {"bool": (True, False, None), "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4))}
    value |= {"set": {1, "a"}, "frozen": frozenset({2})}
    for protocol in (2, 3, 4, 5):
        source = value if protocol > 3 else {k: v for k, v in value.items() if k not in ("set", "frozen")}
        source = source if protocol > 2 else {k: v for k, v in source.items() if k != "bytes"}
        result, end = load(memoryview(pickle.dumps(source, protocol)), Rules(builders=ALLOWED))
        assert end == len(pickle.dumps(source, protocol))
        assert {k: bytes(v) if k == "bytes" else v for k, v in result.items()} == source
    stream = (
        b"\x80\x02(U\x03abc"
        + b"T\x02\x00\x00\x00\xff\xfe"
        + b"(K\x01K\x02l"
        + b"(K\x01K\x02d"
        + b"N2"
        + b"(N1"
        + b"N0t."
    )
    result, _ = load(memoryview(stream), Rules(builders=ALLOWED))
    assert result[0] == "abc" and bytes(result[1]) == b"\xff\xfe" and result[2:4] == ([1, 2], {1: 2})
    assert result[4:] == (None, None)


def test_nothing_is_imported_for_a_file(tmp_path):
    """Reading an NVlabs pickle neither imports nor looks for the modules it names."""
    path = tmp_path / "g.pkl"
    path.write_bytes(files.plain({"G_ema": files.nvlabs(G, "Generator", files.generator_facts())}))
    before = set(sys.modules)
    convert_weights.read(path)
    assert not {m for m in set(sys.modules) - before if m.split(".")[0] in ("torch", "torch_utils", "dnnlib")}
    assert os.path.getsize(path) > 0
