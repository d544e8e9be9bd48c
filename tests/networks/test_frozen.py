"""Frozen weights and Winograd's convolutions: values and gradients of the plain networks, in float64 to 1e-6."""

from dataclasses import replace
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsap_jax.configuration import load_config
from lsap_jax.inversion import loop
from lsap_jax.inversion.settings import make_problem
from lsap_jax.losses.judges import Networks
from lsap_jax.losses.terms import Targets
from lsap_jax.models.perceptual import from_discriminator, lpips
from lsap_jax.networks import winograd
from lsap_jax.networks.convolution import Kernel, conv2d, transposed_conv2d
from lsap_jax.networks.frozen import COLLECTION, Dense, variables
from lsap_jax.networks.perceptual import STACKS, Conv, tap_channels
from lsap_jax.networks.resample import upfirdn2d
from lsap_jax.spaces import parse_space
from lsap_jax.testing import tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation")
EXACT = 1e-6  # of the largest value


def values(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def assert_close(found, expected, tolerance=EXACT):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def assert_same_function(fast, plain, *inputs):
    """Values and the gradients of a curved loss, to every input."""
    assert_close(fast(*inputs), plain(*inputs))
    every = tuple(range(len(inputs)))

    def loss(f):
        return lambda *a: sum(jnp.sin(y).sum() for y in jax.tree.leaves(f(*a)))

    assert_close(jax.grad(loss(fast), every)(*inputs), jax.grad(loss(plain), every)(*inputs))


def autodiff_conv(x, w, stride=1, padding=0, up=1):
    edges = [(w.shape[0] - 1,) * 2, (w.shape[1] - 1,) * 2] if up > 1 else [(padding, padding)] * 2
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, w, (stride,) * 2, edges, lhs_dilation=(up, up), dimension_numbers=numbers)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 4, 8, 3), (3, 5, 3, 2), (1, 13, 10, 2)])
def test_winograd_is_the_convolution(x64, shape):
    x, w = jnp.asarray(values(*shape)), jnp.asarray(values(3, 3, shape[3], 4))
    assert_close(winograd.conv3x3(x, winograd.transform_weight(w)), autodiff_conv(x, w, padding=1), 1e-12)


def test_winograd_in_single_precision_stays_near():
    x, w = values(2, 16, 16, 64).astype(np.float32), values(3, 3, 64, 64).astype(np.float32)
    assert_close(winograd.conv3x3(x, winograd.transform_weight(jnp.asarray(w))), autodiff_conv(x, w, padding=1), 5e-5)


def test_winograd_does_not_see_the_batch(full_compilation):
    x, w = values(5, 16, 16, 64).astype(np.float32), values(3, 3, 64, 64).astype(np.float32)
    kernel = Kernel.of(jnp.asarray(w), 16, strided=False).winograd(64)
    step = jax.jit(lambda x: jax.grad(lambda x: jnp.sin(conv2d(x, kernel, 1, 1)).sum())(x))
    whole = np.asarray(step(x))
    for n in (1, 2, 3):
        np.testing.assert_array_equal(step(x[:n]), whole[:n])


@pytest.mark.parametrize("stride, padding, side", [(1, 0, 9), (1, 1, 9), (1, 2, 9), (2, 0, 9), (2, 1, 9), (2, 1, 8)])
def test_convolutions(x64, stride, padding, side):
    x, w = jnp.asarray(values(2, side, side, 3)), jnp.asarray(values(3, 3, 3, 4, seed=1))
    assert_same_function(
        lambda x, w: conv2d(x, w, stride, padding), lambda x, w: autodiff_conv(x, w, stride, padding), x, w
    )
    kernel = Kernel.of(w, side, strided=stride > 1)
    assert_same_function(lambda x: conv2d(x, kernel, stride, padding), lambda x: conv2d(x, w, stride, padding), x)


def test_transposed_convolutions(x64):
    x, w = jnp.asarray(values(2, 5, 5, 3)), jnp.asarray(values(3, 3, 3, 4, seed=1))
    assert_same_function(lambda x, w: transposed_conv2d(x, w, 2), lambda x, w: autodiff_conv(x, w, up=2), x, w)
    kernel = Kernel.of(w, 5, strided=True)
    assert_same_function(lambda x: transposed_conv2d(x, kernel, 2), lambda x: transposed_conv2d(x, w, 2), x)


def test_filters(x64):
    taps = np.array([1, 3, 3, 1]) / 8
    kernel = jnp.asarray(np.outer(taps, taps))[:, :, None, None] * jnp.eye(3)[None, None]
    image = jnp.asarray(values(2, 6, 6, 3))
    padding = (2, 1, 2, 1)

    def dilated(x):
        stuffed = jnp.zeros((2, 12, 12, 3)).at[:, ::2, ::2].set(x)
        return autodiff_conv(jnp.pad(stuffed, [(0, 0), (2, 1), (2, 1), (0, 0)]), kernel)

    assert_same_function(lambda x: upfirdn2d(x, taps, up=2, padding=padding), dilated, image)


