"""Containers and the smaller kinds: types, strides, shared storages, numpy files, perceptual weights, codes."""

import io
import zipfile

import foreign_dialects as dialects
import foreign_files as files
import numpy as np
import pytest

import convert_weights
from convert_weights import ConversionError, basecode, perceptual
from convert_weights.tensors import Storage, check_sharing, strided

G = dialects.random_generator()


@pytest.fixture
def read(tmp_path):
    def run(data):
        path = tmp_path / "weights"
        path.write_bytes(data)
        return convert_weights.read(path)

    return run


CONTAINERS = {"zip": files.torch_zip, "legacy": files.torch_legacy, "plain": files.plain}


@pytest.fixture(params=CONTAINERS)
def container(request):
    return CONTAINERS[request.param]


def codes(read, container, tensor):
    return read(container(tensor)).parts["codes"].arrays["codes"]


def test_half_double_and_bfloat16_become_float32(read, container):
    values = np.array([[1.5, -2.25, 0.0], [3.0, -0.5, 2.0**-8]])
    for dtype in (np.float16, np.float32, np.float64):
        result = codes(read, container, files.T(values.astype(dtype)))
        assert result.dtype == np.float32 and np.array_equal(result, values)
    bits = (values.astype(np.float32).view(np.uint32) >> 16).astype("<u2")
    tensor = files.T(bits.view("<f2"), bfloat16=True)
    assert np.array_equal(codes(read, container, tensor), values)


def test_a_double_that_overflows_float32_is_refused(read, container):
    with pytest.raises(ConversionError, match="not finite"):
        read(container(files.T(np.array([[1e300]]))))


def test_strides_and_shared_storages_are_honoured(read, container):
    base = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    for view in (base.transpose(2, 0, 1), base[:, :, ::2], base.swapaxes(0, 1)):
        assert np.array_equal(codes(read, container, files.T(view)), view)
    shared = {"w": files.T(base), "other": files.T(base.transpose(2, 1, 0))}
    checkpoint = read(container(shared))
    assert np.array_equal(checkpoint.parts["codes"].arrays["codes"], base) and "other" in checkpoint.ignored


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"size": (3, 5)}, "needs 13 values but its storage holds 12"),
        ({"offset": 1}, "needs 13 values"),
        ({"stride": (5, 1)}, "needs 14 values"),
        ({"stride": (4, -1)}, "stride is -1"),
        ({"offset": -1}, "offset is -1"),
        ({"size": (3, -4)}, "size is -4"),
        ({"stride": (1, 1)}, "overlaps"),
        ({"stride": (0, 1)}, "overlaps"),
        ({"size": (3,)}, "do not match"),
        ({"size": (2**62, 2**62)}, "not a count"),
        ({"numel": 2**40}, "should hold|holds"),
        ({"numel": 11}, "storage|after its end"),
    ],
)
def test_descriptions_that_do_not_fit_their_bytes_are_refused(read, container, override, message):
    tensor = files.T(np.arange(12, dtype=np.float32).reshape(3, 4), **override)
    with pytest.raises(ConversionError, match=message):
        read(container(tensor))


def test_old_storage_views_are_honoured(read):
    class OldPickler(files.LegacyPickler):
        def legacy_tail(self):
            return (("view", 4, 6),)

    original, files.LegacyPickler = files.LegacyPickler, OldPickler
    try:
        data = files.torch_legacy(files.T(np.arange(12, dtype=np.float32), size=(2, 3), stride=(3, 1)))
    finally:
        files.LegacyPickler = original
    assert read(data).parts["codes"].arrays["codes"].tolist() == [[4, 5, 6], [7, 8, 9]]


def test_tensors_that_share_one_storage_too_often_are_refused():
    """Each would be copied: a few megabytes would fill the memory."""
    storage = Storage("float32", 2**23)
    whole, half = (strided(storage, 0, (n,), (1,)) for n in (2**23, 2**22))
    check_sharing([whole] * 8)
    with pytest.raises(ConversionError, match="have 75497472 values, of which the file holds 8388608; refused"):
        check_sharing([whole] * 8 + [half] * 2)
    view = strided(Storage("float32", 2**20, root=storage), 0, (2**20,), (1,))
    with pytest.raises(ConversionError, match="of which the file holds 8388608"):
        check_sharing([whole] * 8 + [view] * 8)
    check_sharing([strided(Storage("float32", 2**23), 0, (2**23,), (1,)) for _ in range(20)])


