"""IDInvert's released encoder: the original module's results, its file, and what it may be joined to."""

import json
import re

import foreign_files as files
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity import assert_parity, nhwc

import lsap_jax
from convert_weights import ConversionError, idinvert, read
from convert_weights.match import match
from convert_weights.tensors import Tensor
from lsap_jax.cli import main
from lsap_jax.errors import LsapError
from lsap_jax.models.network_file import attach, load_encoder, save
from lsap_jax.networks.idinvert import IdinvertNetwork
from lsap_jax.networks.irse import BATCH
from lsap_jax.networks.view import square
from lsap_jax.testing import tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture
def file(golden):
    return golden("idinvert_encoder")


@pytest.fixture
def tensors(file):
    """The state dict of the reference, with the counters that real files have."""
    own = {name.removeprefix("sd/"): a for name, a in file.items() if name.startswith("sd/")}
    norms = [name.removesuffix("running_mean") for name in own if name.endswith("running_mean")]
    return own | {f"{name}num_batches_tracked": np.int64(9) for name in norms}


@pytest.fixture
def write(tmp_path):
    def run(tensors, wrap=lambda state: state):
        state = files.ordered({name: files.T(np.asarray(a)) for name, a in tensors.items()})
        (tmp_path / "encoder.pth").write_bytes(files.torch_zip(wrap(state)))
        return tmp_path / "encoder.pth"

    return run


def test_codes_and_features_of_the_original(write, tensors, file):
    E = load_encoder(write(tensors))
    x = jnp.asarray(nhwc(file["x"]))
    ws, state = IdinvertNetwork(E.config).apply({"params": E.params}, x, capture_intermediates=True)
    assert (E.kind, E.codes, E.view, E.config.widths) == ("idinvert", "w+", square(16), (8, 16, 24))
    assert_parity("encoders", "idinvert code", E(x), file["code"])
    assert_parity("encoders", "idinvert code in training's network", ws, file["code"])
    for k in range(4):
        (found,) = state["intermediates"][f"block{k}"]["__call__"]
        expected = file[f"block{k}"] if k == 3 else nhwc(file[f"block{k}"])
        assert_parity("encoders", f"idinvert block{k}", found, expected)


def test_normalised_by_the_batch(write, tensors, file):
    E = load_encoder(write(tensors))
    ws, _ = IdinvertNetwork(E.config).apply({"params": E.params}, jnp.asarray(nhwc(file["x"])), mutable=[BATCH])
    assert_parity("encoders", "idinvert code, batch statistics", ws, file["code_train_mode"])


def test_gradient_to_the_image(write, tensors, file):
    E = load_encoder(write(tensors))
    weight = np.random.RandomState(8200).randn(2, 192).astype(np.float32).reshape(2, 6, 32)
    slope = jax.grad(lambda x: (E(x) * weight).sum())(jnp.asarray(nhwc(file["x"])))
    assert_parity("encoders", "idinvert gradient", slope, nhwc(file["dL_dx"]), atol=5e-5)


