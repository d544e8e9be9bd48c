"""Every dialect back to NVlabs names: random weights, and those of the original implementations."""

import foreign_dialects as dialects
import foreign_files as files
import numpy as np
import pytest

import convert_weights
from convert_weights.w_avg import estimate_w_avg

G = dialects.random_generator()
D = dialects.random_discriminator()


@pytest.fixture
def read(tmp_path):
    """read(bytes) -> Checkpoint, through a file whose name says nothing."""

    def run(data):
        path = tmp_path / "weights"
        path.write_bytes(data)
        return convert_weights.read(path)

    return run


def check(checkpoint, generator, discriminator=None, rounding=False):
    """All arrays, and only they, came out under their names, float32, contiguous and owned."""
    expected = {"generator": generator} | ({} if discriminator is None else {"discriminator": discriminator})
    assert checkpoint.parts.keys() == expected.keys()
    for kind, part in checkpoint.parts.items():
        wanted = dialects.without_filters(expected[kind])
        assert part.kind == kind and part.arrays.keys() == wanted.keys()
        for name, array in part.arrays.items():
            assert array.dtype == np.float32 and array.flags.c_contiguous and array.flags.writeable
            assert array.shape == wanted[name].shape
            np.testing.assert_allclose(array, wanted[name], rtol=0, atol=3e-7 if rounding else 0, err_msg=name)
    assert len(checkpoint.sha256) == 64 and checkpoint.kind == "generator"


def sd(arrays):
    return {n.removeprefix("sd/"): a for n, a in arrays.items() if n.startswith("sd/")}


def meta(arrays):
    import json

    return json.loads(bytes(arrays["meta_json"]))


def snapshot(generator, discriminator, facts=None, **d_facts):
    facts = facts or files.generator_facts()
    g = files.nvlabs(generator, "Generator", facts)
    other = files.nvlabs({n: a + 1 for n, a in generator.items()}, "Generator", facts)
    d = files.nvlabs_discriminator(discriminator, **d_facts)
    return {"training_set_kwargs": {"resolution": 8}, "G": other, "D": d, "G_ema": g, "augment_pipe": None}


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_nvlabs_pickle(read, protocol):
    facts = files.generator_facts(clamp=256, z_dim=4, c_dim=0, w_dim=4, img_resolution=8, img_channels=3)
    checkpoint = read(files.plain(snapshot(G, D, facts, clamp=256, group=8), protocol))
    check(checkpoint, G, D)
    assert checkpoint.parts["generator"].config == {
        "z_dim": 4,
        "c_dim": 0,
        "w_dim": 4,
        "img_resolution": 8,
        "img_channels": 3,
        "mapping_layers": 2,
        "layer_features": 4,
        "embed_features": 0,
        "mapping_lr_multiplier": 0.01,
        "w_avg_beta": 0.995,
        "architecture": "skip",
        "channels": [6, 5],
        "resample_filter": [0.125, 0.375, 0.375, 0.125],
        "conv_clamp": 256.0,
        "use_noise": True,
        "activation": "lrelu",
    }
    assert checkpoint.parts["discriminator"].config == {
        "c_dim": 0,
        "img_resolution": 8,
        "img_channels": 3,
        "architecture": "resnet",
        "channels": [6, 5],
        "resample_filter": [0.125, 0.375, 0.375, 0.125],
        "conv_clamp": 256.0,
        "cmap_dim": 0,
        "mapping_layers": 0,
        "mapping_lr_multiplier": 0.01,
        "mbstd_group_size": 8,
        "mbstd_num_channels": 1,
        "activation": "lrelu",
    }
    assert "G.*" in checkpoint.ignored and "NVIDIA" in checkpoint.licence
    assert "stylegan2-ada-pytorch" in checkpoint.format


def test_stylegan3_repository_pickle(read):
    facts = files.generator_facts(stylegan3=True)
    checkpoint = read(files.plain({"G_ema": files.nvlabs(G, "Generator", facts)}))
    check(checkpoint, G)
    assert "stylegan3" in checkpoint.format and "discriminator" not in checkpoint.parts


def test_snapshot_without_average_says_so(read):
    checkpoint = read(files.plain({"G": files.nvlabs(G, "Generator", files.generator_facts())}))
    check(checkpoint, G)
    assert any("moving average" in note for note in checkpoint.notes)


@pytest.mark.parametrize("container", [files.torch_zip, files.torch_legacy])
def test_whole_generator_as_pti_saves_it(read, container):
    checkpoint = read(container(files.nvlabs(G, "Generator", files.generator_facts())))
    check(checkpoint, G)
    assert "PTI" in checkpoint.format


