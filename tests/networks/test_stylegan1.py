"""StyleGAN1 against GenForce's and BDInvert's code, and the library on a tiny one."""

import foreign_dialects as dialects
import foreign_files as files
import foreign_stylegan1 as stylegan1
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity import assert_parity, nhwc

import lsap_jax
from lsap_jax.cli import main
from lsap_jax.editing.ganspace import ganspace_w
from lsap_jax.errors import LsapError
from lsap_jax.losses.alignment import unit_styles
from lsap_jax.models.generator import Generator
from lsap_jax.spaces import parse_space
from lsap_jax.spaces.space import NAMES
from lsap_jax.spaces.statistics import compute_statistics
from lsap_jax.testing import tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation")


def state(file: dict) -> dict:
    return {name.removeprefix("sd/"): a for name, a in file.items() if name.startswith("sd/")}


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """load(bytes) -> Generator, by way of a converted file, as users have it."""

    def run(data: bytes) -> Generator:
        folder = tmp_path_factory.mktemp("stylegan1")
        (folder / "original").write_bytes(data)
        assert main(["convert", str(folder / "original"), str(folder / "g.safetensors"), "--nogrid"]) == 0
        return lsap_jax.load_generator(folder / "g.safetensors")

    return run


@pytest.fixture(scope="module")
def golden_generator(golden, load):
    file = golden("sg1_g16_auto")
    return load(files.torch_zip({"generator_smooth": dialects.state_dict(state(file))})), file


def of_tensorflow(arrays: dict) -> bytes:
    """NVIDIA's pickle of a Gs whose variables have the names of its components."""
    own = {name.removeprefix("tf/"): a for name, a in arrays.items() if name.startswith("tf/")}
    split = {
        part: {name.removeprefix(f"{part}/"): a for name, a in own.items() if name.startswith(f"{part}/")}
        for part in ("mapping", "synthesis")
    }
    parts = {part: files.tf_network(variables, {}, 3) for part, variables in split.items()}
    outer = {name: a for name, a in own.items() if "/" not in name}
    network = files.tf_network(outer, {"resolution": 16, "num_channels": 3, "fmap_base": 128}, 3, parts)
    return files.plain((network, files.tf_network({}, {}, 3), network))


@pytest.mark.parametrize(
    ("reference", "made"),
    [
        ("sg1_g16_auto", lambda sd, tf: of_tensorflow(tf)),
        ("sg1_g16_auto", lambda sd, tf: stylegan1.pickled(sd)),
        ("sg1_g16_auto", lambda sd, tf: files.torch_zip(dialects.state_dict(stylegan1.interfacegan(sd)))),
        ("sg1_g16_fused", lambda sd, tf: stylegan1.pickled(sd, fused_scale=True)),
        ("sg1_g16_fused", lambda sd, tf: files.torch_zip(dialects.state_dict(stylegan1.interfacegan(sd, (2, 4))))),
    ],
    ids=["names of TensorFlow", "TensorFlow", "InterFaceGAN", "TensorFlow, fused", "InterFaceGAN, fused"],
)
def test_other_files_make_the_images_of_the_original(golden, load, reference, made):
    file = golden(reference)
    G = load(made(state(file), golden("sg1_tf_naming")))
    assert_parity("stylegan1", f"{reference} ws", G.mapping(jnp.asarray(file["z"]))[:, 0], file["w"])
    assert_parity("stylegan1", reference, G.synthesis(jnp.asarray(file["wplus"])), nhwc(file["img_wplus"]))


def test_idinverts_generator_ends_in_tanh(golden, golden_generator, load):
    G, file = golden_generator
    own = load(files.torch_zip(dialects.state_dict(stylegan1.idinvert(state(file)))))
    ws = jnp.asarray(file["wplus"])
    assert own.config.tanh and own.config.repeat_w
    assert_parity("stylegan1", "tanh", own.synthesis(ws), np.tanh(nhwc(file["img_wplus"])))


def test_images_and_latents(golden_generator):
    G, file = golden_generator
    assert_parity("stylegan1", "w", G.map_w(jnp.asarray(file["z"])), file["w"])
    assert_parity("stylegan1", "img", G.synthesis(G.repeat_w(jnp.asarray(file["w"]))), nhwc(file["img"]))
    cut = G.mapping(jnp.asarray(file["z"]), truncation_psi=0.7, truncation_cutoff=4)
    assert_parity("stylegan1", "truncated", G.synthesis(cut), nhwc(file["img_psi0p7_layers4"]))
    image, features = G.features(jnp.asarray(file["wplus"]))
    assert_parity("stylegan1", "wplus", image, nhwc(file["img_wplus"]))
    for block, at in (("b4", 1), ("b8", 3), ("b16", 5)):
        assert_parity("stylegan1", block, features[block], nhwc(file[f"inter/x0{at}"]))


def test_base_code_is_bdinverts(full_compilation, golden, golden_generator):
    G, _ = golden_generator
    file = golden("sg1_basecode")
    ws = jnp.asarray(file["wplus"])
    for name, size in (("x02", 8), ("x04", 16)):
        f = jnp.asarray(nhwc(file[f"basecode_{name}"]))
        assert f.shape[1] == size
        assert_parity("stylegan1 f", name, G.synthesis(ws, f=f), nhwc(file[f"auto/img_basecode_{name}"]))
    _, features = G.features(ws)
    assert_parity("stylegan1 f", "act_x04", features["b16.conv0"], nhwc(file["auto/act_x04"]))
    np.testing.assert_array_equal(G.synthesis(ws, f=features["b16.conv0"]), G.synthesis(ws))