def test_big_endian_and_wrong_headers_are_refused(read):
    tensor = files.T(np.ones((2, 2), np.float32))
    with pytest.raises(ConversionError, match="big-endian"):
        read(files.torch_zip(tensor, byteorder=b"big"))
    legacy = files.torch_legacy(tensor)
    swapped = legacy.replace(b"little_endianq\x02\x88", b"little_endianq\x02\x89")
    assert swapped != legacy
    with pytest.raises(ConversionError, match="big-endian"):
        read(swapped)
    with pytest.raises(ConversionError, match="not start as a torch file"):
        read(legacy.replace(b"M\xe9\x03", b"M\xe8\x03"))


def test_zip_members_are_checked(read):
    data = files.torch_zip({"g_ema": dialects.state_dict(dialects.rosinality(G))})
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        members = {n: source.read(n) for n in source.namelist()}

    def packed(content, compression=zipfile.ZIP_STORED):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", compression) as z:
            for name, value in content.items():
                z.writestr(name, value)
        return out.getvalue()

    again = read(packed(members, zipfile.ZIP_DEFLATED))  # somebody packed the folder by hand
    assert np.array_equal(again.parts["generator"].arrays["synthesis.b4.const"], G["synthesis.b4.const"])
    with pytest.raises(ConversionError, match="no member archive/data/3"):
        read(packed({n: v for n, v in members.items() if n != "archive/data/3"}))
    with pytest.raises(ConversionError, match="should hold"):
        read(packed(members | {"archive/data/3": members["archive/data/3"][:-4]}))
    with pytest.raises(ConversionError, match="exactly one data.pkl"):
        read(packed(members | {"other/data.pkl": b"x"}))
    with pytest.raises(ConversionError, match="should hold 16 values .* has 268435456 bytes"):
        read(
            packed(
                {"archive/data.pkl": members["archive/data.pkl"], "archive/data/0": bytes(2**28)}, zipfile.ZIP_DEFLATED
            )
        )
    start = data.index(members["archive/data/0"])
    with pytest.raises(ConversionError, match="CRC"):
        read(data[:start] + bytes([data[start] ^ 1]) + data[start + 1 :])


def test_duplicate_members_are_refused(read):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z, pytest.warns(UserWarning):
        z.writestr("a/data.pkl", b"1")
        z.writestr("a/data.pkl", b"2")
    with pytest.raises(ConversionError, match="twice"):
        read(out.getvalue())


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 4, 3)])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<f2"])
def test_codes_from_numpy(read, tmp_path, shape, order, dtype):
    values = np.arange(np.prod(shape)).reshape(shape)
    out = io.BytesIO()
    np.save(out, np.asarray(values, dtype, order=order))
    checkpoint = read(out.getvalue())
    found = checkpoint.parts["codes"].arrays["codes"]
    assert checkpoint.kind == "codes" and found.dtype == np.float32
    assert np.array_equal(found, values.reshape((1, 3) if len(shape) == 1 else shape))
    packed = read(files.npz({"w": np.asarray(values, dtype, order=order), "noise": np.ones(2)}))
    assert np.array_equal(packed.parts["codes"].arrays["codes"], found)
    assert packed.ignored == {"noise": "not the codes"}