def test_other_discriminators_are_ignored_by_name(read):
    odd = files.module("ProjectedDiscriminator", {"x": np.ones(3, np.float32)}, {})
    made = {"G_ema": files.nvlabs(G, "Generator", files.generator_facts()), "D": odd}
    checkpoint = read(files.plain(made))
    check(checkpoint, G)
    assert "ProjectedDiscriminator" in checkpoint.ignored["D.*"]


def test_frozen_layers_keep_their_weights_in_buffers(read):
    root = snapshot(G, D)
    block = root["D"].args[0]["state"]["_modules"].items["b8"].args[0]["state"]["_modules"].items["conv0"]
    state = block.args[0]["state"]
    state["_buffers"].items |= state["_parameters"].items
    state["_parameters"].items = {"bias": None}
    state["_buffers"].items["scratch"] = files.T(np.zeros(2, np.float32))
    state["_non_persistent_buffers_set"].args = (["scratch"],)
    check(read(files.plain(root)), G, D)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("nv_g32", {"channels": [64, 64, 64, 32], "mapping_layers": 8}),
        ("nv_g16_cond", {"c_dim": 5, "embed_features": 20, "layer_features": 28, "mapping_layers": 3, "z_dim": 24}),
        ("nv_g16_orig", {"architecture": "orig"}),
        ("nv_g16_resnet", {"architecture": "resnet", "conv_clamp": 2.0}),
        ("nv_g16_nonoise", {"use_noise": False}),
        ("nv_g8_gray", {"img_channels": 1, "img_resolution": 8}),
        ("nv_g16_asymfilter", {"resample_filter": [1 / 11, 2 / 11, 5 / 11, 3 / 11]}),
    ],
)
def test_golden_generators_through_the_nvlabs_pickle(golden, read, name, config):
    arrays = golden(name)
    weights = sd(arrays)
    synthesis = meta(arrays).get("synthesis_kwargs", {})
    facts = files.generator_facts(
        synthesis.get("architecture", "skip"), synthesis.get("conv_clamp"), synthesis.get("use_noise", True)
    )
    checkpoint = read(files.plain({"G_ema": files.nvlabs(weights, "Generator", facts)}))
    check(checkpoint, weights)
    for key, value in config.items():
        expected = pytest.approx(value, abs=1e-6) if key == "resample_filter" else value
        assert checkpoint.parts["generator"].config[key] == expected, key


@pytest.mark.parametrize("name", ["nv_d32", "nv_d16_skip", "nv_d16_orig", "nv_d16_cond", "nv_d16_clamp_asym"])
def test_golden_discriminators_through_the_nvlabs_pickle(golden, read, name):
    arrays = golden(name)
    weights, kwargs = sd(arrays), meta(arrays)
    blocks = len({n.partition(".")[0] for n in weights if n.startswith("b")})
    generator = dialects.random_generator((6, 5, 4, 3)[:blocks])  # of the pictures that this one judges
    root = snapshot(
        generator, weights, architecture=kwargs.get("architecture", "resnet"), clamp=kwargs.get("conv_clamp")
    )
    checkpoint = read(files.plain(root))
    check(checkpoint, generator, weights)
    config = checkpoint.parts["discriminator"].config
    assert config["architecture"] == kwargs.get("architecture", "resnet")
    assert config["conv_clamp"] == kwargs.get("conv_clamp") and config["c_dim"] == kwargs["c_dim"]
    assert (config["cmap_dim"], config["mapping_layers"]) == ((24, 2) if kwargs["c_dim"] else (0, 0))
    assert config["mbstd_num_channels"] == 1


@pytest.mark.parametrize("container", [files.torch_zip, files.torch_legacy])
def test_rosinality_converted_file(read, container):
    root = {"g_ema": dialects.state_dict(dialects.rosinality(G)), "latent_avg": files.T(G["mapping.w_avg"])}
    checkpoint = read(container(root))
    check(checkpoint, G)
    assert "rosinality" in checkpoint.format and checkpoint.notes == ()


