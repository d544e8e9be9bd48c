"""The encoders of pSp, e4e, ReStyle and the W encoder against the original modules."""

import jax
import numpy as np
import pytest
from parity import assert_parity, nhwc

from lsap_jax.networks.parameters import merge
from lsap_jax.networks.psp import RESNET34, PspConfig, PspEncoder, corner_matrix, param_shapes

pytestmark = pytest.mark.usefixtures("quick_compilation")


def network(config, weights):
    counters = {name for name in weights if name.endswith("num_batches_tracked")}
    named = {name: value for name, value in weights.items() if name not in counters}
    params = merge(param_shapes(config), named, "golden")
    # Weights are arguments: as constants of each stage's program, those of 1024 px would take 12 GB.
    run = jax.jit(lambda params, x, stage: PspEncoder(config).apply({"params": params}, x, stage))
    return lambda x, stage=None: run(params, x, stage)


def images(file, *names):
    levels = np.concatenate([nhwc(file[f"{name}_u8"]) for name in names], axis=-1)
    return levels.astype(np.float32) / 127.5 - 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["enc_e4e_g32_px64", "enc_e4e_g1024"])
def test_e4e(seeded, name):
    file, weights = seeded(name)
    stages = sorted(key for key in file if key.startswith("wplus_stage"))
    rows = file[stages[0]].shape[1]
    run = network(PspConfig(num_ws=rows, progressive=True), weights("encoder"))
    for key in stages:
        stage = int(key.removeprefix("wplus_stage"))
        assert_parity("encoders", f"{name} {key}", run(images(file, "img"), stage), file[key])
    assert_parity("encoders", f"{name} all", run(images(file, "img")), file["wplus_stage18"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["enc_psp_g32_px64", "enc_psp_g1024"])
def test_psp(seeded, name):
    file, weights = seeded(name)
    run = network(PspConfig(num_ws=file["out"].shape[1]), weights("encoder"))
    assert_parity("encoders", name, run(images(file, "img")), file["out"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["enc_wencoder_px64", "enc_wencoder_px256"])
def test_w_encoder(seeded, name):
    file, weights = seeded(name)
    run = network(PspConfig(num_ws=file["out"].shape[1], heads="single"), weights("encoder"))
    assert_parity("encoders", name, run(images(file, "img")), file["out"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["enc_restyle_px64", "enc_restyle_px256"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("trunk", ["irse", "resnet34"])
def test_restyle(seeded, name, progressive, trunk):
    file, weights = seeded(name)
    label = f"{'ResNet' * (trunk == 'resnet34')}{'Progressive' * progressive}BackboneEncoder"
    expected = {key.partition("/")[2]: file[key] for key in file if key.startswith((f"{label}/out", f"{label}/stage"))}
    rows = next(iter(expected.values())).shape[1]
    own = {"units": RESNET34} if trunk == "resnet34" else {}
    config = PspConfig(num_ws=rows, heads="last", progressive=progressive, trunk=trunk, in_channels=6, **own)
    run = network(config, weights(label))
    for key, value in expected.items():
        stage = None if key == "out" else int(key.removeprefix("stage"))
        assert_parity("encoders", f"{name} {label} {key}", run(images(file, "x", "y"), stage), value)


def test_interpolation_keeps_corners():
    np.testing.assert_allclose(corner_matrix(3, 5) @ [0.0, 10, 30], [0, 5, 10, 20, 30])
    np.testing.assert_array_equal(corner_matrix(1, 3), np.ones((3, 1)))
