"""MoCo's ResNet-50 and the loss that e4e takes of it, against the original; its file, converted."""

import importlib.util
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from foreign_files import T, torch_zip
from parity import assert_parity, nhwc

from convert_weights.moco import moco_shapes
from lsap_jax.losses.likeness import Likeness
from lsap_jax.models.embedder import MOCO, embedder_of
from lsap_jax.models.network_file import load
from lsap_jax.networks.moco import nearest, param_shapes
from lsap_jax.networks.parameters import merge
from lsap_jax.pixels import to_float

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_the_converter_knows_every_tensor():
    assert flatten_dict(param_shapes(), sep=".").keys() == moco_shapes().keys()


def test_nearest_takes_the_pixel_of_torchs_interpolation():
    x = jnp.arange(256.0)[None, :, None, None] * jnp.ones((1, 1, 2, 1))
    found = np.asarray(nearest(x))[0, :, 0, 0]
    np.testing.assert_array_equal(found, np.floor(np.arange(224) * (256 / 224)))


@pytest.mark.slow
def test_the_loss_is_the_originals(golden, shared_file):
    spec = importlib.util.spec_from_file_location("seeded_weights_enc", shared_file("golden/seeded_weights_enc.py"))
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    file = golden("loss_moco_resnet50")
    weights = recipe.fill(json.loads(bytes(file["meta_json"]))["models"]["resnet50"])
    weights |= {name.removeprefix("sd/"): file[name] for name in file if name.startswith("sd/")}
    params = merge(param_shapes(), {name: weights[name] for name in moco_shapes()}, "golden")
    judge = Likeness(embedder=embedder_of(MOCO, params, {}, {"sha256": ""}))
    features = jax.jit(judge.features)
    image, target = (features(jnp.asarray(to_float(nhwc(file[f"{name}_u8"])))) for name in ("y_hat", "y"))
    # The original itself is 4e-5 of the maximum away from its run in float64.
    assert_parity("training", "MoCo's features", image, file["feat_y_hat"], atol=1e-4)
    assert_parity("training", "MoCo's loss", judge.distance(image, target).mean(), file["loss"])


@pytest.mark.slow
def test_its_file_is_converted(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {name: rng.standard_normal(shape, np.float32) for name, shape in moco_shapes().items()}
    state = {f"module.encoder_q.{name}": T(a) for name, a in arrays.items()}
    state |= {f"module.{name}": T(np.zeros((2, 2), np.float32)) for name in ("encoder_q.fc.0.weight", "queue")}
    (tmp_path / "moco.pth.tar").write_bytes(torch_zip({"epoch": 800, "state_dict": state}))
    found = load(tmp_path / "moco.pth.tar", MOCO)
    own = found.params["layer4"]["2"]["conv3"]["weight"]
    np.testing.assert_array_equal(own[0, 0].T, arrays["layer4.2.conv3.weight"][:, :, 0, 0])
    assert found.record.trained_on == "ImageNet, without labels"