def test_rosinality_training_snapshot(read):
    snapshot = {
        "g": dialects.state_dict({n: a + 1 for n, a in dialects.rosinality(G).items()}),
        "d": dialects.state_dict(dialects.rosinality_discriminator(D)),
        "g_ema": dialects.state_dict(dialects.rosinality(G)),
        "g_optim": {
            "state": {0: {"step": 3, "exp_avg": files.T(np.ones(4, np.float32))}},
            "param_groups": [{"lr": 0.002}],
        },
        "args": files.Obj(files.Ref("argparse", "Namespace"), new=True, state={"size": 8, "latent": 4}),
        "ada_aug_p": 0.25,
    }
    checkpoint = read(files.torch_zip(snapshot))
    estimated = checkpoint.parts["generator"].arrays["mapping.w_avg"]
    check(checkpoint, G | {"mapping.w_avg": estimated}, D)
    assert any("10000 samples" in note for note in checkpoint.notes)
    assert {"g/*", "g_optim/*"} <= checkpoint.ignored.keys()
    assert checkpoint.parts["discriminator"].config["mbstd_group_size"] == 4


def test_old_rosinality_file_without_noise_and_kernels(read):
    root = {"g_ema": dialects.state_dict(dialects.rosinality(G, noises=False, kernels=False))}
    checkpoint = read(files.torch_legacy(root | {"latent_avg": files.T(np.tile(G["mapping.w_avg"], (4, 1)))}))
    drawn = {n: a for n, a in checkpoint.parts["generator"].arrays.items() if n.endswith("noise_const")}
    check(checkpoint, G | drawn)
    assert len(drawn) == 3 and all(np.std(a) > 0.5 for a in drawn.values())
    assert any("noise" in note for note in checkpoint.notes)


@pytest.mark.parametrize("shape", [(0, 4), (0,), ()])
def test_a_mean_that_is_none_is_refused(read, shape):
    root = {"g_ema": dialects.state_dict(dialects.rosinality(G)), "latent_avg": files.T(np.zeros(shape, np.float32))}
    with pytest.raises(
        convert_weights.ConversionError, match=r"its mean w has shape .*, not \[w_dim\] or \[rows, w_dim\]"
    ):
        read(files.torch_zip(root))


def test_decoder_of_psp_and_e4e(read):
    state = {f"decoder.{n}": a for n, a in dialects.rosinality(G).items()}
    state["encoder.input_layer.0.weight"] = np.ones((2, 3, 3, 3), np.float32)
    root = {"state_dict": dialects.state_dict(state), "opts": {"output_size": 8}}
    checkpoint = read(files.torch_zip(root | {"latent_avg": files.T(np.tile(G["mapping.w_avg"], (4, 1)))}))
    check(checkpoint, G)
    assert "pSp" in checkpoint.format and "state_dict/encoder.*" in checkpoint.ignored


def test_genforce(read):
    root = {
        "generator": dialects.state_dict({n: a + 1 for n, a in dialects.genforce(G).items()}),
        "discriminator": dialects.state_dict(dialects.genforce_discriminator(D)),
        "generator_smooth": dialects.state_dict(dialects.genforce(G)),
    }
    checkpoint = read(files.torch_zip(root))
    check(checkpoint, G, D, rounding=True)
    assert "GenForce" in checkpoint.format and "generator/*" in checkpoint.ignored


@pytest.mark.parametrize("version", [4, 5])
def test_tensorflow(read, version):
    g = dialects.tensorflow_generator(
        G, version, resolution=8, latent_size=4, dlatent_size=4, conv_clamp=256, fmap_base=99
    )
    other = dialects.tensorflow_generator({n: a + 1 for n, a in G.items()}, version)
    d = dialects.tensorflow_discriminator(D, version, resolution=8, mbstd_num_features=1)
    checkpoint = read(files.plain((other, d, g), 3))
    check(checkpoint, G, D, rounding=True)
    assert checkpoint.parts["generator"].config["conv_clamp"] == 256.0
    assert checkpoint.parts["discriminator"].config["mbstd_group_size"] == (4 if version == 4 else None)
    assert checkpoint.parts["discriminator"].config["mapping_lr_multiplier"] == 0.1
    assert "TensorFlow" in checkpoint.format and "Gs/lod" in checkpoint.ignored


def test_golden_networks_through_the_tensorflow_pickle(golden, read):
    for g_name, d_name in (("nv_g32", "nv_d32"), ("nv_g16_resnet", "nv_d16_skip"), ("nv_g16_cond", "nv_d16_cond")):
        g, d = sd(golden(g_name)), sd(golden(d_name))
        network = dialects.tensorflow_generator(g, 5)
        checkpoint = read(files.plain((network, dialects.tensorflow_discriminator(d, 5), network), 4))
        check(checkpoint, g, d, rounding=True)


