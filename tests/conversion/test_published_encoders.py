"""Encoders of full size: the published names and shapes, and converted weights against the original modules."""

import dataclasses
import json
import re

import foreign_dialects as dialects
import foreign_encoders as foreign
import foreign_files as files
import jax
import numpy as np
import pytest
from foreign_encoders import GENERATOR, encoder
from parity import assert_parity, nhwc

from convert_weights import ConversionError, hfgi, hyperstyle, latent_discriminator, nvlabs, psp, stylegan2
from convert_weights.encoders import encoder_places
from convert_weights.generators import LAYOUTS
from convert_weights.match import match
from convert_weights.tensors import Tensor
from lsap_jax.models.network_file import load, load_encoder
from lsap_jax.networks.hfgi import HfgiConfig
from lsap_jax.networks.hyperstyle import HyperConfig
from lsap_jax.networks.psp import PspEncoder as Network

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture
def write(tmp_path):
    def run(root):
        (tmp_path / "file.pt").write_bytes(files.torch_zip(root))
        return tmp_path / "file.pt"

    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "label", "encoder_type"),
    [
        ("enc_wencoder_px64", "encoder", "WEncoder"),
        ("enc_restyle_px64", "ResNetProgressiveBackboneEncoder", "ResNetProgressiveBackboneEncoder"),
    ],
)
def test_converted_encoders_of_full_size(seeded, write, name, label, encoder_type):
    """The weights of the reference through the file that their project saves, to the codes of the original modules."""
    file, weights = seeded(name)
    expected = file["out"] if label == "encoder" else file[f"{label}/stage18"]
    state = {f"encoder.{n}": a for n, a in weights(label).items()}
    root = {"state_dict": dialects.state_dict(state), "opts": {"encoder_type": encoder_type}}
    E = load_encoder(write(root | {"latent_avg": files.T(np.zeros(expected.shape[1:], np.float32))}))
    seen = np.concatenate([nhwc(file[f"{key}_u8"]) for key in (["img"] if label == "encoder" else "xy")], axis=-1)
    network = jax.jit(lambda x: Network(E.config).apply({"params": E.params["encoder"]}, x))
    assert_parity("encoders", f"converted {name} {label}", network(seen.astype(np.float32) / 127.5 - 1), expected)


def test_converted_latent_discriminator(seeded, write):
    file, weights = seeded("loss_e4e_latent")
    state = dialects.state_dict(weights("latent_discriminator"))
    root = {"e4e": dialects.state_dict(foreign.tensors(encoder())), "discriminator_state_dict": state}
    critic = load(write(root | {"latent_avg": files.T(GENERATOR["mapping.w_avg"])}), "latent_discriminator")
    assert_parity("encoders", "latent discriminator", critic(file["real_w"])[:, None], file["real_logits"])
    assert_parity("encoders", "latent discriminator, rows", critic(file["latent"])[..., None], file["fake_logits_all"])


PUBLISHED = {
    "e4e/state_dict_1024": ("encoder.", 18),
    "e4e/state_dict_512": ("encoder.", 16),
    "e4e/state_dict_256": ("encoder.", 14),
    "e4e/SingleStyleCodeEncoder": ("", None),
    "psp/state_dict_1024": ("encoder.", 18),
    "psp/BackboneEncoderUsingLastLayerIntoW": ("", None),
    "restyle/encoder/BackboneEncoder_18": ("", 18),
    "restyle/encoder/ResNetBackboneEncoder_18": ("", 18),
    "restyle/encoder/ProgressiveBackboneEncoder_18": ("", 18),
    "restyle/encoder/ResNetProgressiveBackboneEncoder_18": ("", 18),
    "restyle/encoder/GradualStyleEncoder_18": ("", 18),
    "restyle/encoder/ResNetGradualStyleEncoder_18": ("", 18),
    "hfgi/state_dict_1024": ("encoder.", 18),
    "hyperstyle/w_encoder_state_dict_1024": ("encoder.", None),
    "styleres/e4e": ("", 18),
    "ganinverter/encoder": ("encoder.", 18),
}


def weightless(entries, prefix=""):
    def load():
        raise AssertionError("weights were read")

    return {n.removeprefix(prefix): Tensor(tuple(s), t, load) for n, s, t in entries if n.startswith(prefix)}


