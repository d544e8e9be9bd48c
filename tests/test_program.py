"""What the compiler makes of a step: HLO of the inversion's scan."""

import re

import pytest

from lsap_jax.configuration import load_config
from lsap_jax.inversion.batch import Inverter
from lsap_jax.testing import tiny_generator


@pytest.fixture(scope="module")
def text():
    inverter = Inverter(tiny_generator(basecode=True), load_config("f/z+", {"steps": 3, "batch_size": 2}))
    return inverter.step_program(3).as_text()


def test_no_convolution_is_grouped(text):
    assert "convolution" in text or "conv" in text
    assert not re.search(r"(feature|batch)_group_count=(?!1\b)\d", text)


def test_no_step_talks_to_another_device(text):
    assert not re.search(r"all-reduce|all-gather|all-to-all|collective|partition-id|replica-id", text)


def test_the_steps_are_one_loop(text):
    assert text.count(" while(") == 1


def test_no_step_transforms_a_weight(text):
    """Whatever has the shape of a convolution's weight comes in from outside as it is."""
    found = re.findall(r"= f32\[(?:3,3|1,1),(\d+),(\d+)\]\S* ([a-z-]+)\(", text)
    operations = {operation for cin, cout, operation in found if (cin, cout) != ("1", "1")}
    assert operations and operations <= {"parameter", "get-tuple-element", "bitcast"}
