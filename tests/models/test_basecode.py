"""The base-code encoder: against torch, in files, joined to a generator, and trained."""

import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from convert_weights.basecode import encoder_shapes
from convert_weights.checkpoint import Checkpoint, Part, together
from lsap_jax.configuration import load_config
from lsap_jax.errors import LsapError
from lsap_jax.losses.judges import Networks
from lsap_jax.losses.pixel import mse
from lsap_jax.models.basecode import BasecodeEncoder
from lsap_jax.models.discriminator import Discriminator
from lsap_jax.models.generator import Generator
from lsap_jax.models.generator_file import load_generator
from lsap_jax.models.network_file import attach, from_checkpoint, load, save
from lsap_jax.models.perceptual import from_discriminator
from lsap_jax.networks import stylegan2
from lsap_jax.networks.basecode import (
    LAYOUT,
    BasecodeConfig,
    BasecodeNetwork,
    canonical_arrays,
    initial_variables,
    variable_shapes,
)
from lsap_jax.networks.families import initial_params
from lsap_jax.networks.parameters import count, merge
from lsap_jax.networks.pixel_maps import lanczos
from lsap_jax.networks.stylegan2 import discriminator
from lsap_jax.testing import tiny_generator
from lsap_jax.training.basecode import BasecodeLosses, own_code, train_basecode
from lsap_jax.training.encoder import EncoderTraining, optimizer, sample_pairs

pytestmark = pytest.mark.usefixtures("quick_compilation")

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
TINY = BasecodeConfig(base_resolution=2, out_channels=5, widths=(3, 4, 6))


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    """BDInvert's architecture as a torch nn.Sequential with random weights: input, outputs, statistics after a step."""
    with np.load(Path(__file__).parents[1] / "vectors" / "basecode_torch.npz") as file:
        return dict(file)


# Functions of the generator, compiled: operation by operation they take seconds.
draw_pairs = jax.jit(sample_pairs, static_argnums=(2, 3, 4))
run_synthesis = jax.jit(lambda G, ws, f=None: G.features(ws, f=f))
own = jax.jit(own_code, static_argnums=2)
encode = jax.jit(lambda E, x: E(x))


def weights(reference: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name[3:]: a for name, a in reference.items() if name.startswith("sd/")}


def merged(arrays: dict[str, np.ndarray]) -> dict:
    return merge(variable_shapes(TINY), arrays, "a base-code encoder", LAYOUT)


def encoder(config: BasecodeConfig = TINY, seed: int = 0) -> BasecodeEncoder:
    return BasecodeEncoder(config=config, params=initial_variables(config, jax.random.key(seed)))


@pytest.fixture(scope="module")
def G(quick_compilation) -> Generator:
    """16 px, base codes of 4 and 8 px with 6 and 5 channels; noise and biases that matter."""
    g = stylegan2.GeneratorConfig(img_resolution=16, channels=(6, 5, 4), z_dim=8, w_dim=8, layer_features=8)
    d = discriminator.DiscriminatorConfig(img_resolution=16, channels=(6, 5, 4), mbstd_group_size=4)
    params = jax.tree_util.tree_map_with_path(
        lambda path, a: jnp.asarray(0.1) if path[-1].key == "noise_strength" else a,
        jax.jit(partial(initial_params, g))(jax.random.key(0)),
    )
    critic = Discriminator(config=d, params=jax.jit(partial(discriminator.initial_params, d))(jax.random.key(1)))
    return Generator(config=g, params=params, parts={"discriminator": critic}, provenance_json='{"name": "tiny"}')


def test_outputs_and_statistics_of_torch(reference):
    variables = merged(weights(reference))
    x = jnp.asarray(reference["x"])
    np.testing.assert_allclose(encode(BasecodeEncoder(config=TINY, params=variables), x), reference["f"], 1e-4, 1e-5)
    train = jax.jit(lambda v, x: BasecodeNetwork(TINY).apply(v, x, train=True, mutable=["batch_stats"]))
    f, moved = train(variables, x)
    np.testing.assert_allclose(f, reference["f_train"], 1e-4, 1e-5)
    after = canonical_arrays({"params": variables["params"], **moved})
    for name in (n for n in after if n.endswith("running_mean")):
        np.testing.assert_allclose(after[name], reference[f"after/{name}"], 1e-4, 1e-5)


