"""StyleRes against the original code, and on any generator: batches, devices, edits, strength 0, commands."""

import importlib.util
import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity import assert_parity, nhwc
from PIL import Image

import lsap_jax
from lsap_jax.cli import main
from lsap_jax.errors import LsapError
from lsap_jax.models.generator import Generator
from lsap_jax.models.network_file import attach, save
from lsap_jax.models.psp import PspEncoder
from lsap_jax.models.styleres import StyleRes
from lsap_jax.networks import psp
from lsap_jax.networks.families import generator_shapes
from lsap_jax.networks.parameters import halved, merge
from lsap_jax.networks.psp import PspConfig
from lsap_jax.networks.stylegan2 import GeneratorConfig
from lsap_jax.networks.styleres import StyleResConfig, param_shapes
from lsap_jax.rendering.refinement import Refinement, take
from lsap_jax.rendering.render import synthesise
from lsap_jax.rendering.transforms import GatedAddition, ScaleShift
from lsap_jax.spaces import parse_space
from lsap_jax.spaces.decoded import Decoded
from lsap_jax.testing import tiny_generator, tiny_images
from lsap_jax.training.initial import initial_params

pytestmark = pytest.mark.usefixtures("quick_compilation")
COUNT = 8
SMALL = StyleResConfig(resolution=8, channels=8, encoder_channels=16, tap=0, width=6)
ENCODER = PspConfig(
    num_ws=6, w_dim=16, units=((16, 2), (24, 2), (16, 2)), taps=(0, 1, 2), head_convs=(1, 2, 3), input_resolution=16
)


@pytest.fixture(scope="module")
def recipe(shared_file):
    spec = importlib.util.spec_from_file_location("seeded_weights_enc", shared_file("golden/seeded_weights_enc.py"))
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("name", "resolution"), [("styleres_fusion_g16", 16), ("styleres_fusion_g64", 64)])
def test_the_fusion_of_the_original(seeded, recipe, name, resolution):
    """The original block by the generator of the reference: F of the unedited codes, images of both and of styles."""
    file, weights = seeded(name)
    meta = json.loads(bytes(file["meta_json"]))
    named = weights("generator_smooth")
    place = f"synthesis.b{resolution}.modify_feature_"
    own = {n.removeprefix(place): a for n, a in named.items() if n.startswith(place) and "dconv3" not in n}
    rest = {n: a for n, a in named.items() if not n.startswith(place) and "resample_filter" not in n}
    layers = sum(n.endswith("weight") and n.startswith("mapping.fc") for n in rest)
    config = GeneratorConfig(
        img_resolution=resolution, channels=(512,) * (resolution.bit_length() - 2), mapping_layers=layers,
        conv_clamp=256.0,
    )  # fmt: skip
    shape = StyleResConfig(resolution=resolution)
    networks = StyleRes(config=shape, params=merge(param_shapes(shape), own, "golden"))
    G = Generator(config=config, params=merge(generator_shapes(config), rest, "golden"), parts={"styleres": networks})
    drawn, kind, gain, seed = meta["inputs"]["c1"]
    c, layer = nhwc(recipe.draw(drawn, kind, seed, gain)), f"b{resolution}.conv0"
    features = jax.jit(lambda ws: G.features(ws)[1][layer])(file["wplus"])
    assert_strided(file, meta, "F", features)
    residual = jax.jit(networks.residual)(c, features)
    refinement = Refinement(
        transforms={layer: GatedAddition(residual=residual, mask=jnp.ones((len(c), resolution, resolution, 1)))}
    )
    space = parse_space("w+")
    for key, ws in (("inv", file["wplus"]), ("edit", file["wplus_edited"])):
        if f"{key}/image" not in file:
            continue
        assert_strided(file, meta, f"{key}/r", residual)
        added, gate = jax.jit(networks.addition)(G.features(ws)[1][layer], residual)
        assert_strided(file, meta, f"{key}/dF", added)
        assert_parity("styleres", f"{name} {key} g", gate, nhwc(file[f"{key}/g"]))
        image = synthesise(G, space.decode(G, {"w": ws}), refinement)
        assert_parity("styleres", f"{name} {key} image", image, nhwc(file[f"{key}/image"]))
    if "edit/image_from_style_lists" in file:
        # The original's styles for RGB layers have their gain already.
        listed = {}
        for k, one in enumerate(G.config.layers):
            gain = np.sqrt(one.width) if one.kind == "torgb" else 1
            listed[one.name] = file[f"edit/style{k:02d}"] * np.float32(gain)
        image = synthesise(G, Decoded(ws=None, styles=listed), refinement)
        assert_parity("styleres", f"{name} styles", image, nhwc(file["edit/image_from_style_lists"]))


