"""LPIPS against the original's values and gradients, its files, masks, and the discriminator's stand-in."""

import hashlib
import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity import assert_parity

from convert_weights import Checkpoint, ConversionError, Part
from convert_weights import convert as conversion
from convert_weights import perceptual as perceptual_files
from convert_weights.checkpoint import together
from convert_weights.perceptual import lpips as joined
from convert_weights.tensors import from_numpy
from lsap_jax.errors import LsapError
from lsap_jax.models.discriminator import Discriminator, discriminator_shapes
from lsap_jax.models.generator import Generator
from lsap_jax.models.generator_file import load_generator
from lsap_jax.models.network_file import from_checkpoint, load
from lsap_jax.models.perceptual import (
    INDEPENDENT_LEVEL,
    bundled_scale,
    discriminator_scale,
    from_discriminator,
    lpips,
    unit_normalise,
)
from lsap_jax.networks import stylegan2
from lsap_jax.networks.convolution import conv2d
from lsap_jax.networks.families import generator_shapes
from lsap_jax.networks.perceptual import STACKS, max_pool, tap_channels
from lsap_jax.networks.stylegan2 import discriminator

pytestmark = pytest.mark.usefixtures("quick_compilation")

NAMES = {"lpips_vgg": "vgg16", "lpips_alex": "alexnet", "lpips_squeeze": "squeezenet1_1"}


def _seeded(table, seed, gain):
    """The reference's weights, drawn again: tensor i from RandomState(seed + i)."""
    arrays = {}
    for i, (name, shape, kind) in enumerate(table):
        draw = np.random.RandomState(seed + i).randn(*shape)
        arrays[name] = np.float32(draw * 0.1 if kind == "b" else draw * (gain / np.sqrt(np.prod(shape[1:]))))
    return arrays


@pytest.fixture(
    scope="module", params=["lpips_vgg", "lpips_alex", pytest.param("lpips_squeeze", marks=pytest.mark.slow)]
)
def case(request, golden):
    """(Perceptual, reference arrays, images 0 and 1) of one network; drawn once."""
    data, lin = golden(request.param), golden("lpips_lin_v0_1")
    meta = json.loads(bytes(data["meta_json"]))
    short = request.param.removeprefix("lpips_")
    lins = {
        f"lin{k}.weight": lin[f"{short}/lin{k}.model.1.weight"].ravel() for k in range(7 if short == "squeeze" else 5)
    }
    perceptual = lpips(NAMES[request.param], _seeded(meta["tensors"], meta["seed"], meta["gain"]), lins)
    assert perceptual.name == request.param
    return perceptual, data, *(jnp.asarray(data[n].transpose(0, 2, 3, 1)) for n in ("in0", "in1"))


@pytest.mark.usefixtures("full_compilation")
def test_lpips_equals_the_original(case):
    perceptual, data, in0, in1 = case

    @jax.jit
    def run(p, a, b):
        fa, fb = p.features(a), p.features(b)
        gradient = jax.grad(lambda v: p.distance(p.features(v), fb).sum())(a)
        return p.distance(fa, fb), p.tap_distances(fa, fb), p._maps(a), gradient

    value, taps, maps, gradient = run(perceptual, in0, in1)
    name = perceptual.name
    assert_parity(name, "value", value, data["value"].ravel())
    assert_parity(
        name, "normalize", value, data["value_normalize01"].ravel()
    )  # that option only maps [0, 1] to [-1, 1] beforehand
    for k, (tap, features) in enumerate(zip(taps, maps, strict=True)):
        assert_parity(name, f"layer{k}", tap, data[f"layer{k}"].ravel())
        n, c, h, w = data[f"feat{k}_shape"] if data[f"feat{k}_shape"].size == 4 else (None, None, None, None)
        assert features.shape == (n, h, w, c)
        assert_parity(f"{name} features", f"tap {k}", features.mean(axis=(1, 2)), data[f"feat{k}_mean"])
    assert_parity(f"{name} features", "last", maps[-1], data["feat_last_in0"].transpose(0, 2, 3, 1))
    assert_parity(f"{name} gradient", "image", gradient, data["grad_sum_in0"].transpose(0, 2, 3, 1))


@pytest.fixture(scope="module")
def alex():
    """LPIPS-Alex with random weights; the smallest of the three to run."""
    return lpips("alexnet", *_random_weights("alexnet"))


@jax.jit
def _gradient(perceptual, a, b, cotangent, mask=None):
    """d (cotangent · distance) / d a."""
    return jax.grad(lambda v: (perceptual(v, b, mask) * cotangent).sum())(a)