def test_scaled_weights_are_the_same_network(write, tensors, file):
    """`use_wscale`: the original multiplies its convolutions at run time by √2/√fan_in, here beforehand."""

    def scaled(name, a):
        if not re.fullmatch(r"block\d\.conv[12]?\.weight", name):
            return a
        return a * np.float32(np.sqrt(2 / np.prod(a.shape[1:])))

    E = load_encoder(write({name: scaled(name, a) for name, a in tensors.items()}))
    assert_parity("encoders", "idinvert use_wscale", E(jnp.asarray(nhwc(file["x"]))), file["code_use_wscale"])


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"encoder": state, "step": 3}])
def test_every_tensor_is_used_once(write, tensors, wrap):
    checkpoint = read(write(tensors, wrap))
    assert "IDInvert" in checkpoint.format and list(checkpoint.parts) == ["idinvert"]
    part = checkpoint.parts["idinvert"]
    counters = {name for name in tensors if name.endswith("tracked")}
    assert {name.rpartition("/")[2] for name in checkpoint.ignored if "tracked" in name} == counters
    assert len(part.arrays) == len(tensors) - len(counters)
    assert part.config == {"num_ws": 6, "w_dim": 32, "widths": [8, 16, 24], "in_channels": 3}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("block1.bn2.bn.bias"), r"missing block1\.bn2\.bias"),
        (lambda t: t.update({"block1.se.weight": t["block1.conv.weight"]}), r"unknown tensors block1\.se\.weight"),
        (lambda t: t.update({"block2.conv1.weight": t["block1.conv1.weight"]}), r"block2\.conv1\.weight is \[8, 8"),
        (lambda t: t.update({"block3.fc.weight": t["block3.fc.weight"][:191]}), "191 numbers from images of 16 px"),
        (lambda t: [t.pop(name) for name in list(t) if name.startswith("block3")], "block2 is no dense layer"),
        (lambda t: [t.pop(name) for name in list(t) if name.startswith("block2")], "none of number 2"),
        (lambda t: t.update({"block0.bn.bn.bias": t["block0.bn.bn.bias"] * np.nan}), "not finite"),
    ],
)
def test_another_network_is_refused(write, tensors, change, message):
    change(tensors)
    with pytest.raises(ConversionError, match=message):
        read(write(tensors))


def test_published_names_and_shapes(shared_file):
    table = json.loads(shared_file("facts/stylegan1_keys.json").read_text())["idinvert_styleganinv_256_encoder"]

    def load():
        raise AssertionError("weights were read")

    found, ignored = match({n: Tensor(tuple(s), "float32", load) for n, s in table.items()}, idinvert.RULES, "encoder")
    config = {"num_ws": 14, "w_dim": 512, "widths": [64, 128, 256, 512, 1024, 1024, 1024], "in_channels": 3}
    assert idinvert.encoder_shapes(config) == {n: one.shape for n, one in found.items()}
    assert len(found) + len(ignored) == len(table)


def test_convert_encode_and_refuse(write, tensors, tmp_path):
    """Through the command's file, joined to its generator, to the codes of the original file; no other generator."""
    tensors |= {name: a[:96] for name, a in tensors.items() if name.startswith("block3") and np.ndim(a)}  # 6 rows of 16
    source, G = write(tensors), tiny_generator(discriminator=False)
    G.save(tmp_path / "g.safetensors")
    converted, joined = tmp_path / "e.safetensors", tmp_path / "joined.safetensors"
    assert main(["convert", str(source), str(converted), "--only=encoder"]) == 0
    assert main(["convert", str(source), str(joined), f"--generator={tmp_path / 'g.safetensors'}"]) == 0
    images = tiny_images(3)
    expected = lsap_jax.encode(G, load_encoder(source), images)
    x = images.astype(np.float32) / 127.5 - 1
    np.testing.assert_allclose(expected.codes["w"], load_encoder(source)(jnp.asarray(x)), atol=1e-5)
    for E, own in ((load_encoder(converted), G), (None, lsap_jax.load_generator(joined))):
        np.testing.assert_array_equal(lsap_jax.encode(own, E, images).codes["w"], expected.codes["w"])
    save(tmp_path / "again.safetensors", load_encoder(converted), {})
    again = load_encoder(tmp_path / "again.safetensors")
    np.testing.assert_array_equal(lsap_jax.encode(G, again, images).codes["w"], expected.codes["w"])
    larger = tiny_generator(img_resolution=32)
    with pytest.raises(LsapError, match=r"\(6, 16\) from images with 3 channels, this generator has \(8, 16\) and 3"):
        attach(larger, again)
    with pytest.raises(LsapError, match=r"\(6, 16\), this generator takes \(8, 16\)"):
        lsap_jax.encode(larger, again, images)