def test_gradients_through_the_base_code(golden, golden_generator):
    G, _ = golden_generator
    file = golden("sg1_basecode")

    def loss(f, ws):
        return jnp.sum(G.synthesis(ws, f=f) * nhwc(file["auto/R"]))

    f, ws = jnp.asarray(nhwc(file["basecode_x04"])), jnp.asarray(file["wplus"])
    df, dws = jax.grad(loss, argnums=(0, 1))(f, ws)
    assert_parity("stylegan1 f", "dL_df", df, nhwc(file["auto/dL_df"]))
    assert_parity("stylegan1 f", "dL_dwp", dws, file["auto/dL_dwp"])


@pytest.fixture(scope="module")
def of_rows(load):
    """A generator like IDInvert's, whose mapping makes all rows at once."""
    weights = stylegan1.idinvert(stylegan1.random_generator(rows=6, z=5))
    return load(files.torch_zip(dialects.state_dict(weights)))


def test_a_mapping_that_makes_each_row_by_itself(of_rows):
    G, z = of_rows, np.random.default_rng(0).standard_normal((3, 6, 5), np.float32)
    assert not G.config.repeat_w and (G.num_ws, G.w_dim) == (6, 4)
    x = z[:, 0] / np.sqrt(np.square(z[:, 0]).mean(1, keepdims=True) + 1e-8)
    for k in range(2):
        fc = {name: np.asarray(a) for name, a in G.params["mapping"][f"fc{k}"].items()}
        x = x @ fc["weight"] * (0.01 * np.sqrt(2 / len(fc["weight"]))) + fc["bias"] * 0.01
        x = np.where(x < 0, 0.2 * x, x)
    ws = G.mapping(jnp.asarray(z[:, 0]))
    np.testing.assert_allclose(ws, x.reshape(3, 6, 4), rtol=1e-4, atol=1e-5)
    own = G.map_rows(jnp.asarray(z))
    for row in range(6):
        np.testing.assert_allclose(own[:, row], G.mapping(jnp.asarray(z[:, row]))[:, row], rtol=1e-5, atol=1e-6)
    with pytest.raises(LsapError, match="makes a w for each row"):
        G.map_w(jnp.asarray(z[:, 0]))
    with pytest.raises(LsapError, match="makes a w for each row"):
        ganspace_w(G, 2, samples=100)
    for name in ("z+", "z"):  # the z whose ws come nearest
        space = parse_space(name)
        found = space.detail.from_ws(G, own)
        assert found.shape == (3, *space.detail.shape(G))
        np.testing.assert_allclose(np.linalg.norm(found, axis=-1), np.sqrt(5), rtol=1e-5)
    near = G.map_rows(parse_space("z+").detail.from_ws(G, own))
    assert float(jnp.abs(near - own).max()) < 0.02 * float(jnp.abs(own).max())
    start = parse_space("z+").detail.init(G, jax.random.split(jax.random.key(0), 2), "w_avg")
    assert start.shape == (2, 6, 5)
    codes = {"z": np.asarray(parse_space("z+").retract({"z": jnp.asarray(z)})["z"])}
    expected = np.clip(G.synthesis(G.map_rows(jnp.asarray(codes["z"]))), -1, 1)
    np.testing.assert_allclose(lsap_jax.render(G, "z+", codes), expected, atol=1e-5)


def test_statistics_of_such_a_mapping_are_of_all_rows(of_rows):
    found = compute_statistics(of_rows, samples=20_000, anchor_samples=10_000)
    ws = of_rows.mapping(jax.random.normal(jax.random.key(7), (20_000, 5)))
    scale = float(jnp.std(ws))
    np.testing.assert_allclose(found.w_mean, ws.mean((0, 1)), atol=0.02 * scale)
    np.testing.assert_allclose(found.w_std, ws.reshape(-1, 4).std(0), rtol=0.02)
    styles = unit_styles(of_rows.config, of_rows.styles(ws))
    for name, anchor in found.anchors.items():
        np.testing.assert_allclose(anchor, styles[name].mean(0), atol=0.02)


@pytest.mark.slow  # what this family has of its own is the same in every space
@pytest.mark.parametrize("space", NAMES)
def test_the_library_works_on_it(space, tmp_path):
    G = tiny_generator(family="stylegan1")
    G.save(tmp_path / "g.safetensors")
    G = lsap_jax.load_generator(tmp_path / "g.safetensors")
    images = tiny_images(2)
    found = lsap_jax.invert(G, images, space, steps=3)
    assert (found.curves["loss"][:, -1] < found.curves["loss"][:, 0]).all()
    edited = lsap_jax.edit(G, space, found.codes, "random:0", [0, 2], images=found.images)
    np.testing.assert_array_equal(edited.images[0], found.images)
    assert np.isfinite(lsap_jax.evaluate(G, space, found.codes, images)["nscd"]).all()
