"""SAM against the original code: choice of latents, masks, losses and latents step by step, edits."""

import json

import foreign_files as files
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity import assert_parity, nhwc

from lsap_jax.losses.prior import delta, pn
from lsap_jax.models.generator import Generator
from lsap_jax.models.generator_file import load_generator
from lsap_jax.models.latent_statistics import LatentStatistics
from lsap_jax.networks.families import generator_shapes
from lsap_jax.networks.parameters import merge
from lsap_jax.networks.stylegan2 import GeneratorConfig
from lsap_jax.refinement.layer_choice import layer_masks, pixel_latents, segment_means
from lsap_jax.refinement.sam import Sam
from lsap_jax.rendering.refinement import Refinement
from lsap_jax.rendering.render import synthesise
from lsap_jax.rendering.transforms import MaskedOffset, ScaleShift
from lsap_jax.spaces import parse_space
from lsap_jax.spaces.gaussian import p_of

LATENTS, SIDES, STEPS = ("W+", "F4", "F6", "F8", "F10"), (16, 32, 64, 128), 5


def test_choice_of_latents_and_masks(golden):
    file = golden("sam_masks")
    maps = jnp.concatenate([nhwc(file[f"invmap_lowres/{name}"]) for name in LATENTS], -1)
    numbers = jnp.asarray(file["seg"], jnp.int32)[None]
    means = segment_means(maps, numbers, 6)
    assert_parity("sam_masks", "segment_mean", means[0], file["segment_mean"])
    label_order = json.loads(bytes(file["meta_json"]))["label_order"]
    for tau in json.loads(bytes(file["meta_json"]))["taus"]:
        found = pixel_latents(maps, numbers, 6, tau)[0]
        named = np.array([label_order.index(name) for name in LATENTS])[np.asarray(found)]
        np.testing.assert_array_equal(named, file[f"label/tau{tau:g}"])
    large = jnp.repeat(jnp.repeat(pixel_latents(maps, numbers, 6, 0.225), 4, 1), 4, 2)
    for name, mask in zip(LATENTS[1:], layer_masks(large, SIDES), strict=True):
        assert_parity("sam_masks", name, mask, nhwc(file[f"mask/{name}"]))


@pytest.fixture(scope="module")
def G(golden, shared_file):
    file = golden("sam_generator256")
    tensors = {k.removeprefix("sd/"): a for k, a in file.items() if k.startswith("sd/") and "resample" not in k}
    for name, seed in json.loads(bytes(file["meta_json"]))["noise_const_seeds"]:
        side = int(name.split(".")[1][1:])
        tensors[name] = np.float32(np.random.RandomState(seed).randn(side, side) * 0.1) * 10
    config = GeneratorConfig(
        img_resolution=256, channels=(16, 16, 16, 16, 16, 16, 8), z_dim=64, w_dim=64, layer_features=64,
        mapping_layers=2,
    )  # fmt: skip
    G = Generator(config=config, params=merge(generator_shapes(config), tensors, "sam_generator256"))
    images = G.synthesis(file["ws"])
    assert_parity("sam_generator256", "img_const", images[:, ::4, ::4], nhwc(file["img_const_sub"]))
    return G


@pytest.fixture(scope="module")
def vgg(seeded_lpips):
    return seeded_lpips("vgg", 64)


def statistics_of(file):
    """The original's: mu is p of the mean w, and the covariance that of 1000 samples."""
    inverse, vectors = np.linalg.eigh(file["inv_cov_v"])
    none = np.zeros(64, np.float32)
    own = {"p_mean": p_of(jnp.asarray(file["mean_w"])), "p_values": jnp.asarray(np.float32(1 / inverse))}
    own["p_vectors"] = jnp.asarray(np.float32(vectors))
    return LatentStatistics(w_mean=none, w_std=none, anchors={}, samples=1000, anchor_samples=0, **own)