def test_codes_that_are_not_clear_are_refused(read):
    with pytest.raises(ConversionError, match="2 arrays"):
        read(files.npz({"a": np.ones((1, 3)), "b": np.ones((1, 3))}))
    with pytest.raises(ConversionError, match=r"shape \[1, 1, 1, 1\]"):
        read(files.npz({"a": np.ones((1, 1, 1, 1))}))
    with pytest.raises(ConversionError, match="int64"):
        read(files.npz({"w": np.ones((1, 3), np.int64)}))
    with pytest.raises(ConversionError, match="empty zip"):
        read(files.npz({}))
    out = io.BytesIO()
    np.save(out, np.array([{"boundary": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ConversionError, match="pickled Python objects"):
        read(out.getvalue())
    out = io.BytesIO()
    np.save(out, np.ones((2, 2), np.complex64))
    with pytest.raises(ConversionError, match="c8"):
        read(out.getvalue())


def test_npy_headers_are_not_trusted(read):
    out = io.BytesIO()
    np.save(out, np.ones((2, 3), np.float32))
    data = out.getvalue()
    with pytest.raises(ConversionError, match="claims shape"):
        read(data[:-4])
    with pytest.raises(ConversionError, match="claims shape"):
        read(data.replace(b"(2, 3), }        ", b"(999999999, 3), }"))
    with pytest.raises(ConversionError, match="header of"):
        read(data[:8] + b"\xff\xff" + data[10:])
    with pytest.raises(ConversionError, match="cannot be read"):
        read(data.replace(b"False", b"f()  "))
    with pytest.raises(ConversionError, match="not an .npy array"):
        read(data[:6] + b"\x09" + data[7:])
    with pytest.raises(ConversionError, match="big-endian"):
        read(data.replace(b"<f4", b">f4"))
    with pytest.raises(ConversionError, match="is not an array"):
        read(_zip({"readme.txt": b"hello"}))


def _zip(content):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for name, value in content.items():
            z.writestr(name, value)
    return out.getvalue()


@pytest.mark.parametrize("name", ["alexnet", "squeezenet1_1", "vgg16"])
def test_backbones(read, name):
    table = perceptual.BACKBONES[name]
    rng = np.random.RandomState(0)
    small = {n: np.broadcast_to(np.float32(rng.rand()), s).copy() for n, s in table.items()}
    extra = {"classifier.0.weight": np.ones((2, 2), np.float32)}
    checkpoint = read(files.torch_legacy(dialects.state_dict(small | extra)))
    part = checkpoint.parts["backbone"]
    assert checkpoint.kind == "backbone" and part.config == {"name": name}
    assert part.arrays.keys() == table.keys() and "classifier.0.weight" in checkpoint.ignored
    assert all(np.array_equal(part.arrays[n], small[n]) for n in small)


def test_other_image_networks_are_refused(read):
    table = {n: np.ones(s, np.float32) for n, s in perceptual.BACKBONES["alexnet"].items()}
    with pytest.raises(ConversionError, match="none of VGG16"):
        read(files.torch_zip(dialects.state_dict({n: a for n, a in table.items() if "features.10" not in n})))
    with pytest.raises(ConversionError, match="running_mean"):
        read(files.torch_zip(dialects.state_dict(table | {"features.1.running_mean": np.ones(2, np.float32)})))
    table["features.0.weight"] = np.ones((64, 3, 7, 7), np.float32)
    with pytest.raises(ConversionError, match=r"features.0.weight is \[64, 3, 7, 7\], not \[64, 3, 11, 11\]"):
        read(files.torch_zip(dialects.state_dict(table)))


def test_lpips_linear_layers(read, golden):
    arrays = golden("lpips_lin_v0_1")
    for short, name in (("alex", "alexnet"), ("vgg", "vgg16"), ("squeeze", "squeezenet1_1")):
        lin = {n.removeprefix(f"{short}/"): a for n, a in arrays.items() if n.startswith(f"{short}/")}
        checkpoint = read(files.torch_legacy(dialects.state_dict(lin)))
        part = checkpoint.parts["lpips_lin"]
        assert checkpoint.kind == "lpips_lin" and part.config == {"name": name}
        for k in range(len(lin)):
            assert np.array_equal(part.arrays[f"lin{k}.weight"], lin[f"lin{k}.model.1.weight"].reshape(-1))
    with pytest.raises(ConversionError, match="channels"):
        read(files.torch_legacy(dialects.state_dict({"lin0.model.1.weight": np.ones((1, 3, 1, 1), np.float32)})))


def test_base_code_encoder(read):
    config = {"widths": [4, 6], "out_channels": 5, "in_channels": 3}
    rng = np.random.RandomState(0)
    weights = {n: rng.standard_normal(s).astype(np.float32) for n, s in basecode.encoder_shapes(config).items()}
    counters = {"model.1.num_batches_tracked": np.array(7, np.int64)}
    root = {"encoder": dialects.state_dict(weights | counters), "optimizer": {"state": {}}, "epoch": 3}
    checkpoint = read(files.torch_zip(root))
    part = checkpoint.parts["basecode"]
    assert checkpoint.kind == "basecode" and part.config == config
    assert checkpoint.ignored.keys() == {"model.1.num_batches_tracked", "optimizer/*"}
    assert all(np.array_equal(part.arrays[n], weights[n]) for n in weights)
    broken = {n: a for n, a in weights.items() if n != "model.10.weight"}
    with pytest.raises(ConversionError, match="lacks convolutions"):
        read(files.torch_zip({"encoder": dialects.state_dict(broken)}))
    with pytest.raises(ConversionError, match="ends with layer"):
        read(files.torch_zip({"encoder": dialects.state_dict({n: a for n, a in weights.items() if ".23." not in n})}))


def test_a_file_that_changes_meanwhile_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "weights"
    path.write_bytes(files.npz({"w": np.ones((1, 3))}))
    digest = convert_weights.recognise.hashlib.file_digest

    def grow(file, name):
        with path.open("ab") as more:
            more.write(b"x")
        return digest(file, name)

    monkeypatch.setattr(convert_weights.recognise.hashlib, "file_digest", grow)
    with pytest.raises(ConversionError, match="changed while it was read"):
        convert_weights.read(path)
