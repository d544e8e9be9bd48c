"""What the compiler makes of a step: HLO of the inversion's scan."""

import re

import pytest

from lsap_jax.configuration import load_config
from lsap_jax.inversion.inverter import Inverter
from lsap_jax.testing import tiny_generator

STEPS = 3


def program(steps):
    inverter = Inverter(tiny_generator(basecode=True), load_config("f/z+", {"steps": steps, "batch_size": 2}))
    return inverter.step_program(3).as_text()


@pytest.fixture(scope="module")
def text():
    return program(STEPS)


def test_no_convolution_is_grouped(text):
    assert "convolution" in text or "conv" in text
    assert not re.search(r"(feature|batch)_group_count=(?!1\b)\d", text)


def test_no_step_talks_to_another_device(text):
    assert not re.search(r"all-reduce|all-gather|all-to-all|collective|partition-id|replica-id", text)


def test_the_steps_are_one_loop_inside_that_of_the_images(text):
    loops = [line for line in text.splitlines() if " while(" in line]
    images, steps = sorted(loops, key=lambda line: "known_trip_count" in line)
    assert "known_trip_count" not in images, "the number of images is an input of the program"
    assert f'"known_trip_count":{{"n":"{STEPS + 1}"}}' in steps, "the loop of the steps is unrolled"
    assert re.search(r"while/body/\S*while", steps), "the loop of the steps is not inside that of the images"


def test_no_step_transforms_a_weight(text):
    """Whatever has the shape of a convolution's weight comes in from outside as it is."""
    found = re.findall(r"= f32\[(?:3,3|1,1),(\d+),(\d+)\]\S* ([a-z-]+)\(", text)
    operations = {operation for cin, cout, operation in found if (cin, cout) != ("1", "1")}
    assert operations and operations <= {"parameter", "get-tuple-element", "bitcast"}


def test_without_steps_there_is_no_backward_pass(text):
    def products(text):
        return len(re.findall(r" (?:convolution|dot)\(", text))

    still = program(0)
    assert "transpose(jvp" in text and "transpose(jvp" not in still
    assert 0 < products(still) <= products(text) / 2, "every product has at least one more that goes back"