def sub(offset, side):
    step = side // 8
    return np.moveaxis(np.asarray(offset)[0, step // 2 :: step, step // 2 :: step, :4], -1, 0)


@pytest.mark.slow
def test_losses_latents_and_edits(golden, G, vgg):
    file, space = golden("sam_optim"), parse_space("w+")
    statistics = statistics_of(file)
    sam = Sam(
        network=None, judge=vgg, statistics=statistics, resolutions=SIDES, resolution=64, dtype="float32", steps=STEPS
    )
    masks = {side: jnp.asarray(nhwc(file[f"mask/F{2 * (side.bit_length() - 3)}"])) for side in SIDES}
    target = jnp.asarray(file["target_u8"], jnp.float32)[None] / 127.5 - 1
    wplus0 = jnp.asarray(file["wplus0"])
    assert_parity("sam_optim", "mvg[0]", pn(statistics, wplus0)[0] * wplus0[0].size, file["mvg"][0], rtol=2e-4)
    assert_parity("sam_optim", "delta[0]", delta(wplus0)[0], file["delta"][0])

    fit = jax.jit(lambda w, steps: sam.fit(G, space, {"w": w}, target, None, masks, steps), static_argnums=1)
    params, course = fit(wplus0, STEPS)
    assert course.finite[0] and course.step[0] == STEPS
    assert_parity("sam_optim", "wplus", params["w"][0], file["wplus_after"][-1], rtol=1e-3, atol=1e-4)
    for side in SIDES:
        name = f"F{2 * (side.bit_length() - 3)}"
        found, wanted = sub(params[str(side)], side), file[f"{name}_after_sub"][-1]
        # As the reference says, rounding turns a gradient near zero into another step: a part of 1e-3 may be off.
        gap = np.abs(found - wanted) / np.abs(wanted).max()
        assert gap.max() < 0.05 and np.mean(gap > 2e-3) < 0.02, name
        norm = np.sqrt(np.square(np.asarray(params[str(side)])).sum())
        np.testing.assert_allclose(norm, file[f"{name}_norm"][-1], rtol=1e-3)
    added, pasted = (
        sam.replace(edit=edit).kept(G, space, {"w": params["w"]}, {side: params[str(side)] for side in SIDES}, masks)
        for edit in ("add", "paste")
    )

    def shown(ws, refinement):
        return synthesise(G, space.decode(G, {"w": ws}), refinement)[:, ::4, ::4]

    final = nhwc(file["final_sub"])
    assert_parity("sam_optim", "final", shown(params["w"], added), final, rtol=1e-3, atol=2e-4)
    assert_parity("sam_optim", "final, pasted", shown(params["w"], pasted), final, rtol=1e-3, atol=2e-4)
    # The original's own edits paste F + m dF, so that on soft borders its strength 0 is another image than the
    # inversion; the same arrays in its way make its images.
    _, features = G.features(params["w"], transforms=added.transforms)
    original = {}
    for side in SIDES:
        place, mask = f"b{side}", masks[side]
        F = features[place] + mask * params[str(side)]
        original[place] = ScaleShift(scale=1 - mask, shift=F * mask)
    for strength in (0, 1, 2):
        ws = params["w"] + strength * jnp.asarray(file["edit_dir"])
        found = shown(ws, Refinement(transforms=original))
        assert_parity("sam_optim", f"edit{strength}", found, nhwc(file[f"edit{strength}_sub"]), rtol=1e-3, atol=2e-4)


def test_offsets_of_one_pass(golden, G):
    file, offsets = golden("sam_optim"), {}
    for k, side in enumerate(SIDES):
        drawn = 0.3 * np.random.RandomState(5600 + k).randn(1, 16, side, side).astype(np.float32)
        mask = nhwc(file[f"mask/F{2 * (side.bit_length() - 3)}"])
        offsets[f"b{side}"] = MaskedOffset(offset=nhwc(np.float32(drawn)), mask=mask)
    decoded = parse_space("w+").decode(G, {"w": jnp.asarray(file["wplus0"])})
    image = synthesise(G, decoded, Refinement(transforms=offsets))
    assert_parity("sam_optim", "unit_img", image[:, ::4, ::4], nhwc(file["unit_img_sub"]))


def test_ganinverters_place(golden, tmp_path):
    """Behind the first layer of a block, before the second one and the image of the block see it."""
    file = golden("ganinverter_hooks_g32")
    own = golden("rosinality_g32")
    state = {name.removeprefix("sd/"): files.T(a) for name, a in own.items() if name.startswith("sd/")}
    (tmp_path / "g.pt").write_bytes(files.torch_zip({"g_ema": state, "latent_avg": files.T(own["latent_avg"])}))
    G = load_generator(tmp_path / "g.pt")
    offset = MaskedOffset(offset=nhwc(file["sam_f4"]), mask=nhwc(np.repeat(file["sam_m4"], 2, 0)))
    assert Sam(network=None, judge=None, statistics=None, resolutions=(16,), variant="ganinverter").place(G, 16) in (
        where := {"b16.conv0": offset}
    )
    image = synthesise(G, parse_space("w+").decode(G, {"w": jnp.asarray(own["wplus"])}), Refinement(transforms=where))
    assert_parity("ganinverter_hooks_g32", "sam_img", image, nhwc(file["sam_img"]))
