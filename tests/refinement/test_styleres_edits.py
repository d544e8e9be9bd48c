"""Every kind of direction on images that StyleRes refined: the edited code goes through its passes anew."""

import csv

import jax.numpy as jnp
import numpy as np
import pytest
from foreign_files import T, npz, torch_zip
from PIL import Image
from test_styleres_refiner import COUNT, G, codes, refined  # noqa: F401 - fixtures

import lsap_jax
from convert_weights.styleclip import mapper_shapes
from lsap_jax.cli import main
from lsap_jax.editing.direction import Direction
from lsap_jax.editing.direction_file import save_directions
from lsap_jax.editing.moves import move
from lsap_jax.models.attributes import Attributes, BinaryAttribute
from lsap_jax.models.attributes_file import save_attributes
from lsap_jax.networks.attributes import AttributesConfig, param_shapes
from lsap_jax.rendering.transforms import ScaleShift
from lsap_jax.spaces import parse_space
from lsap_jax.spaces.style import by_layer, flat
from lsap_jax.testing import random_leaves, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation")
LAYER = "b8.conv0"
RNG = np.random.default_rng(11)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Stand-ins in the true formats: name on the command line -> what it moves in W+ by a step of strength 1."""
    folder = tmp_path_factory.mktemp("published")
    smile, comp, mean, std = normal(1, 16), normal(60, 1, 16), normal(1, 16), np.linspace(3, 1, 60, dtype=np.float32)
    (folder / "smile.pt").write_bytes(torch_zip(T(smile)))
    (folder / "pose.pt").write_bytes(torch_zip(T(np.tile(smile[None], (1, 18, 1)))))
    pca = {"mean": T(mean), "comp": T(comp), "std": T(std)}
    (folder / "ffhq_pca.pt").write_bytes(torch_zip(pca))
    names = ("act_comp", "act_mean", "act_stdev", "lat_comp", "lat_mean", "lat_stdev")
    (folder / "style_ipca.npz").write_bytes(npz(dict(zip(names, (comp, mean, std) * 2, strict=True))))
    mapper = {
        name: T(normal(*shape) * 100) for name, shape in mapper_shapes({"w_dim": 16, "levels": ["course"]}).items()
    }
    (folder / "purple_hair.pt").write_bytes(torch_zip({"state_dict": {f"mapper.{n}": t for n, t in mapper.items()}}))
    config = AttributesConfig(labels=(("hue", ("red", "blue")),), resolution=16, widths=(4, 8))
    binary = {"blue": BinaryAttribute("hue", ("blue",), ("red",))}
    params = random_leaves(param_shapes(config), np.random.default_rng(3))
    save_attributes(folder / "judge.safetensors", Attributes(config=config, params=params, binary=binary))
    return folder


NAMES = (
    "smile.pt",
    "pose.pt",
    "ffhq_pca.pt:ganspace-7",
    "ffhq_pca.pt:smile",
    "style_ipca.npz:ganspace-2",
    "purple_hair.pt",
)


def texts(folder):
    return [*(f"{folder}/{name}" for name in NAMES), f"gradient:{folder}/judge.safetensors:blue:2"]


def by_hand(G, residual, ws=None, styles=None):  # noqa: F811
    """One partial and one full pass: the features of the edited code, the addition made for them, the rest."""
    features = np.asarray(G.features(ws, styles=styles)[1][LAYER])
    added, gate = G.parts["styleres"].addition(features, residual)
    kept = ScaleShift(scale=jnp.ones((COUNT, 1, 1, 1)), shift=gate * added)
    return np.clip(G.synthesis(ws, styles=styles, transforms={LAYER: kept}), -1, 1)


@pytest.mark.parametrize("number", range(len(NAMES) + 1))
def test_directions_of_w(G, codes, refined, published, number):  # noqa: F811
    text, residual = texts(published)[number], refined.refinement.transforms[LAYER].residual
    found = lsap_jax.edit(G, "w+", codes, text, [0.0, 0.7], images=refined.images, refinement=refined.refinement)
    np.testing.assert_array_equal(found.images[0], refined.images)
    assert np.abs(found.codes["w"][1] - codes["w"]).max() > 0.01
    np.testing.assert_allclose(found.images[1], by_hand(G, residual, found.codes["w"][1]), atol=2e-3)


def test_the_absolute_coordinate_of_ganspace(G, codes, refined, published):  # noqa: F811
    """StyleRes applies GANSpace so: row 0's coordinate is set in a range of rows."""
    text = f"{published}/ffhq_pca.pt:smile"
    options = {"absolute": "first", "layers": "4"}
    found = lsap_jax.edit(G, "w+", codes, text, [20.0], refinement=refined.refinement, **options)
    np.testing.assert_array_equal(found.codes["w"][0][:, :4], codes["w"][:, :4])
    residual = refined.refinement.transforms[LAYER].residual
    np.testing.assert_allclose(found.images[0], by_hand(G, residual, found.codes["w"][0]), atol=2e-3)


