"""Every convolution and product that accelerators would compute is in the precision that was chosen for it.

Programs are lowered for accelerators as they would be there, which needs no such device.
"""

import ast
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lsap_jax
from lsap_jax.configuration import load_config
from lsap_jax.editing import between, ganspace, interfacegan, moves
from lsap_jax.errors import LsapError
from lsap_jax.faces.atlas import Search, atlas, level_sizes, pyramid
from lsap_jax.faces.cascade import cascade
from lsap_jax.inversion import inverter as batching
from lsap_jax.inversion import start
from lsap_jax.inversion.inverter import Inverter
from lsap_jax.inversion.jobs import Job, in_slots
from lsap_jax.losses.judges import Networks
from lsap_jax.metrics import fid, kid
from lsap_jax.models import attributes, embedder, perceptual
from lsap_jax.models.generator import Generator
from lsap_jax.models.latent_encoder import LatentEncoder
from lsap_jax.models.registry import KINDS
from lsap_jax.networks import idinvert
from lsap_jax.networks.arithmetic import convolutions_in
from lsap_jax.networks.idinvert import IdinvertNetwork
from lsap_jax.networks.latent_encoder import LatentEncoderConfig
from lsap_jax.networks.perceptual import PerceptualConfig
from lsap_jax.networks.psp import PspConfig, PspEncoder, param_shapes
from lsap_jax.rendering import devices as device_axis
from lsap_jax.rendering import render
from lsap_jax.rendering.refinement import LowRank, Refinement
from lsap_jax.rendering.transforms import ScaleShift
from lsap_jax.runs import evaluation, refining
from lsap_jax.spaces import mapping_inverse, parse_space, statistics
from lsap_jax.testing import ColourRefiner, random_leaves, tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation")

PACKAGE = Path(lsap_jax.__file__).parent
PLATFORMS = ("cuda", "tpu")
FULL = {"HIGHEST"}


def precisions(function, *inputs) -> dict[str, set[str]]:
    """Precisions of the convolutions and of the products in what a function is lowered to, the same on all platforms.
    Inputs may be shapes.
    """
    traced = (function if hasattr(function, "trace") else jax.jit(lambda *a: function(*a))).trace(*inputs)
    found = []
    for platform in PLATFORMS:
        lines = traced.lower(lowering_platforms=(platform,)).as_text().splitlines()
        found.append({name: set() for name in ("convolution", "dot_general")})
        for line in lines:
            if operation := re.search(r'stablehlo\.(convolution|dot_general|dot)\b"?', line):
                stated = re.findall(r"(?:precision_config|precision) = \[([^\]]*)\]", line)
                found[-1][operation[1]] |= set(re.findall(r"[A-Z]{4,}", stated[0])) if stated else {"NOT STATED"}
    assert all(one == found[0] for one in found)
    return found[0]


def assert_full(function, *inputs, convolutions: bool = True) -> None:
    """All is in full float32, and there is something."""
    found = precisions(function, *inputs)
    assert found["convolution"] == (FULL if convolutions else set())
    assert found["dot_general"] <= FULL and any(found.values())


@pytest.fixture(autouse=True)
def as_on_accelerators(monkeypatch) -> Iterator[None]:
    """Whole batches, as accelerators compute them."""
    monkeypatch.setattr(render, "images_at_once", lambda devices: 0)
    monkeypatch.setattr(device_axis, "on_processors", device_axis.on_accelerators)
    for made in (render._compiled, batching.compiled):
        made.cache_clear()
    yield
    for made in (render._compiled, batching.compiled):
        made.cache_clear()


def of(kind: str, config=None):
    """Shapes of the params of a network."""
    return KINDS[kind].shapes(config)