def _random_weights(name):
    r = np.random.RandomState(5)
    shapes = jax.eval_shape(lambda: _init(name))
    arrays = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
        key = ".".join(p.key for p in path)
        shape = leaf.shape if len(leaf.shape) == 1 else tuple(leaf.shape[i] for i in (3, 2, 0, 1))
        arrays[key] = np.float32(r.randn(*shape) * (0.1 if len(shape) == 1 else np.sqrt(2 / np.prod(shape[1:]))))
    lins = {f"lin{k}.weight": r.uniform(0, 1, c).astype(np.float32) for k, c in enumerate(tap_channels(name))}
    return arrays, lins


def _init(name):
    from lsap_jax.networks.perceptual import PerceptualNetwork

    return PerceptualNetwork(name).init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))["params"]


def _images(n, resolution=64, channels=3, seed=0):
    draw = np.random.RandomState(seed).uniform(-1, 1, (n, resolution, resolution, channels))
    return jnp.asarray(draw, jnp.float32)


def test_batch_mates_do_not_matter(alex):
    a, b = _images(3), _images(3, seed=1)
    together = alex(a, b)
    np.testing.assert_allclose(together[1:2], alex(a[1:2], b[1:2]), rtol=1e-5)
    np.testing.assert_allclose(alex(b, a), together, rtol=1e-5)
    gradient = _gradient(alex, a, b, jnp.asarray([0.0, 1.0, 0.0]))
    assert not gradient[0].any() and not gradient[2].any() and gradient[1].any()


def test_identical_images_are_at_distance_zero_with_zero_gradient(alex):
    a = _images(2)
    features = alex.features(a)
    np.testing.assert_array_equal(alex.distance(features, features), 0.0)
    elsewhere = _gradient(alex, a, _images(2, seed=1), jnp.ones(2))
    assert np.abs(_gradient(alex, a, a, jnp.ones(2))).max() < 1e-5 * np.abs(elsewhere).max()


def test_dead_pixels_have_finite_gradients():
    """A pixel whose channels are all 0 (common after ReLU) gives NaN in a naive normalisation."""
    x = jnp.asarray(np.random.RandomState(0).randn(1, 3, 3, 4), jnp.float32).at[0, 1, 1].set(0.0)
    value = unit_normalise(x)
    np.testing.assert_allclose(jnp.square(value).sum(axis=-1)[0, 0, 0], 1, rtol=1e-6)
    gradient = jax.grad(lambda v: (unit_normalise(v) * jnp.arange(4.0)[None, None, None]).sum())(x)
    assert np.isfinite(gradient).all() and not gradient[0, 1, 1].any() and gradient[0, 0, 0].any()


def test_flat_images_have_finite_gradients(alex):
    arrays, lins = _random_weights("alexnet")
    dark = lpips("alexnet", {k: -np.abs(v) for k, v in arrays.items()}, lins)
    a, b = jnp.ones((1, 64, 64, 3)), _images(1)
    assert not any(m.any() for m in dark.features(a))
    for perceptual in (dark, alex):
        assert np.isfinite(_gradient(perceptual, a, b, jnp.ones(1))).all()


def test_masks_weight_the_distance(alex):
    a, b = _images(2), _images(2, seed=1)
    fa, fb = alex.features(a), alex.features(b)
    plain = alex.distance(fa, fb)
    np.testing.assert_allclose(alex.distance(fa, fb, jnp.ones((2, 64, 64))), plain, rtol=1e-5)
    np.testing.assert_allclose(alex.distance(fa, fb, jnp.full((2, 64, 64), 0.3)), plain, rtol=1e-5)
    left = jnp.zeros((2, 64, 64)).at[:, :, :32].set(1.0)
    shares = [float(left[0].mean()), 1 - float(left[0].mean())]
    halves = shares[0] * alex.distance(fa, fb, left) + shares[1] * alex.distance(fa, fb, 1 - left)
    np.testing.assert_allclose(halves, plain, rtol=1e-5)  # the mean of the parts is the whole
    assert np.abs(alex.distance(fa, fb, left) / plain - 1).max() > 1e-3
    empty = left.at[0].set(0.0)
    value = alex.distance(fa, fb, empty)
    assert value[0] == 0 and value[1] > 0
    gradient = _gradient(alex, a, b, jnp.ones(2), empty)
    assert np.isfinite(gradient).all() and not gradient[0].any()


def test_a_mask_hides_a_change_far_outside(alex):
    a = _images(1, 96)
    b = a.at[:, 64:, 64:].multiply(-1.0)
    mask = jnp.zeros((1, 96, 96)).at[:, :16, :16].set(1.0)
    first = [f[..., :1] for f in alex.features(a)[:1]], [f[..., :1] for f in alex.features(b)[:1]]
    assert alex.distance(*first)[0] > 0 and alex.distance(*first, mask)[0] == 0


