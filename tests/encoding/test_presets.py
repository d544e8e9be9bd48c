"""The presets of encoders: codes without a step, and with steps the start of an optimisation."""

import pytest

from lsap_jax.configuration import load_config

PRESETS = ("e4e", "psp", "lsap_e", "restyle_e4e", "restyle_psp")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_an_encode_and_has_its_training(name):
    config = load_config(name)
    assert (config.steps, config.init.detail, config.space, config.keep) == (0, "encoder", "w+", "last")
    training = load_config(f"train_{name}")
    assert training.name == f"train_{name}" and (training.encoder.passes > 1) == ("restyle" in name)
    assert load_config(name, {"steps": 100}).steps == 100


def test_the_preset_of_styleres_is_an_encode():
    config, own = load_config("e4e_styleres"), load_config("encode")
    assert config.to_dict() == own.to_dict() and load_config("train_styleres").method == "styleres"
