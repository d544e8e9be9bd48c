"""StyleGAN1 against GenForce's and BDInvert's code, and the library on a tiny one."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity import assert_parity, nhwc

import lsap_jax
from lsap_jax.models.generator import Generator
from lsap_jax.networks.families import generator_shapes
from lsap_jax.networks.parameters import merge
from lsap_jax.networks.stylegan1 import GeneratorConfig
from lsap_jax.testing import tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation")

LAYER = {
    "weight": "weight",
    "bias": "bias",
    "const": "const",
    "apply_noise.weight": "noise_strength",
    "apply_noise.noise": "noise_const",
    "style.weight": "affine.weight",
    "style.bias": "affine.bias",
}


def canonical(file: dict) -> dict:
    """GenForce's names as this library's: https://github.com/genforce/genforce, models/stylegan_generator.py."""
    found = {}
    for key, value in file.items():
        name = key.removeprefix("sd/")
        if match := re.fullmatch(r"mapping\.dense(\d+)\.(weight|bias)", name):
            found[f"mapping.fc{match[1]}.{match[2]}"] = value
        elif name == "truncation.w_avg":
            found["mapping.w_avg"] = value
        elif match := re.fullmatch(r"synthesis\.layer(\d+)\.(.+)", name):
            at, part = int(match[1]), match[2]
            if part == "const":
                found["synthesis.b4.const"] = value[0]
            elif part in LAYER:
                value = value[0, 0] if part == "apply_noise.noise" else value
                found[f"synthesis.b{4 << at // 2}.conv{at % 2}.{LAYER[part]}"] = value
        elif match := re.fullmatch(r"synthesis\.output2\.(weight|bias)", name):
            found[f"synthesis.{match[1]}"] = value
    return found


@pytest.fixture(scope="module")
def golden_generator(golden):
    file = golden("sg1_g16_auto")
    meta = json.loads(bytes(file["meta_json"]))
    config = GeneratorConfig(
        img_resolution=16,
        channels=tuple(min(meta["fmaps_base"] // r, meta["fmaps_max"]) for r in (4, 8, 16)),
        z_dim=meta["z_space_dim"],
        w_dim=meta["w_space_dim"],
        mapping_layers=meta["mapping_layers"],
        layer_features=meta["mapping_fmaps"],
    )
    return Generator(config=config, params=merge(generator_shapes(config), canonical(file), "golden")), file


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


@pytest.mark.slow  # what this family has of its own is the same in every space
@pytest.mark.parametrize("space", ["z+", "w+", "s", "f/z+"])
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
