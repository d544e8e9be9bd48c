"""Face networks: what the converter takes, what it refuses and how, and the way through the command."""

import zipfile

import foreign_files as files
import numpy as np
import pytest

import convert_weights
from convert_weights import ConversionError
from convert_weights.faces import arcface_shapes, facenet_shapes
from convert_weights.mtcnn import NETWORKS
from lsap_jax.cli import main
from lsap_jax.errors import LsapError
from lsap_jax.models.embedder import EMBEDDERS
from lsap_jax.models.network_file import load
from lsap_jax.storage.weights_file import read_weights

SHAPES = {"inception_resnet_v1": facenet_shapes, "arcface": arcface_shapes}


@pytest.fixture(scope="module")
def tensors():
    """Tensors of the right shapes that are quick to write, by kind: views of one storage."""

    def views(shapes):
        flat = np.full(max(np.prod(s) for s in shapes.values()), 0.5, np.float16)
        return {n: flat[: np.prod(s)].reshape(s) for n, s in shapes.items()}

    return {kind: views(shapes()) for kind, shapes in SHAPES.items()}


@pytest.fixture
def read(tmp_path):
    def read(tensors):
        path = tmp_path / "weights"
        path.write_bytes(files.torch_zip(files.ordered({n: a for n, a in tensors.items() if a is not None})))
        return convert_weights.read(path)

    return read


def _classifier(people):
    return {"logits.weight": np.zeros((people, 2), np.float16), "logits.bias": np.zeros(people, np.float16)}


def _counter(name):
    return {f"{name}.num_batches_tracked": np.array(0, np.int64)}


def test_the_shapes_are_those_of_the_public_files():
    facenet, arcface = facenet_shapes(), arcface_shapes()
    assert len(facenet) == 602 and len(arcface) == 343
    assert sum(np.prod(s) for n, s in arcface.items() if "running" not in n) == 43_797_696
    # 27.9 million with the classifier of 8631 people, 4.4 million of which are its own
    assert sum(np.prod(s) for n, s in facenet.items() if "running" not in n) == 23_482_624


@pytest.mark.parametrize(("people", "name"), [(8631, "VGGFace2"), (10575, "CASIA-WebFace"), (7, "unknown")])
def test_facenet_says_what_it_learned_from(read, tensors, people, name):
    own = tensors["inception_resnet_v1"]
    extra = _classifier(people) | _counter("conv2d_1a.bn")
    found = read(own | extra)
    part = found.parts["inception_resnet_v1"]
    assert found.kind == part.kind and part.config["trained_on"] == name
    assert part.arrays.keys() == own.keys() and set(found.ignored) == set(extra)
    assert bool(found.notes) == (name == "unknown")
    assert all(a.dtype == np.float32 and (a == 0.5).all() for a in part.arrays.values())


def test_arcface_is_read_from_a_file_of_the_old_container(tmp_path, tensors):
    own = tensors["arcface"]
    path = tmp_path / "weights"
    path.write_bytes(files.torch_legacy(files.ordered(own | _counter("body.3.shortcut_layer.1"))))
    found = convert_weights.read(path)
    assert found.kind == "arcface" and found.parts["arcface"].arrays.keys() == own.keys() and len(found.sha256) == 64
    assert list(found.ignored) == ["body.3.shortcut_layer.1.num_batches_tracked"]