def assert_strided(file, meta, name, found):
    whole = np.moveaxis(np.asarray(found), -1, 1)
    kept = whole[tuple(slice(None, None, stride) for stride in meta["strided"][name]["strides"])]
    assert_parity("styleres", name, kept, file[f"{name}/slice"])


@pytest.fixture(scope="module")
def G():
    bare = tiny_generator(discriminator=False)
    params = {"encoder": initial_params(psp.param_shapes(ENCODER), 1), "w_avg": jnp.tile(bare.w_avg, (6, 1))}
    own = jax.tree.map(lambda a: 1.5 * a, initial_params(param_shapes(SMALL), 2))
    networks = StyleRes(config=SMALL, params=own)
    return attach(attach(bare, PspEncoder(config=ENCODER, params=params)), networks)


@pytest.fixture(scope="module")
def codes(G):
    return {"w": np.asarray(G.mapping(np.random.default_rng(0).standard_normal((COUNT, 16), np.float32)))}


@pytest.fixture(scope="module")
def refined(quick_compilation, G, codes):
    return lsap_jax.refine(G, ("w+", codes), tiny_images(COUNT), "styleres", batch_size=8)


def test_the_addition_follows_an_edit(G, codes, refined):
    """Residuals of the unedited codes, the addition for the features of the edited ones: not the old addition."""
    ((layer, kept),) = refined.refinement.transforms.items()
    assert layer == "b8.conv0" and kept.residual.shape == (COUNT, 8, 8, 6) and (kept.mask == 1).all()
    plain = lsap_jax.render(G, "w+", codes)
    assert np.abs(refined.images - plain).max() > 0.01
    networks, edited = G.parts["styleres"], codes["w"] + np.float32(0.5)
    x = np.asarray(tiny_images(COUNT) / 127.5 - 1, np.float32)
    before, after = (np.asarray(G.features(ws)[1][layer]) for ws in (codes["w"], edited))
    residual = networks.residual(G.parts["psp"].with_unit(x, 0)[1], before)
    np.testing.assert_allclose(residual, kept.residual, atol=1e-4)

    def shown(features, ws):
        added, gate = networks.addition(features, residual)
        return np.clip(
            G.synthesis(ws, transforms={layer: ScaleShift(scale=jnp.ones((COUNT, 1, 1, 1)), shift=gate * added)}), -1, 1
        )

    found = lsap_jax.render(G, "w+", {"w": edited}, refinement=refined.refinement)
    np.testing.assert_allclose(shown(after, edited), found, atol=1e-3)
    assert np.abs(shown(before, edited) - found).max() > 0.01


@pytest.mark.parametrize("size", [1, 3])
def test_no_image_sees_its_neighbours(G, codes, refined, size):
    found = lsap_jax.refine(G, ("w+", codes), tiny_images(COUNT), "styleres", batch_size=size)
    jax.tree.map(np.testing.assert_array_equal, found.refinement, refined.refinement)
    np.testing.assert_array_equal(found.images, refined.images)


@pytest.mark.parametrize("space", ["w+", "z+", "s"])
def test_strength_0_gives_the_refined_image_in_every_space(G, space):
    where = parse_space(space)
    rng = np.random.default_rng(2)
    codes = where.retract({where.detail.key: rng.standard_normal((2, *where.detail.shape(G)), np.float32)})
    codes = {key: np.asarray(a) for key, a in codes.items()}
    found = lsap_jax.refine(G, (space, codes), tiny_images(2), "styleres")
    edited = lsap_jax.edit(G, space, codes, "random:0", [0, 2], images=found.images, refinement=found.refinement)
    np.testing.assert_array_equal(edited.images[0], found.images)
    assert np.abs(edited.images[1] - found.images).max() > 0.01


@pytest.mark.slow
def test_steps_move_the_codes_and_leave_the_residuals(G, codes, refined):
    """Beyond the paper; each image takes its own steps."""
    found = lsap_jax.refine(G, ("w+", codes), tiny_images(COUNT), "styleres", batch_size=8, steps=8)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5), found.refinement, refined.refinement)
    assert (found.metrics["mse"] < refined.metrics["mse"]).all() and (found.codes["w"] != codes["w"]).any((1, 2)).all()
    again = lsap_jax.refine(G, ("w+", codes), tiny_images(COUNT), "styleres", batch_size=3, steps=8)
    np.testing.assert_array_equal(again.codes["w"], found.codes["w"])
    z = {
        "z": np.asarray(
            parse_space("z+").retract({"z": np.random.default_rng(3).standard_normal((2, 6, 16), np.float32)})["z"]
        )
    }
    moved = lsap_jax.refine(G, ("z+", z), tiny_images(2), "styleres", steps=2).codes["z"]
    np.testing.assert_allclose(np.linalg.norm(moved, axis=-1), 4.0, rtol=1e-5)
    with pytest.raises(LsapError, match=r"refine\.steps=-1: needs to be 0 or more"):
        lsap_jax.refine(G, ("w+", codes), tiny_images(COUNT), "styleres", steps=-1)


