"""StyleRes' checkpoints: their networks of residuals beside generator and encoder, strictly."""

import json

import foreign_files as files
import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from foreign_encoders import RESIDUALS as SHAPE
from foreign_encoders import residuals, residuals_at
from foreign_encoders import styleres_checkpoint as checkpoint

import convert_weights
from convert_weights import styleres
from convert_weights.match import match
from convert_weights.tensors import Tensor
from lsap_jax.models.generator_file import load_generator
from lsap_jax.networks.styleres import StyleResConfig, param_shapes

PLACE = residuals_at()


@pytest.fixture
def write(tmp_path):
    def run(root):
        (tmp_path / "styleres.pth").write_bytes(files.torch_zip(root))
        return tmp_path / "styleres.pth"

    return run


def test_every_part_is_converted_and_dead_weights_are_listed(write):
    named, params = residuals()
    path = write(checkpoint(named))
    found = convert_weights.read(path)
    assert found.parts.keys() == {"generator", "psp", "styleres"} and not found.refused
    dead = {name: why for name, why in found.ignored.items() if "never calls" in why}
    assert list(dead) == [f"generator_smooth/{PLACE}alignment.dconv3.0.res_layer.0.weight"]
    assert not any(PLACE in name for name in found.ignored.keys() - dead.keys())
    G = load_generator(path)
    assert G.parts["styleres"].config == SHAPE and G.config.conv_clamp == 256
    expected = flatten_dict(params)
    for name, leaf in flatten_dict(dict(G.parts["styleres"].params)).items():
        np.testing.assert_array_equal(leaf, expected[name])
    G.save(path.with_suffix(".safetensors"))
    again = load_generator(path.with_suffix(".safetensors"))
    assert again.sha256 == G.sha256 and again.parts["styleres"].config == SHAPE


def test_training_snapshots_are_read(write):
    named, _ = residuals()
    inner = checkpoint(named)
    mean = inner.pop("latent_avg")
    root = {"models": inner, "latent_avg": mean, "running_metadata": {"iter": 3}, "learning_rates": {"e4e": 1e-4}}
    found = convert_weights.read(write(root))
    assert found.parts.keys() == {"generator", "psp", "styleres"}
    assert found.parts["styleres"].config["resolution"] == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda named: named.pop(f"{PLACE}gates.down2.bias"), "gates.down2.bias"),
        (lambda named: named.update({f"{PLACE}gates.down3.bias": np.ones(3, np.float32)}) or True, "gates.down3"),
        (
            lambda named: named.update({f"{PLACE}alignment.first_layer.weight": np.ones((6, 99, 1, 1), np.float32)}),
            "no encoder beside them has a unit of that width",
        ),
    ],
    ids=["missing", "unknown", "another encoder"],
)
def test_networks_that_do_not_fit_are_refused(write, change, message):
    named, _ = residuals(dead=False)
    change(named)
    found = convert_weights.read(write(checkpoint(named)))
    assert "styleres" not in found.parts and message in found.refused["styleres"]
    assert any("residuals" in why for why in found.ignored.values())


def test_published_names_and_shapes(shared_file):

    entries = json.loads(shared_file("facts/encoders_checkpoints.json").read_text())["tensors"]["styleres"]
    names = {name: Tensor(tuple(shape), kind, lambda: None) for name, shape, kind in entries["generator_smooth"]}
    (place,) = styleres.places(names)
    own = {name.removeprefix(place): t for name, t in names.items() if styleres.PREFIX in name}
    found, ignored = match(own, styleres.RULES, "published")
    config = dict(resolution=64, channels=512, encoder_channels=128, tap=6, width=0)
    assert {name: one.shape for name, one in found.items()} == styleres.network_shapes(config)
    assert len(ignored) == 8 and StyleResConfig(**config) == StyleResConfig()
    mine = {".".join(path): leaf for path, leaf in flatten_dict(param_shapes(StyleResConfig())).items()}
    assert mine.keys() == found.keys() and all(
        np.prod(mine[name].shape) == np.prod(found[name].shape) for name in mine
    ), jax.tree.map(lambda a: a.shape, mine)
