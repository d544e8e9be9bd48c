"""`python -m convert_weights`: every dialect with numpy alone, to the very file that `lsap-jax convert` writes."""

import io
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import foreign_dialects as dialects
import foreign_dlib
import foreign_encoders as encoders
import foreign_face_parser
import foreign_files as files
import foreign_invertibility
import foreign_stylegan1
import numpy as np
import pytest

from convert_weights import basecode, idinvert, perceptual, styleclip
from convert_weights.__main__ import main
from convert_weights.dialects import DIALECTS
from convert_weights.faces import arcface_shapes, facenet_shapes
from convert_weights.inception import inception_shapes
from convert_weights.moco import moco_shapes
from convert_weights.mtcnn import NETWORKS
from lsap_jax.cli import main as lsap
from lsap_jax.storage.weights_file import read_weights

ROOT = Path(__file__).resolve().parents[2]
G, D = dialects.random_generator(), dialects.random_discriminator()
AVERAGE = {"latent_avg": files.T(np.tile(G["mapping.w_avg"], (4, 1)))}
AVERAGE_16 = {"latent_avg": files.T(encoders.GENERATOR["mapping.w_avg"])}
MAPPER = {"w_dim": 8, "levels": ["course", "fine"]}
LIN = {f"lin{k}.model.1.weight": np.full((1, c, 1, 1), 0.5, np.float32) for k, c in enumerate((64, 192, 384, 256, 256))}
BASECODE = {"widths": [4, 6, 8], "out_channels": 5, "in_channels": 3}


def half(shapes):
    """Tensors of these shapes that are quick to write: views of one storage."""
    flat = np.full(max(np.prod(shape) for shape in shapes.values()), 0.5, np.float16)
    return dialects.state_dict({name: flat[: np.prod(shape)].reshape(shape) for name, shape in shapes.items()})


def idinvert_encoder():
    """IDInvert's encoder for images of 8 px under its authors' names, and its counters of steps."""
    shapes = idinvert.encoder_shapes({"num_ws": 4, "w_dim": 8, "widths": [4, 6], "in_channels": 3})
    theirs = {
        re.sub(r"conv(\d)\.bias", r"wscale\1.bias", re.sub(r"(bn\d?)\.", r"\1.bn.", n)): shapes[n] for n in shapes
    }
    return files.torch_zip(half(theirs | {"block0.bn.bn.num_batches_tracked": (1,)}))


def snapshot():
    g = files.nvlabs(G, "Generator", files.generator_facts())
    return {"G": g, "D": files.nvlabs_discriminator(D), "G_ema": g}


def tensorflow(version):
    g = dialects.tensorflow_generator(G, version, resolution=8, latent_size=4, dlatent_size=4)
    return files.plain((g, dialects.tensorflow_discriminator(D, version, resolution=8, mbstd_num_features=1), g), 3)


def wheel():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for name, shapes in NETWORKS.items():
            z.writestr(f"facenet_pytorch/data/{name}.pt", files.torch_legacy(half(shapes)))
    return out.getvalue()


def decoder():
    state = {f"decoder.{n}": a for n, a in dialects.rosinality(G).items()}
    state["encoder.input_layer.0.weight"] = np.ones((2, 3, 3, 3), np.float32)
    return files.torch_zip({"state_dict": dialects.state_dict(state), "opts": {"output_size": 8}, **AVERAGE})


def state_dicts(**networks):
    return {name: dialects.state_dict(arrays) for name, arrays in networks.items()}


# Row of the table of dialects: a file of it.
SG1 = foreign_stylegan1.random_generator()
SOURCES = {
    "dlib": lambda: foreign_dlib.written(foreign_dlib.other_weights()),
    "wheel of facenet-pytorch": wheel,
    "NVlabs .npz": lambda: files.npz({f"G_ema/{n}": a for n, a in G.items()} | {f"D/{n}": a for n, a in D.items()}),
    "TensorFlow StyleGAN1": lambda: foreign_stylegan1.pickled(SG1, fused_scale="auto"),
    "TensorFlow StyleGAN2": lambda: tensorflow(4),
    "TensorFlow StyleGAN2-ADA": lambda: tensorflow(5),
    "NVlabs generator": lambda: files.torch_zip(files.nvlabs(G, "Generator", files.generator_facts())),
    "NVlabs snapshot": lambda: files.plain(snapshot(), 3),
    "image network of torchvision": lambda: files.torch_legacy(half(perceptual.BACKBONES["alexnet"])),
    "Inception v3 of FID": lambda: files.torch_zip(half(inception_shapes())),
    "Inception-ResNet v1": lambda: files.torch_zip(half(facenet_shapes())),
    "ArcFace": lambda: files.torch_legacy(half(arcface_shapes())),
    "MoCo": lambda: files.torch_zip(
        {"state_dict": half({f"module.encoder_q.{name}": shape for name, shape in moco_shapes().items()})}
    ),
    "encoder of IDInvert": idinvert_encoder,
    "mapper of StyleCLIP": lambda: files.torch_zip(
        {
            "state_dict": half({f"mapper.{n}": s for n, s in styleclip.mapper_shapes(MAPPER).items()}),
            "opts": {"lr": 0.5},
        }
    ),
    "invertibility network of SAM": lambda: foreign_invertibility.packed(foreign_invertibility.foreign()),
    "BiSeNet for faces": lambda: foreign_face_parser.packed(foreign_face_parser.foreign()),
    "base-code encoder of BDInvert": lambda: files.torch_zip({"encoder": half(basecode.encoder_shapes(BASECODE))}),
    "generator in pSp, e4e, HyperStyle": decoder,
    "rosinality": lambda: files.torch_zip(
        state_dicts(g_ema=dialects.rosinality(G), d=dialects.rosinality_discriminator(D)) | AVERAGE
    ),
    "e4e with its generator": lambda: files.torch_zip(
        encoders.psp_file(encoders.encoder(), discriminator_state_dict=dialects.state_dict(encoders.CRITIC))
    ),
    "encoder of pSp, e4e, LSAP or ReStyle": lambda: files.torch_legacy(
        {"e4e": dialects.state_dict(encoders.tensors(encoders.encoder())), **AVERAGE_16}
    ),
    "GenForce": lambda: files.torch_zip(
        state_dicts(generator_smooth=dialects.genforce(G), discriminator=dialects.genforce_discriminator(D))
    ),
    "StyleGAN1 of GenForce": lambda: files.torch_zip(state_dicts(generator_smooth=SG1)),
    "generator of IDInvert": lambda: files.torch_zip(
        state_dicts(generator=foreign_stylegan1.idinvert(foreign_stylegan1.random_generator(rows=6)))
    ),
    "NVlabs names": lambda: files.torch_legacy(state_dicts(G_ema=G, D=D)),
}
# Rows whose files are no weights to convert, or half of them, or are refused.
OTHERS = {
    "codes in numpy's files", "codes, a single tensor", "codes by name", "linear layers of LPIPS", "network of MTCNN",
    "networks around a StyleGAN2", "other networks", "discriminator alone", "directions", "codes by image",
    "generator by the names of its tensors", "parts of networks", "one of these networks in a wrapper",
}  # fmt: skip
# Files of one row: of `tensorflow`, and of `generators`, which has a table of its own.
GENERATORS = {
    "TensorFlow StyleGAN2-ADA", "NVlabs .npz", "generator in pSp, e4e, HyperStyle", "rosinality", "GenForce",
    "StyleGAN1 of GenForce", "generator of IDInvert",
    "NVlabs names", "e4e with its generator",
}  # fmt: skip

BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("jax", "jaxlib", "flax", "safetensors", "lsap_jax", "torch", "absl"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
from convert_weights.__main__ import main

for line in sys.stdin.read().splitlines():
    assert main(line.split("\\t")) == 0, line
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with sources/NAME for every dialect, and lin.pth."""
    folder = tmp_path_factory.mktemp("dialects")
    (folder / "sources").mkdir()
    (folder / "lin.pth").write_bytes(files.torch_legacy(dialects.state_dict(LIN)))
    for name, made in SOURCES.items():
        (folder / "sources" / name).write_bytes(made())
    return folder


def arguments(folder, name, target):
    more = ["--lin", str(folder / "lin.pth")] if name == "image network of torchvision" else []
    return [str(folder / "sources" / name), str(folder / target / name), *more]


def test_every_row_has_a_file_here():
    assert {row.name for row in DIALECTS} == (SOURCES.keys() - GENERATORS) | OTHERS


def test_every_dialect_converts_with_numpy_alone(folder):
    lines = ["\t".join(arguments(folder, name, "alone")) for name in SOURCES]
    result = subprocess.run(
        [sys.executable, "-c", BLOCKED], input="\n".join(lines), capture_output=True, text=True, cwd=ROOT
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("wrote ") == len(SOURCES)
    assert {path.name for path in (folder / "alone").iterdir()} == SOURCES.keys()


@pytest.mark.parametrize("name", SOURCES)
def test_the_command_of_lsap_jax_writes_the_same_bytes(folder, name, capsys):
    alone = folder / "alone" / name
    if not alone.is_file():  # where this test runs by itself
        assert main(arguments(folder, name, "alone")) == 0
    assert lsap(["convert", *arguments(folder, name, "whole"), "--nogrid"]) == 0
    assert (folder / "whole" / name).read_bytes() == alone.read_bytes()
    read_weights(alone)
    capsys.readouterr()


def test_what_cannot_be_converted_is_said_in_one_line(folder, tmp_path, capsys):
    np.save(tmp_path / "codes.npy", np.zeros((2, 8), np.float32))
    half_of_lpips, named = folder / "sources" / "image network of torchvision", folder / "sources" / "NVlabs names"
    (tmp_path / "file").write_bytes(b"")
    for source, target, message in (
        (tmp_path / "codes.npy", tmp_path / "x", "codes.npy: holds codes, which need no conversion"),
        (half_of_lpips, tmp_path / "x", "name the other half with --lin"),
        (folder / "lin.pth", tmp_path / "x", "give the backbone as SRC"),
        (tmp_path / "absent", tmp_path / "x", "absent: cannot be read"),
        (tmp_path / "file", tmp_path / "file", "is the source itself"),
        (named, tmp_path / "file" / "below", "cannot be written"),
        (named, tmp_path, "cannot be written"),
    ):
        assert main([str(source), str(target)]) == 2
        err = capsys.readouterr().err
        assert message in err and err.startswith("convert_weights: ") and err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["codes.npy", "file"]


def test_weights_in_half_precision(folder, capsys):
    """dlib's network as the package has it; a generator keeps single precision."""
    halves = [folder / "alone.half", folder / "whole.half"]
    assert main([str(folder / "sources" / "dlib"), str(halves[0]), "--half"]) == 0
    assert lsap(["convert", str(folder / "sources" / "dlib"), str(halves[1]), "--half"]) == 0
    assert halves[0].read_bytes() == halves[1].read_bytes()
    assert halves[0].stat().st_size < 0.6 * (folder / "sources" / "dlib").stat().st_size
    assert main([str(folder / "sources" / "GenForce"), str(folder / "no"), "--half"]) == 2
    assert "kept in single precision" in capsys.readouterr().err and not (folder / "no").exists()
