"""BiSeNet through a file as its project saves it, against its layers one by one."""

import foreign_face_parser as foreign
import jax
import numpy as np
import pytest

from convert_weights import ConversionError
from lsap_jax.models.network_file import load, save
from lsap_jax.networks.face_parser import FaceParser, FaceParserConfig, param_shapes
from lsap_jax.networks.parameters import count
from lsap_jax.networks.psp import upsampled

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.mark.parametrize("prefix", ["", "module."])
def test_every_layer_is_that_of_the_file(tmp_path, prefix):
    state = foreign.foreign()
    (tmp_path / "bisenet.pth").write_bytes(foreign.packed(foreign.foreign(prefix)))
    parser = load(tmp_path / "bisenet.pth", "face_parser")
    assert (parser.config.widths, parser.config.units, parser.config.head) == ((4, 5, 6, 7), (2, 1, 1, 1), 5)
    x = np.random.default_rng(1).uniform(-1, 1, (2, 64, 64, 3)).astype(np.float32)
    found = jax.jit(lambda params: FaceParser(parser.config).apply({"params": params}, x))(parser.params)
    known = np.stack([foreign.logits(state, image) for image in x])
    assert known.shape == (2, 8, 8, 19) and np.ptp(known) > 1
    np.testing.assert_allclose(found, upsampled(known.astype(np.float32), 64, 64), atol=1e-4 * np.abs(known).max())
    save(tmp_path / "parser.safetensors", parser, {})
    jax.tree.map(
        np.testing.assert_array_equal, load(tmp_path / "parser.safetensors", "face_parser").params, parser.params
    )


def test_shares_of_classes_at_the_size_of_the_image(tmp_path):
    """Larger images than those of the training are reduced; grey ones are seen as colours."""
    (tmp_path / "bisenet.pth").write_bytes(foreign.packed(foreign.foreign()))
    parser = load(tmp_path / "bisenet.pth", "face_parser")
    small = parser.replace(config=FaceParserConfig(**{**vars(parser.config), "input_resolution": 32}))
    x = np.random.default_rng(1).uniform(-1, 1, (1, 32, 32, 1)).astype(np.float32).repeat(2, 1).repeat(2, 2)
    seen = jax.jit(lambda parser, x: parser.shares(x))
    shares = seen(small, x)
    assert shares.shape == (1, 64, 64, 19)
    np.testing.assert_allclose(shares.sum(-1), 1, rtol=1e-5)
    half = seen(small, x[:, ::2, ::2].repeat(3, -1))
    np.testing.assert_allclose(shares[:, [0, -1], :1], half[:, [0, -1], :1], rtol=1e-3)  # corners are on corners


def test_other_tensors_are_refused(tmp_path):
    missing, more = foreign.foreign(), foreign.foreign(**{"cp.sp.conv1.weight": np.ones((2, 3), np.float32)})
    del missing["cp.arm16.bn_atten.bias"]
    for state, message in (
        (missing, r"missing cp\.arm16\.bn_atten\.bias"),
        (more, r"unexpected cp\.sp\.conv1\.weight"),
        (
            foreign.foreign(**{"ffm.conv2.weight": np.ones((4, 3, 1, 1), np.float32)}),
            "wrong shape: ffm.conv2.weight is",
        ),
    ):
        (tmp_path / "bisenet.pth").write_bytes(foreign.packed(state))
        with pytest.raises((ConversionError, ValueError), match=message):
            load(tmp_path / "bisenet.pth", "face_parser")


def test_the_public_network_has_its_numbers():
    assert count(param_shapes(FaceParserConfig())) == 13_162_688  # 13,300,416 with the heads of the training