def test_the_paper_s_encoder_has_its_size_and_the_converter_s_names():
    config = BasecodeConfig(base_resolution=16, out_channels=512)
    shapes = variable_shapes(config)
    assert (count(shapes["params"]), config.input_resolution) == (12_399_872, 128)
    small = initial_variables(TINY, jax.random.key(0))
    table = encoder_shapes({"widths": list(TINY.widths), "out_channels": 5, "in_channels": 3})
    assert {n: a.shape for n, a in canonical_arrays(small).items()} == table


def test_mapping_is_strict_and_invertible(reference):
    arrays = weights(reference)
    back = canonical_arrays(merged(arrays))
    assert back.keys() == arrays.keys() and all(np.array_equal(back[n], arrays[n]) for n in arrays)
    with pytest.raises(LsapError, match=r"- model\.4\.running_var"):
        merged({n: a for n, a in arrays.items() if n != "model.4.running_var"})
    with pytest.raises(LsapError, match=r"\+ model\.99\.weight \(2,\)"):
        merged(arrays | {"model.99.weight": np.ones(2)})
    with pytest.raises(LsapError, match=r"! model\.33\.bias is \(4,\), expected \(5,\)"):
        merged(arrays | {"model.33.bias": np.ones(4)})


def test_checkpoints_of_bdinvert(reference):
    config = {"widths": [3, 4, 6], "out_channels": 5, "in_channels": 3}

    def opened(kind, config, arrays):
        return from_checkpoint(Checkpoint(format="test", parts=together(Part(kind=kind, config=config, arrays=arrays))))

    contents = opened("basecode", config, weights(reference))
    E = contents.build("basecode", base_resolution=2)
    assert E.config == TINY
    np.testing.assert_allclose(encode(E, jnp.asarray(reference["x"])), reference["f"], 1e-4, 1e-5)
    assert contents.build("basecode").config.input_resolution == 128
    short = {**config, "widths": [3, 4]}
    with pytest.raises(LsapError, match="has 2 stages"):
        opened("basecode", short, {}).build("basecode")


def test_a_file_gives_the_same_encoder_back(tmp_path, G):
    E, path = encoder(), tmp_path / "basecode.safetensors"
    save(path, E, {"name": "test"})
    again = load(path, "basecode")
    assert again.config == E.config
    assert jax.tree.all(jax.tree.map(np.array_equal, again.params, E.params))
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(LsapError, match="damaged"):
        load(path, "basecode")
    with pytest.raises(LsapError, match="no such file"):
        load(tmp_path / "nowhere.pth", "basecode")
    G.save(tmp_path / "g.safetensors")
    with pytest.raises(LsapError, match="'generator' weights, not a base-code encoder"):
        load(tmp_path / "g.safetensors", "basecode")


def test_joining_needs_a_matching_generator(tmp_path, G):
    fitting = BasecodeConfig(base_resolution=4, out_channels=6, widths=(2, 2, 2))
    joined = attach(G, encoder(fitting))
    joined.save(tmp_path / "g.safetensors")
    again = load_generator(tmp_path / "g.safetensors").basecode
    assert again is not None and again.config == fitting
    x = jax.random.normal(jax.random.key(0), (1, 32, 32, 3))
    assert np.array_equal(encode(again, x), encode(joined.basecode, x))
    for wrong in (
        BasecodeConfig(base_resolution=4, out_channels=5),
        BasecodeConfig(base_resolution=32, out_channels=6),
        BasecodeConfig(base_resolution=4, out_channels=6, in_channels=1),
    ):
        with pytest.raises(LsapError, match=r"train-basecode"):
            attach(G, BasecodeEncoder(config=wrong, params={}))
    with pytest.raises(LsapError, match=r"basecode/batch_stats.* is None"):
        attach(G, BasecodeEncoder(config=fitting, params={"params": encoder(fitting).params["params"]}))
    # A file whose tensors are another encoder's than its header says.
    narrow = BasecodeConfig(base_resolution=4, out_channels=6, widths=(2, 2, 3))
    G.with_part("basecode", BasecodeEncoder(config=narrow, params=encoder(fitting).params)).save(tmp_path / "bad")
    with pytest.raises(LsapError, match=r"! basecode/.*, expected "):
        load_generator(tmp_path / "bad")