@pytest.mark.slow
def test_directions_of_styles_reach_both_passes(G, codes):  # noqa: F811
    """A channel before the addition changes what is added; one behind it does not, and changes the image, too."""
    space = parse_space("s")
    s = {"s": np.asarray(flat(G, G.styles(codes["w"])))}
    ref = lsap_jax.refine(G, ("s", s), tiny_images(COUNT), "styleres", batch_size=8)
    residual = ref.refinement.transforms[LAYER].residual
    starts = np.cumsum([0, *(layer.width for layer in G.config.layers)])
    names = [layer.name for layer in G.config.layers]
    before = G.features(None, styles=by_layer(G, s["s"]))[1][LAYER]
    for name, reaches in (("b4.conv1", True), ("b16.conv1", False)):
        vector = np.zeros(starts[-1], np.float32)
        k = names.index(name)
        vector[starts[k] : starts[k + 1]] = 1.0
        one = Direction(name="channels", space="s", vector=vector)
        found = lsap_jax.edit(G, "s", s, one, [2.0], refinement=ref.refinement)
        styles = by_layer(G, move(G, space, s, one, 2.0)["s"])
        after = G.features(None, styles=styles)[1][LAYER]
        assert (np.abs(np.asarray(after) - before).max() > 1e-3) == reaches
        np.testing.assert_allclose(found.images[0], by_hand(G, residual, styles=styles), atol=2e-3)
        assert np.abs(found.images[0] - ref.images).max() > 1e-3


@pytest.mark.slow
def test_the_commands(G, published, tmp_path, capsys):  # noqa: F811
    """A run of the encoder, refined, edited by every file; its codes as styles, refined, edited in StyleSpace."""
    G.save(tmp_path / "g.safetensors")
    (tmp_path / "in").mkdir()
    for k, image in enumerate(tiny_images(2)):
        Image.fromarray(image).save(tmp_path / "in" / f"{k}.png")

    def command(*words):
        status = main([str(word) for word in words])
        assert status == 0, capsys.readouterr().err

    source = (tmp_path / "in", "--generator", tmp_path / "g.safetensors")
    command("encode", *source, "--out", tmp_path / "plain")
    command("refine", tmp_path / "plain", "--method=styleres", "--out", tmp_path / "run")
    given = [f"--direction={text}" for text in texts(published) if "pca.pt:smile" not in text]
    command("edit", tmp_path / "run", *given, "--strengths=0,0.5", "--out", tmp_path / "edits")
    command("verify", tmp_path / "edits")
    assert len(list((tmp_path / "edits" / "images" / "0").iterdir())) == len(given)
    protocol = ["--config.directions=random:0,random:1", "--config.strengths=-1,1", "--config.toggle=False"]
    protocol += ["--config.attributes=none", "--out", tmp_path / "quality"]
    command("edit-quality", tmp_path / "plain", tmp_path / "run", *protocol)
    rows = list(csv.DictReader((tmp_path / "quality" / "curves.csv").read_text().splitlines()))
    assert {row["entry"] for row in rows if row["measure"] == "cycle"} == {"plain", "run"}
    assert all(float(row["mean"]) > 0 for row in rows if row["measure"] == "cycle")
    command("invert", *source, "--space=s", "--init", tmp_path / "plain", "--steps=0", "--out", tmp_path / "styles")
    command("refine", tmp_path / "styles", "--method=styleres", "--out", tmp_path / "both")
    for id in "01":
        pictures = [np.asarray(Image.open(tmp_path / run / "images" / f"{id}.png"), int) for run in ("run", "both")]
        assert np.abs(pictures[0] - pictures[1]).max() <= 1
    width = sum(layer.width for layer in G.config.layers)
    save_directions(tmp_path / "d.safetensors", [Direction(name="glasses", space="s", vector=normal(width))])
    command("edit", tmp_path / "both", f"--direction={tmp_path}/d.safetensors", "--out", tmp_path / "moved")
    command("verify", tmp_path / "moved")