def test_masks_weight_the_addition(G, codes):
    masks = np.zeros((COUNT, 16, 16), np.float32)
    masks[:4] = 1
    found = lsap_jax.refine(G, ("w+", codes), tiny_images(COUNT), "styleres", masks=masks)
    plain = lsap_jax.render(G, "w+", codes)
    np.testing.assert_allclose(found.images[4:], plain[4:], atol=1e-5)
    assert np.abs(found.images[:4] - plain[:4]).max() > 0.01


def test_a_file_of_weights_and_float16(G, codes, refined, tmp_path):
    """Networks in float16, alone and inside a generator's file, refine alike."""
    half = G.parts["styleres"].replace(params=halved(G.parts["styleres"].params))
    save(tmp_path / "styleres.safetensors", half, {})
    attach(G, half).save(tmp_path / "g.safetensors")
    one, images, found = {"w": codes["w"][:1]}, tiny_images(1), []
    bare = G.without("styleres")
    found.append(lsap_jax.refine(bare, ("w+", one), images, "styleres", weights=str(tmp_path / "styleres.safetensors")))
    found.append(lsap_jax.refine(lsap_jax.load_generator(tmp_path / "g.safetensors"), ("w+", one), images, "styleres"))
    np.testing.assert_array_equal(found[0].images, found[1].images)
    wanted = take(refined.refinement, slice(0, 1))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=0.05), found[0].refinement, wanted)
    with pytest.raises(LsapError, match="neither this generator nor a file of weights has its networks"):
        lsap_jax.refine(bare, ("w+", one), images, "styleres")
    with pytest.raises(LsapError, match="neither the generator nor the file of weights has an encoder"):
        lsap_jax.refine(G.without("psp"), ("w+", one), images, "styleres")


def test_other_generators_encoders_and_codes_are_refused(G, codes):
    f = {"w": codes["w"][:1], "f": np.zeros((1, 8, 8, 8), np.float32)}
    with pytest.raises(LsapError, match=r"method 'styleres': .* codes of f/w\+ .* refine a run in W\+"):
        lsap_jax.refine(G, (parse_space("f/w+", base_resolution=8), f), tiny_images(1), "styleres")
    networks = G.parts["styleres"]
    for changes, message in (
        ({"resolution": 32}, "block of 32 px, this generator has blocks of 4, 8, 16 px"),
        ({"channels": 6}, "add to 6 features at 8 px, this generator has 8"),
    ):
        other = networks.replace(config=StyleResConfig(**{**vars(SMALL), **changes}))
        with pytest.raises(LsapError, match=message):
            attach(G.without("styleres"), other)
    other = G.with_part("styleres", networks.replace(config=StyleResConfig(**{**vars(SMALL), "tap": 1})))
    with pytest.raises(LsapError, match=r"take features \[8, 8, 16\] of the encoder's unit 1, this encoder has \[4, 4"):
        lsap_jax.refine(other, ("w+", codes), tiny_images(COUNT), "styleres")


@pytest.mark.slow
def test_the_commands(G, tmp_path, capsys):
    """Encode and refine at once and one after the other, resumed; edits; verify."""
    G.save(tmp_path / "g.safetensors")
    (tmp_path / "in").mkdir()
    for k, image in enumerate(tiny_images(3)):
        Image.fromarray(image).save(tmp_path / "in" / f"{k}.png")

    def command(*words):
        status = main([str(word) for word in words])
        assert status == 0, capsys.readouterr().err

    source = (tmp_path / "in", "--generator", tmp_path / "g.safetensors")
    command("encode", *source, "--refine=styleres", "--out", tmp_path / "both")
    command("encode", *source, "--out", tmp_path / "run")
    command("refine", tmp_path / "run", "--method=styleres", "--out", tmp_path / "after")
    for id in "012":
        names = [tmp_path / name / "refined" / f"{id}.npz" for name in ("both", "after")]
        assert names[0].read_bytes() == names[1].read_bytes()
    lines = (tmp_path / "after" / "manifest.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "after" / "manifest.jsonl").write_text(lines[0])
    before = {p.name: p.read_bytes() for p in (tmp_path / "after" / "images").iterdir()}
    command("refine", tmp_path / "run", "--method=styleres", "--out", tmp_path / "after")
    assert before == {p.name: p.read_bytes() for p in (tmp_path / "after" / "images").iterdir()}
    command("edit", tmp_path / "both", "--direction=random:0", "--strengths=0,2", "--out", tmp_path / "edits")
    for folder in ("both", "after", "edits"):
        command("verify", tmp_path / folder)
    pictures = list((tmp_path / "edits" / "images" / "0").rglob("0.png"))
    assert pictures and pictures[0].read_bytes() == (tmp_path / "both" / "images" / "0.png").read_bytes()