def shape(*size: int, dtype=jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(size, dtype)


@pytest.fixture(scope="module")
def G(tiny) -> Generator:
    """With every part that a start or a term reads."""
    config = LatentEncoderConfig(num_ws=tiny.num_ws, w_dim=tiny.w_dim, widths=(4, 6, 6))
    params = random_leaves(of("encoder", config), np.random.default_rng(0))
    return tiny.with_part("encoder", LatentEncoder(config=config, params=params))


def inverter(G: Generator, preset: str, **options) -> Inverter:
    config = load_config(preset, {"steps": 3, "batch_size": 2, "compute.together": 0, **options})
    return Inverter(G, config)


def programs(made: Inverter) -> dict[str, tuple]:
    """Name -> (program, its inputs), of an inversion over two devices."""
    jobs = [Job(id=str(i), image=image) for i, image in enumerate(tiny_images(2))]
    filled, live = in_slots(jobs, made.batch_size)
    inputs, live = render.shard((made.layout.arrays(filled), live), len(made.devices))
    seed, steps = made._each(0), made._each(3)
    begin = (made._networks, inputs, seed, live)
    state, targets = jax.eval_shape(made._programs.prepare, *begin)
    return {
        "prepare": (made._programs.prepare, *begin),
        "chunk": (made._programs.chunk, made._frozen, state, targets, steps, live),
        "finish": (made._programs.finish, made._networks, state, targets, steps, live),
    }


INVERSIONS = {
    "f/z+": {},
    "pn+": {"loss.pn": 0.1},
    "idinvert": {},
    "steps in W before": {"preset": "z+", "init.w_steps": 2},
    "encode": {"steps": 0},
}


QUICK = ("f/z+", "idinvert")  # every network is in one of them


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in INVERSIONS]
)
def test_an_inversion_is_computed_in_full_float32(G, name):
    options = {"preset": name, "compute.precision": "highest", **INVERSIONS[name]}
    for program, *inputs in programs(inverter(G, **options)).values():
        found = precisions(program, *inputs)
        assert found["convolution"] <= FULL and found["dot_general"] <= FULL and any(found.values())


def test_what_is_less_exact_by_default_is_the_steps_alone(G):
    made = inverter(G, "f/z+")
    found = {name: precisions(program, *inputs) for name, (program, *inputs) in programs(made).items()}
    assert found["chunk"] == {"convolution": {"HIGH"}, "dot_general": FULL}
    assert found["prepare"]["convolution"] == found["finish"]["convolution"] == FULL


def test_an_encoding_has_no_steps_to_compute_less_exactly(G):
    lower = inverter(G, "encode", **{"steps": 0, "compute.precision": "default"})
    assert lower.problem == inverter(G, "encode", steps=0).problem


def test_an_unknown_precision_is_refused(G):
    with pytest.raises(LsapError, match=r"compute\.precision='float16': choose one of highest, high, default"):
        inverter(G, "f/z+", **{"compute.precision": "float16"})


def test_what_was_traced_in_one_precision_is_not_used_in_another(G):
    """Functions inside are traced once and kept, but for each precision."""
    ws = shape(2, G.num_ws, G.w_dim)

    def image(G, ws):
        return jax.jit(lambda G, ws: G.synthesis(ws))(G, ws)

    assert precisions(image, G, ws)["convolution"] == FULL
    with convolutions_in("default"):
        assert precisions(image, G, ws) == {"convolution": {"DEFAULT"}, "dot_general": FULL}
    assert precisions(image, G, ws)["convolution"] == FULL


def test_what_a_user_compiles_is_full_whatever_the_default_is(G):
    z, ws = shape(2, G.z_dim), shape(2, G.num_ws, G.w_dim)
    with jax.default_matmul_precision("bfloat16"):
        assert_full(jax.jit(lambda G, z: G.mapping(z)), G, z, convolutions=False)
        assert_full(jax.jit(lambda G, ws: G.synthesis(ws)), G, ws)
        weights = jax.grad(lambda G, ws: jnp.square(G.synthesis(ws)).sum(), argnums=(0, 1), allow_int=True)
        assert_full(jax.jit(weights), G.bare(), ws)
    for kind in ({"architecture": "resnet"}, {"architecture": "orig"}, {"family": "stylegan1"}):
        other = tiny_generator(**kind, discriminator=False)
        assert_full(jax.jit(lambda G, ws: G.synthesis(ws)), other, ws)


