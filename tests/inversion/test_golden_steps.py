"""The steps of the authors' scripts on StyleGAN1: F/Z+ (raven38's invert_zp.py), IDInvert's inversion and diffusion."""

import json

import foreign_dialects as dialects
import foreign_files as files
import foreign_stylegan1 as stylegan1
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity import assert_parity, nhwc

import lsap_jax
from lsap_jax.configuration import load_config
from lsap_jax.inversion import loop
from lsap_jax.inversion.optimizers import make_optimizer
from lsap_jax.inversion.settings import make_problem
from lsap_jax.losses.judges import Networks, seen_under
from lsap_jax.losses.terms import MASKED, Targets
from lsap_jax.models.network_file import load_encoder
from lsap_jax.models.vgg_features import VggFeatures
from lsap_jax.networks.pixel_maps import bicubic
from lsap_jax.rendering.render import synthesise
from lsap_jax.spaces import parse_space

STEPS = 5


@pytest.fixture(scope="module")
def weights(golden):
    return {n.removeprefix("sd/"): a for n, a in golden("sg1_g16_auto").items() if n.startswith("sd/")}


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """load(state dict, reader) -> what it reads of the torch file."""

    def run(state, read=lsap_jax.load_generator):
        path = tmp_path_factory.mktemp("golden") / "weights.pth"
        path.write_bytes(files.torch_zip(dialects.state_dict(state)))
        return read(path)

    return run


@pytest.fixture(scope="module")
def vgg(seeded_lpips):
    return seeded_lpips("vgg")


@pytest.mark.slow  # VGG16
def test_f_zplus_of_its_code(golden, weights, load, vgg):
    """f enters the second layer of 8 px; all six rows are truncated; the image is enlarged for LPIPS, as 64 stands in
    for 256 px there.
    """
    file, G = {k.removeprefix("sg1/"): a for k, a in golden("fzplus_small").items()}, load(weights)
    options = {"base_resolution": 8, "normalise": True, "truncation_psi": 0.7, "truncation_cutoff": 8}
    space = parse_space("f/z+", **options)
    f0, target = jnp.asarray(nhwc(file["f0"])), jnp.asarray(nhwc(file["target"]))
    seen = vgg.features(jnp.asarray(nhwc(file["target_for_lpips"])))

    @jax.jit
    def loss(codes):
        shown = synthesise(G, space.decode(G, codes))
        distance = vgg.distance(vgg.features(bicubic(shown, (64, 64))), seen)[0]
        total = jnp.mean(jnp.square(shown - target)) + 10 * distance
        return total + 10 * jnp.mean(jnp.square(codes["f"] - f0)), (distance, shown)

    codes = {"z": jnp.asarray(file["z0"])[None], "f": f0}
    tx = make_optimizer(space, "normalise", 0.01, b1=0.9, b2=0.999, eps=1e-8)
    state = tx.init(codes)
    for k in range(STEPS):
        (total, (distance, _)), grads = jax.value_and_grad(loss, has_aux=True)(codes)
        assert_parity("fzplus_small", f"sg1 loss[{k}]", total, file["loss"][k])
        assert_parity("fzplus_small", f"sg1 lpips[{k}]", distance, file["lpips"][k])
        if k == 0:  # later ones have gone through Adam, which enlarges what rounding leaves of a gradient of 0
            assert_parity("fzplus_small", "sg1 z_grad", grads["z"][0], file["z_grad"][0])
            assert_parity("fzplus_small", "sg1 f_grad", grads["f"], nhwc(file["f_grad1"]))
        updates, state = tx.update(grads, state, codes, progress=jnp.zeros(1))
        codes = jax.tree.map(jnp.add, codes, updates)
        # The reference says by how much codes differ where z0 is rounded otherwise.
        f = codes["f"][0, ..., :16].transpose(2, 0, 1)
        np.testing.assert_allclose(codes["z"][0], file["z_after"][k], rtol=0, atol=5 * file["sensitivity"][1])
        np.testing.assert_allclose(f, file["f_after"][k], rtol=0, atol=5 * file["sensitivity"][2])
    assert_parity("fzplus_small", "sg1 ws", space.decode(G, codes).ws, file["wp_final"], atol=1e-4)
    assert_parity("fzplus_small", "sg1 image", loss(codes)[1][1], nhwc(file["img_final"]), atol=1e-3)


