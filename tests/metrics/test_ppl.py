"""Perceptual path length against derivatives along the path, StyleGAN's trimming, and what pins it down."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from lsap_jax.errors import LsapError
from lsap_jax.metrics.ppl import CONVENTIONS, EPSILON, path_lengths, perceptual_path_length, trimmed_mean
from lsap_jax.models.perceptual import from_discriminator
from lsap_jax.testing import tiny_generator

pytestmark = pytest.mark.usefixtures("quick_compilation")


class Squares(struct.PyTreeNode):
    """Squared distance of the pixels as they are, with the contract of a judge."""

    name: str = struct.field(pytree_node=False, default="squares")
    resolution: int = struct.field(pytree_node=False, default=0)
    description: str = struct.field(pytree_node=False, default="sum of squares")

    def features(self, images):
        return images

    def distance(self, a, b, mask=None):
        return jnp.sum(jnp.square(a - b), (1, 2, 3))


def pairs(G, samples):
    rng = np.random.default_rng(0)
    z, t = np.zeros((samples, 2, G.z_dim)), np.zeros(samples)
    for i in range(samples):
        z[i], t[i] = rng.standard_normal((2, G.z_dim), dtype=np.float32), rng.random(dtype=np.float32)
    return z / np.linalg.norm(z, axis=-1, keepdims=True), t


@pytest.mark.parametrize("sampling", ["full", "end"])
@pytest.mark.parametrize("space", ["z", "w"])
def test_lengths_are_squared_speeds_along_the_path(tiny, space, sampling):
    """For ε towards 0, d / ε² of a squared distance is |dx/dt|². The path of z is written as in StyleGAN's code."""
    found = path_lengths(tiny, Squares(), space, sampling, samples=6, batch_size=4)
    unit, t = pairs(tiny, 6)
    a, b = unit[:, 0], unit[:, 1]
    cosine = (a * b).sum(-1, keepdims=True)
    beside = b - cosine * a
    beside /= np.linalg.norm(beside, axis=-1, keepdims=True)
    angle, at = np.arccos(cosine), t[:, None] * (sampling == "full")

    def image(s):
        if space == "z":
            return tiny.synthesis(tiny.mapping(a * jnp.cos(angle * s) + beside * jnp.sin(angle * s)))
        first, second = tiny.map_w(a), tiny.map_w(b)
        return tiny.synthesis(tiny.repeat_w(first + s * (second - first)))

    h = 4e-4  # both ways, so that the difference is of the second order
    speed = (image(at + h) - image(at - h)) / (2 * h)
    np.testing.assert_allclose(found, np.square(speed).sum((1, 2, 3)), rtol=0.02)


def test_a_crop_is_stylegans_and_no_sample_depends_on_the_batch(tiny):
    whole, part = (
        path_lengths(tiny, Squares(), "w", "full", samples=3, batch_size=4, crop=crop) for crop in (False, True)
    )
    assert (part < whole).all() and (part > 0).all()
    fewer = path_lengths(tiny, Squares(), "w", "full", samples=2, batch_size=2)
    np.testing.assert_allclose(fewer, whole[:2], rtol=1e-3)
    with pytest.raises(LsapError, match="path length of a crop needs LPIPS"):
        path_lengths(tiny, from_discriminator(tiny, scale=1.0), "w", "full", samples=1, batch_size=4, crop=True)


def test_a_hundredth_is_trimmed_at_either_end():
    lengths = np.random.default_rng(0).permutation(np.arange(1000.0))
    lengths[lengths == 999] = 1e9
    assert trimmed_mean(lengths) == np.arange(9.0, 991).mean()
    assert trimmed_mean(np.array([3.0])) == 3


def test_all_four_with_their_conventions(tiny):
    judge = from_discriminator(tiny, scale=1.0)
    found = perceptual_path_length(tiny, judge, samples=4, batch_size=4)
    assert all(found[f"{space}_{sampling}"] > 0 for space in "zw" for sampling in ("full", "end"))
    assert found["z_full"] == trimmed_mean(path_lengths(tiny, judge, "z", "full", samples=4, batch_size=4))
    assert (found["network"], found["samples"], found["crop"]) == ("discriminator", 4, "none")
    assert found["epsilon"] == EPSILON == 1e-4 and found.keys() >= CONVENTIONS.keys()


def test_what_has_no_path_length(tiny):
    with pytest.raises(LsapError, match="0 samples"):
        path_lengths(tiny, Squares(), "z", "full", samples=0)
    conditional = tiny_generator().replace(config=tiny.config.__class__(**{**vars(tiny.config), "c_dim": 3}))
    with pytest.raises(LsapError, match="conditional"):
        path_lengths(conditional, Squares(), "z", "full", samples=1)
