"""The encoders of pSp, e4e and ReStyle as a user holds them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lsap_jax
from lsap_jax.errors import LsapError
from lsap_jax.models.network_file import attach, load_encoder, save
from lsap_jax.models.psp import PspEncoder, param_shapes
from lsap_jax.networks.irse import adaptive_average
from lsap_jax.networks.psp import PspConfig
from lsap_jax.networks.psp import PspEncoder as Network
from lsap_jax.testing import random_leaves, tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation")

TRUNK = {"units": ((16, 1), (16, 2), (16, 2)), "taps": (0, 1, 2), "input_resolution": 16, "num_ws": 6, "w_dim": 16}


def small(**changes) -> PspEncoder:
    """An encoder with a small trunk for the tiny generator."""
    config = PspConfig(**{**TRUNK, **changes})
    return PspEncoder(config=config, params=random_leaves(param_shapes(config), np.random.default_rng(0)))


@pytest.fixture(scope="module")
def G():
    return tiny_generator()


@pytest.mark.parametrize(
    "changes", [{"progressive": True}, pytest.param({"heads": "single"}, marks=pytest.mark.slow)], ids=["e4e", "w"]
)
def test_from_file_to_codes(G, changes, tmp_path):
    save(tmp_path / "e.safetensors", small(**changes), {})
    E = load_encoder(tmp_path / "e.safetensors")
    found = lsap_jax.encode(G, E, tiny_images(3))
    code = found.codes[E.codes.removesuffix("+")]
    assert E.codes == ("w" if "heads" in changes else "w+")
    images = tiny_images(3).astype(np.float32) / 127.5 - 1
    np.testing.assert_allclose(code, E(images, G) if E.codes == "w+" else E(images, G)[:, 0], rtol=1e-5, atol=1e-5)
    together = lsap_jax.load_encoder(tmp_path / "e.safetensors").check_fits(G.config)
    assert together is None and attach(G, E).encoder.kind == "psp"


def test_restyle_repeats_its_passes(G):
    E = small(heads="last", in_channels=6, passes=2)
    images = jnp.asarray(tiny_images(2) / 127.5 - 1, jnp.float32)
    ws = jnp.broadcast_to(E.params["w_avg"][None], (2, 6, 16))
    for _ in range(2):
        seen = adaptive_average(G.synthesis(ws), 16)
        ws = ws + Network(E.config).apply({"params": E.params["encoder"]}, jnp.concatenate([images, seen], -1))
    np.testing.assert_allclose(E(images, G), ws, rtol=1e-4, atol=1e-5 * np.abs(ws).max())


def test_an_image_does_not_see_its_batch(G):
    E = small(progressive=True)
    images = jnp.asarray(tiny_images(3) / 127.5 - 1, jnp.float32)
    np.testing.assert_array_equal(E(images, G)[1:], E(images[1:], G))


def test_another_generator_is_refused(G):
    with pytest.raises(LsapError, match="makes ws of"):
        attach(G, small(num_ws=8))
    with pytest.raises(LsapError, match="3 channels, this generator"):
        small().check_fits(tiny_generator(img_channels=1).config)


def test_the_stage_is_the_last_row_with_an_offset(G):
    E = small(progressive=True)
    images = jnp.asarray(tiny_images(1) / 127.5 - 1, jnp.float32)
    rows = jax.jit(lambda stage: Network(E.config).apply({"params": E.params["encoder"]}, images, stage))
    first, some, last = (np.asarray(rows(stage))[0] for stage in (0, 2, 6))
    np.testing.assert_array_equal(first, np.repeat(first[:1], 6, axis=0))
    np.testing.assert_array_equal(some[:3], last[:3])
    np.testing.assert_array_equal(some[3:], np.repeat(first[:1], 3, axis=0))