@pytest.fixture(scope="module")
def idinvert(golden, weights, load):
    """IDInvert's generator with its encoder."""
    own = {n.removeprefix("sd/"): a for n, a in golden("idinvert_encoder").items() if n.startswith("sd/")}
    G = load(stylegan1.idinvert(weights))
    E = load(own, load_encoder)
    return G.with_part(E.kind, E)


def curves(G, judge, config, start, targets):
    """Codes after each step, and each term before it."""
    space = parse_space("w+")
    problem = make_problem(load_config(config, {"loss.perceptual": 5e-5, "perceptual.network": "vgg"}), space)
    networks, state = Networks(generator=G, judges={"perceptual": judge}), loop.initial_state(problem, {"w": start})
    step = jax.jit(lambda state: loop.step(problem, networks, state, targets, jnp.int32(100)))
    codes, terms = [], []
    for _ in range(STEPS):
        state, found = step(state)
        codes.append(state.codes["w"][0])
        terms.append(found)
    return codes, terms


@pytest.mark.slow  # VGG16
def test_idinverts_optimisation(golden, idinvert, vgg):
    file, judge = golden("idinvert_optim"), VggFeatures(network=vgg.network)
    target = jnp.asarray(nhwc(file["target"][None]))
    start = idinvert.encoder(target)
    assert_parity("idinvert_optim", "z0", start, file["z0"])
    seen = judge.features(target)
    assert_parity("idinvert_optim", "relu4_3", seen[0], nhwc(file["vgg_relu4_3_target"]))
    codes, terms = curves(idinvert, judge, "idinvert_code", start, Targets(images=target, seen={"perceptual": seen}))
    for k in range(STEPS):
        for name, there in (("mse", "loss_pix"), ("perceptual", "loss_feat"), ("domain", "loss_reg")):
            assert_parity("idinvert_optim", f"{there}[{k}]", terms[k][name][0], file[there][k])
        assert_parity("idinvert_optim", f"z_after[{k}]", codes[k], file["z_after"][k], atol=1e-4)
    shown = idinvert.synthesis(codes[-1][None])
    assert_parity("idinvert_optim", "img_final", shown, nhwc(file["img_final"]), atol=1e-4)


@pytest.mark.slow  # VGG16
def test_idinverts_diffusion(golden, idinvert, vgg):
    """The target's inside on the context; the terms are the original's divided by the part that counts."""
    file, judge = golden("idinvert_optim"), VggFeatures(network=vgg.network)
    box = json.loads(bytes(file["meta_json"]))["diffuse"]
    mask = np.zeros((1, 16, 16), np.float32)
    top, left = box["center_y"] - box["crop_y"] // 2, box["center_x"] - box["crop_x"] // 2
    mask[:, top : top + box["crop_y"], left : left + box["crop_x"]] = 1
    inside = mask[..., None]
    both = jnp.asarray(nhwc(file["target"][None]) * inside + nhwc(file["diffuse/context"][None]) * (1 - inside))
    under = judge.features(seen_under(jnp.asarray(mask), both))
    targets = Targets(
        images=both, seen={"perceptual": judge.features(both), "perceptual" + MASKED: under}, mask=jnp.asarray(mask)
    )
    codes, terms = curves(idinvert, judge, "idinvert_diffusion", idinvert.encoder(both), targets)
    for k in range(STEPS):
        for name, there in (("mse", "diffuse/loss_pix"), ("perceptual", "diffuse/loss_feat")):
            assert_parity("idinvert_optim", f"{there}[{k}]", terms[k][name][0] * mask.mean(), file[there][k])
        assert_parity("idinvert_optim", f"diffuse/z_after[{k}]", codes[k], file["diffuse/z_after"][k], atol=1e-4)