def test_inputs_are_resized_only_where_they_must_be():
    flat_image = jnp.full((1, 64, 64, 3), 0.25)
    assert lanczos(flat_image, 16).shape == (1, 16, 16, 3)
    np.testing.assert_allclose(lanczos(flat_image, 16), 0.25, atol=1e-6)
    stripes = jnp.broadcast_to(jnp.where(jnp.arange(64) % 2 == 0, 1.0, -1.0)[None, None, :, None], (1, 64, 64, 3))
    assert float(jnp.abs(lanczos(stripes, 16)[:, :, 2:-2]).max()) < 0.05  # antialiased: they average out
    small = jnp.zeros((1, 16, 16, 3))
    assert lanczos(small, 16) is small


def test_loss_is_the_paper_s_on_means(G):
    losses = BasecodeLosses(mse=2.0, perceptual=3.0, feature=5.0)
    ws, x = draw_pairs(G, jax.random.key(3), 4)
    assert x.shape == (4, 16, 16, 3)
    np.testing.assert_allclose(x, run_synthesis(G, ws)[0], 1e-4, 1e-5)
    f = 0.5 * own(G, ws, 8)
    perceptual = from_discriminator(G)
    logs, y = jax.jit(losses)(Networks(generator=G, judges={"perceptual": perceptual}), f, ws, x)
    np.testing.assert_allclose(y, run_synthesis(G, ws, f)[0], 1e-4, 1e-5)
    wanted = {
        "mse": mse(y, x).mean(),
        "perceptual": perceptual(y, jnp.clip(x, -1, 1)).mean(),
        "feature": jnp.square(f).mean(),  # half of what it should be, so as far from it as from 0
    }
    for name, value in wanted.items():
        np.testing.assert_allclose(logs[name], value, 1e-4)
    np.testing.assert_allclose(logs["loss"], 2 * wanted["mse"] + 3 * wanted["perceptual"] + 5 * wanted["feature"], 1e-4)
    without = jax.eval_shape(lambda f: BasecodeLosses()(Networks(generator=G), f, ws, x)[0], f)
    assert without.keys() == {"loss", "mse"}


def test_own_code_is_what_f_replaces(G):
    ws, _ = draw_pairs(G, jax.random.key(0), 2)
    found = run_synthesis(G, ws)[1]
    for resolution in (4, 8):
        rebuilt = run_synthesis(G, ws, own(G, ws, resolution))[1]
        np.testing.assert_allclose(rebuilt["b16"], found["b16"], 1e-4, 1e-5)


def test_truncated_pairs_are_truncated(G):
    G = G.replace(params={**G.params, "mapping": {**G.params["mapping"], "w_avg": jnp.arange(8.0)}})
    ws, _ = draw_pairs(G, jax.random.key(0), 3, 0.0, 2)
    mean = jnp.broadcast_to(G.w_avg[None, None], (3, 2, 8))
    assert np.array_equal(ws[:, :2], mean) and not np.allclose(ws[:, 2:4], mean)


def tiny_run(**changes) -> ConfigDict:
    config = load_config(
        CONFIGS / "basecode_toonhead64.py", {"total_images": 12, "snapshot_images": 8, "base_resolution": 4}
    )
    config.update_from_flattened_dict({"train.batch_size": 4, "train.decay_images": 4})
    with config.ignore_type():
        config.update_from_flattened_dict({"widths": (2, 2, 2), **changes})
    return config