SE101 = {"body.24.res_layer.0.weight": np.zeros(512, np.float16)}
REFUSED = {
    "a missing tensor": ("inception_resnet_v1", {"last_bn.bias": None}, r"missing last_bn.bias \[512\]"),
    "another block": (
        "inception_resnet_v1",
        {"repeat_1.5.conv2d.bias": np.zeros(3, np.float16)},
        "unexpected repeat_1",
    ),
    "another layer": ("inception_resnet_v1", {"conv2d_9z.conv.odd": np.zeros(3)}, "unknown tensors conv2d_9z.conv.odd"),
    "a wrong shape": ("inception_resnet_v1", {"last_linear.weight": np.zeros((512, 1536))}, r"not \[512, 1792\]"),
    "no number": ("inception_resnet_v1", {"last_bn.bias": np.full(512, np.nan, np.float16)}, "not finite"),
    "whole numbers": ("arcface", {"input_layer.1.bias": np.zeros(64, np.int64)}, "int64"),
    "SE101": ("arcface", SE101, "unexpected body.24.res_layer.0.weight"),
    "no excitation": ("arcface", {"body.9.res_layer.5.fc1.weight": None}, "missing body.9.res_layer.5.fc1.weight"),
    "an encoder's trunk": (
        "arcface",
        {"styles.0.linear.bias": np.zeros(512)},
        "the encoder under its own names: unknown tensors output_layer.0.weight",
    ),
    "224 px": ("arcface", {"output_layer.3.weight": np.zeros((512, 2), np.float16)}, r"not \[512, 25088\]"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_networks_are_refused(read, tensors, name):
    kind, change, message = REFUSED[name]
    with pytest.raises(ConversionError, match=message) as error:
        read(tensors[kind] | change)
    assert "\n" not in str(error.value) and "weights:" in str(error.value)


@pytest.mark.parametrize("first", ["conv2d_1a.conv.weight", "input_layer.0.weight"])
def test_one_tensor_is_no_network(read, first):
    with pytest.raises(ConversionError, match="missing .* and [0-9]+ more"):
        read({first: np.zeros((32, 3, 3, 3), np.float32)})


def test_a_truncated_file_is_refused(tmp_path, tensors):
    path = tmp_path / "weights"
    content = files.torch_legacy(files.ordered(tensors["inception_resnet_v1"]))
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ConversionError, match="weights: "):
        convert_weights.read(path)


def test_the_command_writes_one_file_and_a_flipped_byte_is_noticed(capsys, tmp_path, tensors):
    kind = "inception_resnet_v1"
    source, target = tmp_path / "public.pt", tmp_path / "embedder.safetensors"
    source.write_bytes(files.torch_zip(files.ordered(tensors[kind])))
    assert main(["convert", str(source), str(target)]) == 0
    assert kind in (printed := capsys.readouterr().out) and "MIT" in printed
    direct, loaded = load(source, *EMBEDDERS), load(target, *EMBEDDERS)
    assert loaded.record == direct.record and loaded.record.name == kind and len(loaded.record.source_sha256) == 64
    found, arrays, _, provenance = read_weights(target)
    assert found == kind and arrays.keys() == tensors[kind].keys() and "MIT" in provenance["licence"]
    content = bytearray(target.read_bytes())
    content[-5] ^= 1
    target.write_bytes(content)
    with pytest.raises(LsapError, match="SHA-256"):
        load(target, *EMBEDDERS)


def _detector_part(name):
    return files.torch_legacy(files.ordered({n: np.full(s, 0.5, np.float32) for n, s in NETWORKS[name].items()}))


def test_the_command_converts_a_wheel_of_the_detector_but_not_a_part(capsys, tmp_path):
    wheel, part, target = (tmp_path / name for name in ("a.whl", "rnet.pt", "detector.safetensors"))
    with zipfile.ZipFile(wheel, "w") as z:
        z.writestr("facenet_pytorch/__init__.py", "raise SystemExit('the wheel was executed')")
        for name in NETWORKS:
            z.writestr(f"facenet_pytorch/data/{name}.pt", _detector_part(name))
    part.write_bytes(_detector_part("rnet"))
    assert main(["convert", str(part), str(target)]) == 2 and not target.exists()
    assert "rnet.pt: is one of MTCNN's three networks; give the wheel" in capsys.readouterr().err
    assert main(["convert", str(wheel), str(target)]) == 0
    assert read_weights(target)[0] == "mtcnn"