def test_npz_with_nvlabs_names(read):
    arrays = (
        {f"G_ema/{n}": a for n, a in G.items()} | {f"D/{n}": a for n, a in D.items()} | {"images_seen": np.int64(3)}
    )
    arrays |= {f"G/{n}": a for n, a in G.items()}
    checkpoint = read(files.npz(arrays))
    check(checkpoint, G, D)
    assert checkpoint.ignored.keys() == {"images_seen", "G/*"}
    assert checkpoint.parts["generator"].config["conv_clamp"] is None


def test_state_dicts_with_nvlabs_names_in_a_torch_file(read):
    root = {"G_ema": dialects.state_dict(G), "D": dialects.state_dict(D), "G": dialects.state_dict(G)}
    check(read(files.torch_zip(root)), G, D)
    check(read(files.torch_legacy(dialects.state_dict(G))), G)


def test_shipped_rosinality_and_genforce_files(golden, shared_file):
    zipped = convert_weights.read(shared_file("golden/rosinality_g32_converted_style.pt"))
    legacy = convert_weights.read(shared_file("golden/rosinality_g32_legacyfmt.pt"))
    (one,), (other,) = zipped.parts.values(), legacy.parts.values()
    assert one.arrays.keys() == other.arrays.keys()
    assert all(np.array_equal(one.arrays[n], other.arrays[n]) for n in one.arrays)
    assert one.config == other.config and one.config["channels"] == [48, 40, 36, 24]
    genforce = convert_weights.read(shared_file("golden/genforce_sg2_small.pth"))
    check(genforce, sd(golden("nv_g32")), rounding=True)


def test_bundled_start_is_an_npz_of_generator_and_discriminator(shared_file):
    checkpoint = convert_weights.read(shared_file("data/toonhead64_start.npz"))
    with np.load(shared_file("data/toonhead64_start.npz")) as source:
        g = {n.removeprefix("G_ema/"): source[n] for n in source.files if n.startswith("G_ema/")}
        d = {n.removeprefix("D/"): source[n] for n in source.files if n.startswith("D/")}
    check(checkpoint, g, d)
    assert checkpoint.parts["generator"].config["channels"] == [128, 128, 96, 48, 24]


def test_estimated_w_avg_is_the_mean_of_the_mapping_network(golden):
    for name in ("nv_g32", "nv_g16_cond"):
        weights = sd(golden(name))
        checkpoint_config = _config(weights)
        estimate = estimate_w_avg(weights, checkpoint_config)
        again = estimate_w_avg(weights, checkpoint_config)
        assert np.array_equal(estimate, again)
        # reference: the same sum in float64 by another route
        rng = np.random.RandomState(9)
        z = rng.standard_normal((20000, checkpoint_config["z_dim"]))
        w = _mapping64(weights, z, rng, checkpoint_config)
        spread = w.std(axis=0) * np.sqrt(1 / 10000 + 1 / 20000)
        assert np.all(np.abs(estimate - w.mean(axis=0)) < 5 * spread + 1e-6)


def _config(weights):
    from convert_weights.stylegan2 import generator_config

    return generator_config({n: a.shape for n, a in weights.items()})


def _mapping64(weights, z, rng, config):
    x = z / np.sqrt(np.mean(z**2, axis=1, keepdims=True) + 1e-8)
    if config["c_dim"]:
        one_hot = np.eye(config["c_dim"])[rng.randint(config["c_dim"], size=len(z))]
        y = one_hot @ weights["mapping.embed.weight"].T.astype(np.float64) / np.sqrt(config["c_dim"])
        y += weights["mapping.embed.bias"]
        x = np.concatenate([x, y / np.sqrt(np.mean(y**2, axis=1, keepdims=True) + 1e-8)], axis=1)
    for i in range(config["mapping_layers"]):
        weight = weights[f"mapping.fc{i}.weight"].astype(np.float64) * 0.01 / np.sqrt(x.shape[1])
        x = x @ weight.T + weights[f"mapping.fc{i}.bias"] * 0.01
        x = np.where(x > 0, x, 0.2 * x) * np.sqrt(2)
    return x


def test_rosinality_mapping_reproduces_its_own_latents(golden, shared_file):
    arrays = golden("rosinality_g32")
    checkpoint = convert_weights.read(shared_file("golden/rosinality_g32_converted_style.pt"))
    weights = checkpoint.parts["generator"].arrays
    w = _mapping64(weights, arrays["z"].astype(np.float64), None, checkpoint.parts["generator"].config)
    np.testing.assert_allclose(w, arrays["style_z"], rtol=1e-4, atol=1e-5 * np.abs(arrays["style_z"]).max())
    np.testing.assert_array_equal(weights["mapping.w_avg"], arrays["latent_avg"])