def test_larger_images_are_reduced_grey_ones_repeated_small_ones_refused(alex):
    from lsap_jax.networks.pixel_maps import bicubic

    small = alex.replace(resolution=64)
    image = _images(1, 128)
    for found, expected in zip(small.features(image), small.features(bicubic(image, (64, 64))), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert alex.features(image)[0].shape == (1, 31, 31, 64)
    grey = _images(1, channels=1)
    np.testing.assert_allclose(alex.features(grey)[0], alex.features(jnp.repeat(grey, 3, axis=-1))[0], rtol=1e-6)
    with pytest.raises(LsapError, match="too small"):
        alex.features(_images(1, 8))


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize(("size", "window"), [(3, 3), (4, 2), (7, 2), (7, 3), (8, 3)])
def test_max_pool_is_the_maximum_of_each_window(size, window, ceil):
    x = np.random.RandomState(size).randn(1, size, size, 1).astype(np.float32)
    count = (size - window + (1 if ceil else 0)) // 2 + 1  # (n - w) / 2 rounded up or down
    windows = [[x[0, 2 * i : 2 * i + window, 2 * j : 2 * j + window, 0] for j in range(count)] for i in range(count)]
    expected = [[w.max() for w in row] for row in windows]
    np.testing.assert_array_equal(max_pool(jnp.asarray(x), window, ceil)[0, :, :, 0], expected)


def test_missing_unknown_and_misshapen_weights_are_named():
    arrays, lins = _random_weights("alexnet")
    for change, message in [
        ({"features.0.bias": None}, r"- features\.0\.bias"),
        ({"features.1.weight": np.zeros(3)}, r"\+ features\.1\.weight"),
        ({"features.3.weight": arrays["features.3.weight"][:, :1]}, r"! features\.3\.weight"),
    ]:
        broken = {k: v for k, v in {**arrays, **change}.items() if v is not None}
        with pytest.raises(LsapError, match=message):
            lpips("alexnet", broken, lins)
    with pytest.raises(LsapError, match=r"do not fit LPIPS with vgg16: ! lin\d.weight"):
        lpips("vgg16", _random_weights("vgg16")[0], lins)
    with pytest.raises(LsapError, match="lin2.weight has negative"):
        lpips("alexnet", arrays, {**lins, "lin2.weight": -lins["lin2.weight"]})
    with pytest.raises(LsapError, match=f"choose one of {', '.join(STACKS)}"):
        lpips("vgg19", arrays, lins)


def _checkpoints():
    arrays, lins = _random_weights("squeezenet1_1")
    shared = {"format": "test", "licence": "BSD", "sha256": "0" * 64}

    def half(kind, own):
        return Checkpoint(parts=together(Part(kind=kind, config={"name": "squeezenet1_1"}, arrays=own)), **shared)

    return half("backbone", arrays), half("lpips_lin", lins)


def test_one_file_holds_lpips(tmp_path):
    path = tmp_path / "lpips.safetensors"
    backbone, lin = _checkpoints()
    both = conversion.completed(backbone, lin)
    conversion.save(path, both, "squeeze.pth")
    direct, loaded = from_checkpoint(both).build("lpips"), load(path, "lpips")
    assert loaded.name == "lpips_squeeze" and "squeezenet1_1" in loaded.description
    jax.tree.map(np.testing.assert_array_equal, direct, loaded)
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(LsapError, match="SHA-256"):
        load(path, "lpips")
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(LsapError, match="damaged or truncated"):
        load(path, "lpips")


def test_linear_layers_of_the_version_before_are_refused(monkeypatch):
    lins = {
        f"lin{k}.model.1.weight": np.full((1, c, 1, 1), 0.5, np.float32) for k, c in enumerate(tap_channels("alexnet"))
    }
    tensors = {name: from_numpy(array) for name, array in lins.items()}
    found = perceptual_files.linear(tensors)
    assert found.notes == ("these are not the published weights of v0.1",)
    own = b"".join(array.tobytes() for array in lins.values())
    for version in ("v0.1", "v0.0"):
        monkeypatch.setattr(perceptual_files, "PUBLISHED", {hashlib.sha256(own).hexdigest()[:16]: version})
        if version == "v0.1":
            assert not perceptual_files.linear(tensors).notes
            continue
        with pytest.raises(ConversionError, match="layers of LPIPS v0.0.*of the same name in weights/v0.1"):
            perceptual_files.linear(tensors)


def test_pairs_that_do_not_belong_together_are_refused():
    backbone, lin = _checkpoints()
    with pytest.raises(ConversionError, match="expected 'backbone' weights, got 'lpips_lin'"):
        joined(lin, backbone)
    other = replace(lin.parts["lpips_lin"], config={"name": "alexnet"})
    with pytest.raises(ConversionError, match="squeezenet1_1, the lin weights are for alexnet"):
        joined(backbone, replace(lin, parts=together(other)))
    with pytest.raises(ConversionError, match="is half of LPIPS; give the backbone"):
        conversion.completed(lin)


def _filled(shapes):
    """Random params without noise and with faint colours, so that images differ by their codes and do not saturate."""
    r = np.random.RandomState(6)

    def draw(path, leaf):
        gain = 0.0 if path[-1].key == "noise_strength" else 0.1 if any(p.key == "torgb" for p in path) else 1.0
        return jnp.asarray(gain * r.randn(*leaf.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


@pytest.fixture(scope="module")
def tiny() -> Generator:
    """A random 16-px generator with its discriminator; conditional, so that both roads of sampling run."""
    g = stylegan2.GeneratorConfig(
        z_dim=8, w_dim=8, c_dim=3, embed_features=8, img_resolution=16, channels=(8, 8, 8), mapping_lr_multiplier=1.0
    )
    d = discriminator.DiscriminatorConfig(img_resolution=16, channels=(8, 8, 8), c_dim=3, cmap_dim=8)
    return Generator(
        config=g,
        params=_filled(generator_shapes(g)),
        parts={"discriminator": Discriminator(config=d, params=_filled(discriminator_shapes(d)))},
    )


def test_independent_samples_are_at_the_stated_level_for_the_discriminator(tiny):
    perceptual = from_discriminator(tiny)
    assert discriminator_scale(tiny) == discriminator_scale(tiny) != discriminator_scale(tiny, seed=1)
    z = jax.random.normal(jax.random.key(7), (128, 8))
    c = jax.nn.one_hot(jnp.arange(128) % 3, 3)
    images = jax.jit(lambda g, z, c: jnp.clip(g.synthesis(g.mapping(z, c)), -1, 1))(tiny, z, c)
    values = perceptual(images[:64], images[64:])
    assert float((jnp.abs(images) < 1).mean()) > 0.5
    assert abs(float(values.mean()) / INDEPENDENT_LEVEL - 1) < 0.3
    np.testing.assert_allclose(perceptual(images[3:4], images[67:68])[0], values[3], rtol=1e-4)


def test_the_bundled_scale_is_what_would_be_measured(tiny):
    G = load_generator("toonhead64")
    bundled = bundled_scale(G)
    assert bundled is not None and abs(bundled / discriminator_scale(G) - 1) < 1e-4
    assert (
        bundled_scale(G.with_part("discriminator", G.discriminator.replace(params=_filled(G.discriminator.params))))
        is None
    )
    assert bundled_scale(tiny) is None


def test_the_discriminator_distance_is_the_documented_formula(tiny):
    perceptual = from_discriminator(tiny, scale=2.5)
    a, b = _images(2, 16), _images(2, 16, seed=1)
    expected = 0.0
    maps = jax.jit(lambda d, x: d.features(x))
    for x, y in zip(maps(tiny.discriminator, a), maps(tiny.discriminator, b), strict=True):
        x, y = (np.asarray(v) / np.linalg.norm(v, axis=-1, keepdims=True) for v in (x, y))
        expected += 2.5 * ((x - y) ** 2).sum(axis=-1).mean(axis=(1, 2)) / 2
    np.testing.assert_allclose(perceptual(a, b), expected, rtol=1e-5)
    assert perceptual.name == "discriminator" and "16 px" in perceptual.description
    with pytest.raises(LsapError, match="images of 16 x 16 px, got 32 x 32"):
        perceptual.features(_images(1, 32))
    same = tiny.replace(params=jax.tree.map(jnp.zeros_like, tiny.params))  # every sample is the same grey
    with pytest.raises(LsapError, match="apart for this generator's discriminator"):
        from_discriminator(same)
    with pytest.raises(LsapError, match="without its discriminator"):
        from_discriminator(tiny.without("discriminator"))


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "size"), [(3, 1, 1, 7), (1, 1, 0, 5), (11, 4, 2, 23), (3, 2, 0, 8)]
)
def test_the_fast_gradient_is_the_gradient(kernel, stride, padding, size):
    r = np.random.RandomState(7)
    x, w = (jnp.asarray(r.randn(*s), jnp.float32) for s in ((2, size, size, 3), (kernel, kernel, 3, 4)))

    def plain(x, w):
        edges = [(padding, padding)] * 2
        return jax.lax.conv_general_dilated(x, w, (stride,) * 2, edges, dimension_numbers=("NHWC", "HWIO", "NHWC"))

    expected, pull = jax.vjp(plain, x, w)
    found, fast_pull = jax.vjp(lambda x, w: conv2d(x, w, stride, padding), x, w)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    for a, b in zip(fast_pull(jnp.sin(found)), pull(jnp.sin(found)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
