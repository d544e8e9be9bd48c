"""Mapping, synthesis and discriminator against the original implementations."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity import assert_parity, nhwc

from lsap_jax.models.discriminator import Discriminator, discriminator_shapes
from lsap_jax.models.generator import Generator
from lsap_jax.networks.families import generator_shapes
from lsap_jax.networks.parameters import merge
from lsap_jax.networks.stylegan2 import GeneratorConfig
from lsap_jax.networks.stylegan2.discriminator import DiscriminatorConfig, minibatch_stddev

pytestmark = pytest.mark.usefixtures("quick_compilation")


def state_dict(file: dict) -> dict:
    return {k[3:]: v for k, v in file.items() if k.startswith("sd/") and not k.endswith("resample_filter")}


def channels(base: int, most: int, resolution: int) -> tuple[int, ...]:
    return tuple(min(base // r, most) for r in (4 << i for i in range(resolution.bit_length() - 2)))


def taps(options: dict) -> tuple:
    f = np.asarray(options.get("resample_filter", [1, 3, 3, 1]), np.float64)
    return tuple(f / f.sum())


def generator(file: dict, **changes) -> Generator:
    """The generator of a golden, from its constructor arguments."""
    meta = json.loads(bytes(file["meta_json"]))
    mapping, synthesis = meta["mapping_kwargs"], meta["synthesis_kwargs"]
    config = GeneratorConfig(
        **{k: meta[k] for k in ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels")},
        channels=channels(synthesis["channel_base"], synthesis["channel_max"], meta["img_resolution"]),
        mapping_layers=mapping["num_layers"],
        layer_features=mapping.get("layer_features", meta["w_dim"]),
        embed_features=mapping.get("embed_features", 0),
        architecture=synthesis.get("architecture", "skip"),
        resample_filter=taps(synthesis),
        use_noise=synthesis.get("use_noise", True),
        **{"conv_clamp": synthesis.get("conv_clamp"), **changes},
    )
    return Generator(config=config, params=merge(generator_shapes(config), state_dict(file), "golden"))


def discriminator(file: dict) -> Discriminator:
    meta = json.loads(bytes(file["meta_json"]))
    c = channels(meta["channel_base"], meta["channel_max"], meta["img_resolution"])
    config = DiscriminatorConfig(
        **{k: meta[k] for k in ("c_dim", "img_resolution", "img_channels")},
        channels=c,
        architecture=meta.get("architecture", "resnet"),
        conv_clamp=meta.get("conv_clamp"),
        resample_filter=taps(meta.get("block_kwargs", {})),
        mapping_layers=meta.get("mapping_kwargs", {}).get("num_layers", 0),
        cmap_dim=c[0] if meta["c_dim"] else 0,
    )
    return Discriminator(config=config, params=merge(discriminator_shapes(config), state_dict(file), "golden"))


# Compiled once per network and shape: op by op, jax would compile every operation of every network by itself.
mapping = jax.jit(Generator.mapping, static_argnames=("truncation_psi", "truncation_cutoff"))
synthesis = jax.jit(Generator.synthesis, static_argnames="noise_mode")
features_of = jax.jit(Generator.features, static_argnames="noise_mode")
judge = jax.jit(Discriminator.apply)


@pytest.mark.usefixtures("full_compilation")
def test_generator_images_and_latents(golden):
    file = golden("nv_g32")
    G = generator(file)
    z = jnp.asarray(file["z"])
    for name, kwargs in {
        "ws_psi1": {},
        "ws_psi0p7": {"truncation_psi": 0.7},
        "ws_psi0p7_cut3": {"truncation_psi": 0.7, "truncation_cutoff": 3},
    }.items():
        assert_parity("nv_g32", name, mapping(G, z, **kwargs), file[name])
    for source in ("ws_psi1", "ws_psi0p7", "wplus"):
        for mode in ("const", "none"):
            name = f"img_{source.removeprefix('ws_')}_{mode}"
            img = synthesis(G, jnp.asarray(file[source]), noise_mode=mode)
            assert_parity("nv_g32", name, img, nhwc(file[name]))


@pytest.mark.usefixtures("full_compilation")
def test_generator_intermediate_features(golden):
    file = golden("nv_g32")
    G = generator(file)
    _, features = features_of(G, jnp.asarray(file["wplus"]))
    for key, reference in file.items():
        group, _, name = key.partition("/")
        if group == "wplus_const":
            kind, block = name.split("_")
            found = features[block if kind == "x" else f"{block}.img"]
            assert_parity("nv_g32 features", key, found, nhwc(reference))
        elif group == "wplus_const_layers":
            styles = name.endswith(".affine")
            layer = name.removesuffix(".affine")
            found = features[f"{layer}.styles"] if styles else features[layer]
            assert_parity("nv_g32 features", key, found, reference if styles else nhwc(reference))


@pytest.mark.usefixtures("full_compilation")
@pytest.mark.parametrize("mode", ["const", pytest.param("none", marks=pytest.mark.slow)])
def test_generator_gradients(golden, mode):
    file, weights = golden("nv_g32_grads"), golden("nv_g32")
    G = generator(weights)
    R = jnp.asarray(nhwc(file["R"]))

    def loss_ws(ws, mode):
        return jnp.sum(G.synthesis(ws, noise_mode=mode) * R)

    def loss_z(z, mode, psi):
        return loss_ws(G.mapping(z, truncation_psi=psi), mode)

    by_ws = jax.jit(jax.value_and_grad(loss_ws), static_argnums=1)
    by_z = jax.jit(jax.value_and_grad(loss_z), static_argnums=(1, 2))
    value, grad = by_ws(jnp.asarray(file["wplus"]), mode)
    assert_parity("nv_g32_grads", f"loss_wplus_{mode}", value, file[f"loss_wplus_{mode}"])
    assert_parity("nv_g32_grads", f"dL_dwplus_{mode}", grad, file[f"dL_dwplus_{mode}"])
    for label, psi in (("psi1", 1.0), ("psi0p7", 0.7)):
        value, grad = by_z(jnp.asarray(file["z"]), mode, psi)
        assert_parity("nv_g32_grads", f"loss_z_{label}_{mode}", value, file[f"loss_z_{label}_{mode}"])
        assert_parity("nv_g32_grads", f"dL_dz_{label}_{mode}", grad, file[f"dL_dz_{label}_{mode}"])


def test_gradient_to_the_noise_maps(golden):
    file, weights = golden("nv_g32_grads"), golden("nv_g32")
    G = generator(weights)
    R, ws = jnp.asarray(nhwc(file["R"])), jnp.asarray(file["wplus"])

    def loss(params):
        return jnp.sum(G.replace(params=params).synthesis(ws) * R)

    grads = jax.jit(jax.grad(loss))(G.params)["synthesis"]
    for key, reference in file.items():
        if key.startswith("dL_dnoise/"):
            _, block, layer, _ = key.removeprefix("dL_dnoise/").split(".")
            assert_parity("nv_g32_grads", key, grads[block][layer]["noise_const"], reference)


def test_clamp_and_half_precision_variants(golden):
    file, weights = golden("nv_g32_variants"), golden("nv_g32")
    ws = jnp.asarray(file["wplus"])
    img, features = features_of(generator(weights, conv_clamp=0.75), ws)
    assert_parity("nv_g32_variants", "clamp0p75", img, nhwc(file["img_clamp0p75_const"]))
    for r in (4, 8, 16, 32):
        assert_parity("nv_g32_variants", f"x_b{r}", features[f"b{r}"], nhwc(file[f"clamp0p75/x_b{r}"]))
        assert_parity("nv_g32_variants", f"img_b{r}", features[f"b{r}.img"], nhwc(file[f"clamp0p75/img_b{r}"]))
    clamped = synthesis(generator(weights, conv_clamp=256.0), ws)
    assert_parity("nv_g32_variants", "fp32", clamped, nhwc(file["img_fp16res2_clamp256_const_forcefp32"]))
    half = nhwc(file["img_fp16res2_clamp256_const"])  # real half precision moves images of ±7.7 by up to 9e-3
    np.testing.assert_allclose(clamped, half, atol=2e-2)


@pytest.mark.parametrize("name", ["asymfilter", "nonoise", "orig", "resnet", "resnet_asym"])
def test_generator_variants(golden, name):
    file = golden(f"nv_g16_{name}")
    G = generator(file)
    assert_parity(f"nv_g16_{name}", "ws", mapping(G, jnp.asarray(file["z"])), file["ws"])
    assert_parity(f"nv_g16_{name}", "img", features_of(G, jnp.asarray(file["ws"]))[0], nhwc(file["img"]))
    img, features = features_of(G, jnp.asarray(file["wplus"]))
    assert_parity(f"nv_g16_{name}", "img_wplus", img, nhwc(file["img_wplus"]))
    for key, reference in file.items():
        if key.startswith("wplus_const/"):
            kind, block = key.removeprefix("wplus_const/").split("_")
            found = features[block if kind == "x" else f"{block}.img"]
            assert_parity(f"nv_g16_{name}", key, found, nhwc(reference))


def test_grey_generator(golden):
    file = golden("nv_g8_gray")
    G = generator(file)
    ws = mapping(G, jnp.asarray(file["z"]))
    assert_parity("nv_g8_gray", "ws", ws, file["ws"])
    assert_parity("nv_g8_gray", "img", synthesis(G, ws), nhwc(file["img"]))


def test_conditional_generator(golden):
    file = golden("nv_g16_cond")
    G = generator(file)
    z, c = jnp.asarray(file["z"]), jnp.asarray(file["c"])
    assert_parity("nv_g16_cond", "ws", mapping(G, z, c), file["ws"])
    assert_parity("nv_g16_cond", "ws_soft", mapping(G, z, jnp.asarray(file["c_soft"])), file["ws_soft"])
    assert_parity("nv_g16_cond", "ws_psi0p5", mapping(G, z, c, truncation_psi=0.5), file["ws_psi0p5"])
    assert_parity("nv_g16_cond", "img", synthesis(G, mapping(G, z, c)), nhwc(file["img"]))


@pytest.mark.parametrize("name", ["nv_d32", "nv_d16_clamp_asym", "nv_d16_cond", "nv_d16_orig", "nv_d16_skip"])
def test_discriminator(golden, name):
    file = golden(name)
    D = discriminator(file)
    img = jnp.asarray(nhwc(file["img"]))
    c = jnp.asarray(file["c"]) if "c" in file else None
    logits, features = judge(D, img, c)
    assert_parity(name, "logits", logits, file["logits"])
    for n in (1, 2):
        if f"logits_first{n}" in file:
            part = judge(D, img[:n], None if c is None else c[:n])[0]
            assert_parity(name, f"logits_first{n}", part, file[f"logits_first{n}"])
    for x in features:
        key = f"x_b{2 * x.shape[1]}"
        if key in file:
            assert_parity(name, key, x, nhwc(file[key]))
    assert_parity(name, "dsum_dimg", jax.jit(jax.grad(lambda x: jnp.sum(D(x, c))))(img), nhwc(file["dsum_dimg"]))


def test_base_code_is_bdinverts(golden):
    file = golden("genforce_g32_bdinvert")
    G = generator(golden("nv_g32"))
    ws = jnp.asarray(file["wplus"])
    img, features = features_of(G, ws)
    assert_parity("genforce_g32_bdinvert", "img", img, nhwc(file["img"]))
    f = jnp.asarray(nhwc(file["basecode_x03"]))
    injected = synthesis(G, ws, f=f)
    assert_parity("genforce_g32_bdinvert", "img_basecode_x03", injected, nhwc(file["img_basecode_x03"]))
    assert_parity("genforce_g32_bdinvert", "full_x02", features["b8.conv1"], nhwc(file["full_x02"]))
    assert_parity("genforce_g32_bdinvert", "full_x03", features["b16.conv0"], nhwc(file["full_x03"]))
    assert_parity("genforce_g32_bdinvert", "full_x04", features["b16.conv1"], nhwc(file["full_x04"]))
    order = [[layer.name for layer in G.config.layers if layer.kind == kind] for kind in ("conv", "torgb")]
    for names, prefix in zip(order, ("style/style{:02d}", "style/output_style{}"), strict=True):
        for i, name in enumerate(names):
            reference = file[prefix.format(i)]
            assert_parity("genforce_g32_bdinvert", name, features[f"{name}.styles"], reference)


def test_a_base_code_drops_the_coarse_image_and_the_layers_below(golden):
    G = generator(golden("nv_g32"))
    ws = jnp.asarray(golden("nv_g32")["wplus"])
    full, features = features_of(G, ws)
    own = synthesis(G, ws, f=features["b16.conv0"])
    from lsap_jax.networks.resample import upsample2d

    coarse = upsample2d(upsample2d(features["b8.img"], G.config.filter), G.config.filter)
    np.testing.assert_allclose(own, full - coarse, atol=2e-5)
    assert np.abs(own - full).max() > 0.1  # the coarse image matters, so it is really dropped
    moved = ws.at[:, :4].add(1.0)
    np.testing.assert_array_equal(synthesis(G, moved, f=features["b16.conv0"]), own)


def test_base_code_refusals(golden):
    G = generator(golden("nv_g32"))
    with pytest.raises(ValueError, match="fits no block"):
        G.synthesis(jnp.zeros((1, 8, 64)), f=jnp.zeros((1, 16, 16, 3)))
    other = generator(golden("nv_g16_resnet"))
    with pytest.raises(ValueError, match="'skip' or a StyleGAN1; this one is neither"):
        other.synthesis(jnp.zeros((1, 6, 32)), f=jnp.zeros((1, 8, 8, 24)))


def test_styles_given_instead_of_ws(golden):
    file = golden("nv_g32")
    G = generator(file)
    ws = jnp.asarray(file["wplus"])
    styles = jax.jit(Generator.styles)(G, ws)
    assert styles.keys() == G.config.layer.keys()
    np.testing.assert_allclose(synthesis(G, None, styles=styles), synthesis(G, ws), atol=1e-5)


def test_random_noise_is_per_key_and_per_layer(golden):
    G = generator(golden("nv_g32"))
    ws = jnp.asarray(golden("nv_g32")["wplus"])
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(3), jnp.arange(3))
    images = synthesis(G, ws, "random", keys)
    alone = synthesis(G, ws[1:2], "random", keys[1:2])
    np.testing.assert_allclose(images[1:2], alone, atol=2e-5)
    assert np.abs(images - synthesis(G, ws)).max() > 1e-3
    with pytest.raises(ValueError, match="needs rng"):
        G.synthesis(ws, "random")
    with pytest.raises(ValueError, match="'const', 'random' or 'none'"):
        G.synthesis(ws, "fixed")


def test_minibatch_stddev_groups_are_strided():
    x = jnp.arange(4.0)[:, None, None, None] * jnp.ones((1, 2, 2, 2))
    y = minibatch_stddev(x, 2, 1)[:, 0, 0, -1]
    np.testing.assert_allclose(y, 1.0, rtol=1e-6)  # pairs (0, 2) and (1, 3), not (0, 1) and (2, 3)
    with pytest.raises(ValueError, match="does not split"):
        minibatch_stddev(x[:3], 2, 1)