def test_rate_falls_in_steps():
    tx = optimizer(EncoderTraining(**tiny_run().train))
    params = {"a": jnp.zeros(3)}
    state, sizes = tx.init(params), []
    for _ in range(3):
        updates, state = tx.update({"a": jnp.ones(3)}, state, params)
        sizes.append(float(-updates["a"][0]))
    np.testing.assert_allclose(sizes, [1e-3, 1e-4, 1e-5], 1e-3)


@pytest.mark.slow
def test_training_improves_attaches_and_resumes_bit_for_bit(tmp_path, G):
    whole = train_basecode(tiny_run(), G, tmp_path / "whole", log=lambda _: None)
    lines: list[str] = []
    train_basecode(tiny_run(total_images=8), G, tmp_path / "parts", log=lines.append)
    parts = train_basecode(tiny_run(), G, tmp_path / "parts", log=lines.append)
    assert any("going on from 8 images" in line for line in lines)
    a, b = load_generator(whole), load_generator(parts)
    assert a.basecode is not None and b.basecode is not None
    assert a.basecode.config == BasecodeConfig(base_resolution=4, out_channels=6, widths=(2, 2, 2))
    assert jax.tree.all(jax.tree.map(np.array_equal, a.basecode.params, b.basecode.params))
    alone = load(tmp_path / "whole" / "basecode.safetensors", "basecode")
    assert jax.tree.all(jax.tree.map(np.array_equal, a.basecode.params, alone.params))
    # Neither the generator nor its discriminator moved; where both come from is kept.
    assert a.without("basecode").sha256 == G.sha256
    assert a.provenance["name"] == "tiny" and a.provenance["basecode"]["images_seen"] == 12
    assert a.provenance["basecode"]["generator_sha256"] == G.sha256
    # Everything of the encoder that can move did.
    before = flatten_dict(initial_variables(a.basecode.config, jax.random.fold_in(jax.random.key(0), 1)))
    for path, leaf in flatten_dict(a.basecode.params).items():
        if path[-1] != "bias" or path[-2] != "conv":  # normalisation takes these biases out again
            assert not np.array_equal(leaf, before[path]), path
    log = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert [line["images"] for line in log] == [8, 12]
    assert {"loss", "mse", "perceptual", "mse_unseen", "perceptual_unseen"} <= log[0].keys()
    assert (tmp_path / "whole" / "samples" / "00000012.png").is_file()
    with pytest.raises(LsapError, match=r"was started with other settings \(seed was 0, is 1\)"):
        train_basecode(tiny_run(seed=1), G, tmp_path / "parts", log=lambda _: None)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "resolution"), [("", 4), ("stylegan1", 4), ("stylegan1", 8)])
def test_the_loss_falls(tmp_path, G, family, resolution):
    """Of StyleGAN1, whose layers normalise what they are given, too; at 4 px f stands for the constant."""
    G = tiny_generator(family=family) if family else G
    changes = {"base_resolution": resolution, "train.decay_images": 0, "train.lr": 0.02}
    config = tiny_run(total_images=96, snapshot_images=16, **changes)
    made = load_generator(train_basecode(config, G, tmp_path, log=lambda _: None))
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert log[-1]["loss"] < 0.8 * log[0]["loss"]
    assert made.config == G.config and made.basecode.config.base_resolution == resolution


def test_training_refuses_what_cannot_be(tmp_path, G):
    resnet = stylegan2.GeneratorConfig(img_resolution=8, channels=(2, 2), z_dim=4, w_dim=4, architecture="resnet")
    other = Generator(config=resnet, params={})
    with pytest.raises(LsapError, match="this generator is neither"):
        train_basecode(tiny_run(), other, tmp_path)
    with pytest.raises(LsapError, match=r"base_resolution 64: choose one of"):
        train_basecode(tiny_run(base_resolution=64), G, tmp_path)
    with pytest.raises(LsapError, match="three widths"):
        train_basecode(tiny_run(widths=(2, 2)), G, tmp_path)


@pytest.mark.slow
def test_training_without_a_discriminator_is_by_mse_alone(tmp_path, G):
    lines: list[str] = []
    train_basecode(tiny_run(total_images=4), G.without("discriminator"), tmp_path, log=lines.append)
    assert any("MSE alone" in line for line in lines)