@pytest.mark.parametrize("refined", [False, True])
@pytest.mark.parametrize("devices", [1, 2])
def test_rendering_is_in_full_float32(G, devices, refined):
    space, bare = parse_space("f/z+"), G.bare("statistics")
    compiled = render._compiled(render._clipped, space, tuple(jax.local_devices()[:devices]))
    r, c = G.config.resolutions[1], G.config.channels[1]
    codes = {"z": np.zeros((2, G.num_ws, G.z_dim), np.float32), "f": np.zeros((2, 4, 4, 8), np.float32)}
    own = None
    if refined:
        own = Refinement(
            weights={"synthesis.b16.conv0.weight": LowRank(up=np.zeros((2, 72, 2)), down=np.zeros((2, 2, 8)))},
            transforms={"b8.conv1": ScaleShift(scale=np.ones((2, r, r, c)), shift=np.zeros((2, r, r, c)))},
        )
        own = jax.tree.map(np.float32, own)
    inputs, live = (codes, own), np.ones(2, bool)
    if devices > 1:
        bare, inputs, live = render.replicate(bare, jax.local_devices()[:2]), *render.shard((inputs, live), 2)
    assert_full(compiled, bare, inputs, live)


def test_evaluation_is_in_full_float32(G):
    space, judge = parse_space("w+"), perceptual.from_discriminator(G, scale=1.0)
    codes, targets = {"w": shape(2, G.num_ws, G.w_dim)}, shape(2, 16, 16, 3)
    measure = partial(evaluation._measure, (G.bare("statistics"), (judge,)), space)
    assert_full(lambda codes, targets: measure(codes, None, targets), codes, targets)


def test_refinement_is_in_full_float32(G):
    networks = Networks(generator=G.bare("statistics"), judges={"perceptual": perceptual.from_discriminator(G, 1.0)})
    inputs = {
        "images": shape(2, 16, 16, 3),
        "seen_by": {},
        "words": shape(2, 2, dtype=jnp.uint32),
        "start": {"w": shape(2, G.num_ws, G.w_dim)},
    }
    program = partial(refining.refined, parse_space("w+"), 0)
    assert_full(jax.jit(program), networks, ColourRefiner(), inputs, np.int32(0), np.ones(2, bool))


@pytest.mark.parametrize("name", ["vgg16", "alexnet", "squeezenet1_1"])
def test_perceptual_networks_are_full(name):
    tree = of("lpips", PerceptualConfig(name=name))
    network = {key: value for key, value in tree.items() if not key.startswith("lin")}
    taps = tuple(shape(1, 1, 1, tree[f"lin{k}"]["weight"].shape[0]) for k in range(len(tree) - 1))
    judge = perceptual.Perceptual(network=network, weights=taps, name=name, resolution=64, backbone=name)
    assert_full(perceptual.Perceptual.features, judge, shape(1, 96, 96, 3))


def test_the_face_detector_is_full():
    search = Search(20.0, (0.6, 0.7, 0.7), 0.709)
    sizes = np.array([[256, 256]], np.int32)
    levels = level_sizes(sizes, len(pyramid(256, 256, search)), search)
    image = shape(1, 256, 256, 3, dtype=jnp.uint8)
    assert_full(cascade, of("mtcnn"), atlas(256, 256, search), image, sizes, levels, search)