@pytest.fixture(scope="module")
def published(shared_file):
    return json.loads(shared_file("facts/encoders_checkpoints.json").read_text())["tensors"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_names_and_shapes(published, name):
    project, _, kind = name.partition("/")
    prefix, rows = PUBLISHED[name]
    found, ignored, config = psp.encoder(weightless(published[project][kind], prefix), "encoder")
    assert psp.encoder_shapes(config) == {n: one.shape for n, one in found.items()}
    assert config.get("num_ws") == rows and config["w_dim"] == 512 and all("tracked" in n for n in ignored)
    assert [stride for _, stride in config["units"]].count(2) == (4 if config["trunk"] == "irse" else 3)
    assert config["taps"] == ([6, 12, 15] if "ResNetGradual" in name else [6, 20, 23])


def test_published_names_that_are_not_supported(published):
    entries = weightless(published["psp"]["BackboneEncoderUsingLastLayerIntoWPlus"])
    with pytest.raises(ConversionError, match=r"unknown tensors output_layer_2\.0\.weight"):
        psp.encoder(entries, "encoder")


def test_published_latent_discriminator(published):
    found = weightless(published["e4e"]["discriminator_state_dict"])
    assert latent_discriminator.critic_shapes({"w_dim": 512}) == {n: one.shape for n, one in found.items()}


def test_published_networks_of_hfgi(published):
    entries = published["hfgi"]["state_dict_1024"]
    assert hfgi.places([f"state_dict/{name}" for name, _, _ in entries]) == ["state_dict/"]
    own = weightless([entry for entry in entries if entry[0].startswith(hfgi.NETWORKS)])
    found, ignored = match(own, hfgi.RULES, "HFGI")
    config = hfgi.config_of({name: one.shape for name, one in found.items()}, "HFGI")
    assert hfgi.network_shapes(config, "HFGI") == {name: one.shape for name, one in found.items()}
    assert found.keys() | ignored.keys() == own.keys() and all("tracked" in name for name in ignored)
    default = json.loads(json.dumps(dataclasses.asdict(HfgiConfig(filter="bilinear"))))
    assert config == default


def test_published_hypernetwork(published):
    entries = published["hyperstyle"]["state_dict_1024_convs_only"]
    assert hyperstyle.places([name for name, _, _ in entries]) == ["hypernet."]
    own = weightless(entries, "hypernet.")
    found, ignored = match(own, hyperstyle.RULES, "hypernetwork")
    shapes, channels = {name: one.shape for name, one in found.items()}, (512,) * 5 + (256, 128, 64, 32)
    config = hyperstyle.config_of(shapes, channels, "hypernetwork")
    assert hyperstyle.network_shapes(config) == shapes and len(found) + len(ignored) == len(own)
    slots = tuple(map(tuple, config["slots"]))
    default = json.loads(json.dumps(dataclasses.asdict(HyperConfig(slots=slots, filter="bilinear"))))
    assert config | {"passes": 5, "input_height": 0} == default and len(slots) == 17
    with pytest.raises(ConversionError, match="block 14 does not fit that layer of the generator beside it"):
        hyperstyle.config_of(shapes, (512,) * 9, "hypernetwork")


def test_hypernetworks_and_alignment_networks_are_no_encoders(published):
    for project, found in {"hfgi": ["state_dict/encoder."], "hyperstyle": []}.items():
        for kind, entries in published[project].items():
            places = encoder_places([f"state_dict/{n}" for n, _, _ in entries])
            assert places == (["state_dict/encoder."] if kind.startswith("w_encoder") else found), kind


def test_the_generator_of_styleres_is_whole_without_its_residuals(published):
    layout, entries = LAYOUTS[-1], weightless(published["styleres"]["generator_smooth"])
    own = {name: tensor for name, tensor in entries.items() if not re.fullmatch(layout.aside[0], name)}
    shapes = {name: one.shape for name, one in match(own, nvlabs.GENERATOR_RULES, "generator")[0].items()}
    assert len(own) < len(entries) and entries.keys() & set(layout.telling)
    assert stylegan2.generator_shapes(stylegan2.generator_config(shapes)) == shapes
