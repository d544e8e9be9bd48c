"""Directions as text."""

import numpy as np

from lsap_jax.editing.direction import Direction
from lsap_jax.editing.listing import cosines, layers_text, table


def direction(name, vector, **more):
    return Direction(name=name, vector=np.array(vector, np.float32), **{"space": "w", **more})


def test_a_table_has_steps_measures_and_layers():
    some = [
        direction("a", [3.0, 4.0], scale=2.0, measures={"accuracy": 0.75}, layers=(4, 5)),
        direction("long name", [1.0, 0.0], layers="fine"),
    ]
    heads, first, second = table(some).splitlines()
    assert heads.split() == ["row", "name", "space", "step", "accuracy", "layers"]
    assert first.split() == ["0", "a", "w", "10", "75.0%", "4,5"] and second.endswith("fine")
    assert len({len(line) for line in (heads, first, second)}) == 1
    assert layers_text(direction("a", [1.0])) == "all" and layers_text(direction("a", [1.0], layers=7)) == "7"


def test_cosines_are_within_a_space():
    some = [direction("a", [1, 0]), direction("z", [1, 0], space="z"), direction("b", [3, 4])]
    heads, first, second = cosines(some).splitlines()
    assert heads.split() == ["row", "cosines,", "w", "0", "2"]
    assert first.split() == ["0", "a", "1.00", "0.60"] and second.split() == ["2", "b", "0.60", "1.00"]
    assert cosines(some[:2]) == ""