NETWORKS = {
    "inception": lambda: (fid.inception_features_of, of("inception"), shape(1, 32, 32, 3, dtype=jnp.uint8)),
    "random convolutions": lambda: (
        kid._features,
        shape(1, 32, 32, 3),
        [tuple(map(jnp.asarray, layer)) for layer in kid._random_weights(3, 0)],
    ),
    **{
        name: lambda name=name, side=side: (
            embedder._of_levels,
            embedder.embedder_of(name, {}, {}, {"sha256": ""}).replace(params=of(name)),
            shape(1, side, side, 3, dtype=jnp.uint8),
        )
        for name, side in ((embedder.FACENET, 160), (embedder.ARCFACE, 256), (embedder.DLIB, 150), (embedder.MOCO, 256))
    },
    "attributes": lambda: (
        attributes._logits,
        config := attributes.AttributesConfig(labels=(("a", ("b", "c")),), resolution=8, widths=(4, 6)),
        of("attributes", config),
        shape(1, 8, 8, 3, dtype=jnp.uint8),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_that_measure_are_full(name):
    assert_full(*NETWORKS[name]())


def test_what_reads_latents_is_full(G):
    """Statistics, directions, starts from other tools' codes, and the search for z."""
    key, z, w = jax.random.key(0), shape(2, G.z_dim), shape(2, G.w_dim)
    space, rows = parse_space("w+"), shape(2, G.num_ws, G.w_dim)
    for program, *inputs in (
        (statistics._sample_w, G.bare(), key, 0),
        (statistics._unit_style_sums, G.bare(), w),
        (ganspace._sample, G.bare(), key),
        (start._convert, G, parse_space("z+"), space, shape(2, G.num_ws, G.z_dim), None, None),
        (start._convert, G, space, parse_space("pn+"), rows, None, None),
        (mapping_inverse.fit_z, G.bare(), w, 2),
        (interfacegan._codes, G.bare(), "w+", z, 0.7),
    ):
        assert_full(program, *inputs, convolutions=False)
    assert_full(interfacegan._images, G.bare(), z, 0.7)
    for program, *inputs in (
        (moves._move, space, "step", rows, shape(G.w_dim), shape(G.num_ws, 1, dtype=bool), shape(2)),
        (between._between, space, {"w": rows}, {"w": rows}, shape()),
    ):
        assert not any(precisions(program, *inputs).values()), "nothing but sums"


def test_companion_networks_are_full(G):
    assert_full(jax.jit(lambda E, x: E(x)), G.basecode, shape(2, 32, 32, 3))
    assert_full(jax.jit(lambda E, x: E(x)), G.encoder, shape(2, 16, 16, 3))
    config = PspConfig(units=((16, 1), (16, 2), (16, 2)), taps=(0, 1, 2), input_resolution=16, num_ws=6, w_dim=16)
    assert_full(
        lambda params, x: PspEncoder(config).apply({"params": params}, x), param_shapes(config), shape(2, 16, 16, 3)
    )
    released = LatentEncoderConfig(num_ws=6, w_dim=16, widths=(8, 16, 16))
    network = IdinvertNetwork(released)
    assert_full(
        lambda params, x: network.apply({"params": params}, x), idinvert.param_shapes(released), shape(2, 16, 16, 3)
    )
    assert_full(type(G.discriminator).apply, G.discriminator, shape(4, 16, 16, 3))


PRODUCTS = {"conv", "conv_general_dilated", "conv_transpose", "convolve", "dot", "dot_general", "einsum", "inner"}
PRODUCTS |= {"matmul", "tensordot", "vdot", "Conv", "ConvTranspose", "Dense", "DenseGeneral", "Einsum"}
OF_JAX = ("jnp", "jax.numpy", "lax", "jax.lax", "nn")
OF_NUMPY = ("editing", "experiments", "faces", "metrics", "report")  # packages in which `@` is


def test_no_product_is_left_to_the_default():
    """What is added later, too: a call names its precision, and `@` is for numpy's arrays."""
    silent = []
    for path in PACKAGE.rglob("*.py"):
        numpy = path.relative_to(PACKAGE).parts[0] in OF_NUMPY or path.name in ("statistics.py", "model_card.py")
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(value=module, attr=name)) if name in PRODUCTS:
                    stated = any(word.arg == "precision" for word in node.keywords)
                    silent += [] if stated or ast.unparse(module) not in OF_JAX else [(path.name, ast.unparse(node))]
                case ast.BinOp(op=ast.MatMult()) | ast.AugAssign(op=ast.MatMult()):
                    silent += [] if numpy else [(path.name, ast.unparse(node))]
    assert not silent
