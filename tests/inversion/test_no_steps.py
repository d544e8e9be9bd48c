"""steps=0: the codes of the start, evaluated once, and not a step from there."""

import jax
import numpy as np
import pytest

import lsap_jax
from lsap_jax.configuration import load_config
from lsap_jax.data import from_arrays
from lsap_jax.inversion.inverter import Inverter
from lsap_jax.inversion.jobs import Job
from lsap_jax.models.latent_encoder import LatentEncoder
from lsap_jax.networks.latent_encoder import LatentEncoderConfig, initial_variables
from lsap_jax.report.run_report import write_run_report
from lsap_jax.runs.run import run
from lsap_jax.storage.results import read_run
from lsap_jax.testing import tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation")

PLAIN = {"perceptual.network": "none", "steps": 0, "batch_size": 4}


@pytest.fixture(scope="module")
def images():
    return tiny_images(3)


@pytest.fixture(scope="module")
def G(tiny):
    """With an untrained latent encoder whose output is not constant."""
    config = LatentEncoderConfig(num_ws=tiny.num_ws, w_dim=tiny.w_dim, widths=(4, 6, 6))
    variables = initial_variables(config, jax.random.key(0), tiny.w_avg)
    return tiny.with_part("encoder", LatentEncoder(config=config, params=variables))


CASES = {
    "z": {"space": "z"},
    "w+": {"space": "w+", "loss.delta": 0.1},
    "pn": {"space": "pn", "keep": "last"},
    "f/s": {"space": "f/s"},
    "latent noise": {"space": "projector"},
    "encoder": {"space": "f/w+", "init.detail": "encoder"},
    "steps in W before": {"space": "z+", "init.w_steps": 3},
}


QUICK = ("z",)  # tests below begin with the encoder and with steps in W


@pytest.mark.usefixtures("full_compilation")
@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in CASES])
def test_no_step_is_taken_from_the_start(G, images, name):
    options = {**PLAIN, **CASES[name]}
    inv = lsap_jax.invert(G, images, **options)
    config = load_config(options.pop("space"), {**options, "batch_size": 3})
    inverter = Inverter(G, config, jax.local_devices()[:1])
    state, _ = inverter.begin([Job(id=str(i), image=image) for i, image in enumerate(images)])
    start = inv.space.retract(jax.tree.map(lambda a: np.asarray(a[0]), state.codes))
    assert inv.codes.keys() == start.keys()
    for key, code in inv.codes.items():
        np.testing.assert_allclose(code, start[key], rtol=1e-5, atol=1e-5, err_msg=key)
    assert {curve.shape for curve in inv.curves.values()} == {(3, 1)} and inv.flags == ((),) * 3
    assert all(np.isfinite(curve).all() for curve in inv.curves.values())
    shown = lsap_jax.render(G, inv.space, inv.codes)
    np.testing.assert_array_equal(shown, inv.images)
    unclipped = np.abs(shown).max(axis=(1, 2, 3)) < 1
    np.testing.assert_allclose(inv.curves["mse"][unclipped, 0], inv.metrics["mse"][unclipped], rtol=1e-4)


@pytest.mark.slow
def test_steps_in_w_are_taken_all_the_same(G, images):
    options = {"space": "z+", "init.detail": "w_avg", **PLAIN}
    still = lsap_jax.invert(G, images, **options)
    begun = lsap_jax.invert(G, images, **options, **{"init.w_steps": 20})
    assert (begun.metrics["mse"] < still.metrics["mse"]).all()


@pytest.mark.parametrize("space", [pytest.param("w+", marks=pytest.mark.slow), "f/z+"])
def test_the_first_of_several_steps_sees_the_same_losses(G, images, space):
    """Without a gradient the losses of the start are what they are with one, but for rounding."""
    still, moved = (lsap_jax.invert(G, images, space, **{**PLAIN, "steps": steps}) for steps in (0, 1))
    assert still.curves.keys() == moved.curves.keys()
    for name, curve in still.curves.items():
        np.testing.assert_allclose(curve[:, 0], moved.curves[name][:, 0], rtol=1e-5, atol=1e-7, err_msg=name)


def test_the_encoders_start_is_what_the_encoder_says(G, images):
    inv = lsap_jax.invert(G, images, "w+", **{**PLAIN, "init.detail": "encoder"})
    size = G.encoder.config.input_resolution
    assert size == images.shape[1]
    np.testing.assert_allclose(inv.codes["w"], G.encoder(images.astype(np.float32) / 127.5 - 1), atol=1e-5)


@pytest.mark.parametrize("patience", [0, 5])
def test_a_folder_says_that_no_step_was_taken(G, images, tmp_path, patience):
    source = from_arrays(images, None, resolution=16, channels=3)
    told = []
    config = load_config("w+", {**PLAIN, "converge.patience": patience})
    summary = run(G, source, config, tmp_path / "run", generator_name="tiny", progress=told.append)
    assert summary.done == 3 and told[-1].done == 3
    assert read_run(tmp_path / "run")["steps"] == 0
    with np.load(tmp_path / "run" / "curves" / "0.npz") as curves:
        assert {curves[name].shape for name in curves.files} == {(1,)}
    page = write_run_report(tmp_path / "run")
    assert "steps" in page.read_text("utf-8")