@pytest.mark.parametrize(
    "architecture", ["skip", *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnet", "orig"))]
)
def test_a_frozen_generator_is_the_generator(x64, architecture):
    """In double precision kinks of leaky ReLUs move nothing: what is left is rounding."""
    G = tiny_generator(architecture=architecture)
    G = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), G)
    fast = G.freeze(winograd=4)
    kernels = [
        k for k in jax.tree.leaves(fast.params, is_leaf=lambda k: isinstance(k, Kernel)) if isinstance(k, Kernel)
    ]
    assert any(k.wide is not None for k in kernels)
    z = jnp.asarray(values(3, G.num_ws, G.z_dim))
    assert_same_function(lambda z: fast.synthesis(fast.map_rows(z)), lambda z: G.synthesis(G.map_rows(z)), z)
    plain, frozen = from_discriminator(G, 1.0), from_discriminator(G, 1.0).freeze(G.img_resolution, 4)
    images = G.synthesis(G.map_rows(z))
    assert_same_function(lambda x: frozen.features(x), lambda x: plain.features(x), images)


@pytest.mark.slow  # the convolutions are those of a frozen generator
def test_frozen_lpips_is_lpips(x64):
    rng, cin, backbone = np.random.default_rng(0), 3, {}
    for step in STACKS["vgg16"]:
        if isinstance(step, Conv):
            backbone[f"features.{step.place}.weight"] = rng.normal(0, (2 / (9 * cin)) ** 0.5, (step.width, cin, 3, 3))
            backbone[f"features.{step.place}.bias"] = rng.normal(0, 0.1, step.width)
            cin = step.width
    lin = {f"lin{k}.weight": np.full(c, 1 / c, np.float32) for k, c in enumerate(tap_channels("vgg16"))}
    plain = lpips("vgg16", backbone, lin, resolution=32)
    plain = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), plain)
    frozen = plain.freeze(32, 64)
    assert_same_function(lambda x: frozen.features(x), lambda x: plain.features(x), jnp.asarray(values(1, 32, 32, 3)))


def test_a_tree_of_frozen_and_other_weights_comes_apart():
    G = tiny_generator(discriminator=False)
    assert variables(G.params["mapping"]) == {"params": G.params["mapping"]}
    apart = variables(G.freeze().params["mapping"])
    assert apart.keys() == {"params", COLLECTION}
    assert isinstance(apart[COLLECTION]["fc0"]["weight"], Dense) and apart["params"]["fc0"].keys() == {"bias"}


def test_half_precision_stays_in_its_blocks():
    """Styles, image and gradients are float32; bfloat16 features move them by its rounding, a part of some 1e-3."""
    G = tiny_generator(discriminator=False, img_resolution=32)
    half = G.freeze(half_blocks=2)
    ws = jnp.asarray(values(3, G.num_ws, G.w_dim).astype(np.float32))
    image, features = half.features(ws)
    assert image.dtype == features["b32.img"].dtype == features["b32.conv1.styles"].dtype == jnp.float32
    precise = {name for name, feature in features.items() if feature.dtype == jnp.float32}
    assert {"b8", "b8.conv1", "b16.torgb"} <= precise and not {"b16", "b32", "b32.conv0"} & precise
    gradients = [jax.grad(lambda ws, g=g: jnp.square(g.synthesis(ws)).sum())(ws) for g in (half, G)]
    assert gradients[0].dtype == jnp.float32
    assert_close(image, G.synthesis(ws), 2e-2)
    assert_close(*gradients, 5e-2)
    assert float(jnp.abs(image - G.synthesis(ws)).max()) > 1e-4  # it did something


@pytest.mark.slow
def test_images_computed_one_by_one_do_not_see_their_batch(full_compilation):
    G = tiny_generator(img_resolution=32)
    problem = replace(make_problem(load_config("z+"), parse_space("z+")), together=1)
    perceptual = from_discriminator(G, 1.0)
    frozen = Networks(generator=G, judges={"perceptual": perceptual}).freeze(winograd=8)
    z = jnp.asarray(values(4, G.num_ws, G.z_dim).astype(np.float32))
    images = jnp.asarray(tiny_images(4, 32) / 127.5 - 1, jnp.float32)
    features = perceptual.features(images)
    chunk = jax.jit(partial(loop.chunk, problem, 8))

    def codes(n, live=None):
        targets = Targets(images=images[:n], seen={"perceptual": [f[:n] for f in features]})
        live = np.ones(n, bool) if live is None else np.array(live)
        state = loop.initial_state(problem, {"z": z[:n]})
        return chunk(frozen, state, targets, jnp.int32(8), live)[0].codes["z"]

    every = codes(4)
    for n in (1, 2, 3):
        np.testing.assert_array_equal(codes(n), every[:n])
    np.testing.assert_array_equal(codes(4, [False, True, False, True])[1::2], every[1::2])


@pytest.fixture(scope="module")
def two_steps(quick_compilation):
    """two_steps(**options of the problem) -> what two steps of four images make."""
    G = tiny_generator()
    problem = make_problem(load_config("z+"), parse_space("z+"))
    perceptual, z = from_discriminator(G, 1.0), jnp.asarray(values(4, G.num_ws, G.z_dim).astype(np.float32))
    images = jnp.asarray(tiny_images(4) / 127.5 - 1, jnp.float32)
    targets = Targets(images=images, seen={"perceptual": perceptual.features(images)})
    state = loop.initial_state(problem, {"z": z})
    networks = Networks(generator=G, judges={"perceptual": perceptual})

    @lru_cache
    def run(**options):
        chunk = jax.jit(partial(loop.chunk, replace(problem, **options), 2))
        return chunk(networks, state, targets, jnp.int32(5), np.ones(4, bool))

    return run


@pytest.mark.parametrize("options", [{"remat": True}, {"together": 1}, {"together": 2}])
def test_other_ways_to_the_same_step(two_steps, options):
    assert_close(two_steps(**options), two_steps(), 1e-5)
