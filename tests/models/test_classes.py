"""Labels of conditional generators: what is taken for one, and what depends on it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsap_jax.errors import LsapError
from lsap_jax.models.classes import by_class, labels_from, plain
from lsap_jax.testing import tiny_generator

Z = np.random.default_rng(0).standard_normal((3, 16), dtype=np.float32)
EYE = np.eye(5, dtype=np.float32)


@pytest.fixture(scope="module")
def conditional():
    return tiny_generator(classes=5, discriminator=False)


@pytest.mark.parametrize(
    ("c", "wanted"),
    [
        (3, EYE[[3, 3]]),
        (np.int64(0), EYE[[0, 0]]),
        ([4, 1], EYE[[4, 1]]),
        (EYE[2], EYE[[2, 2]]),
        (EYE[[2, 0]].astype(int), EYE[[2, 0]]),
        (np.full((2, 5), -0.0), np.zeros((2, 5))),
    ],
)
def test_labels_of_numbers_and_vectors(c, wanted):
    found = labels_from(5, c, 2)
    assert found.dtype == np.float32 and found.tobytes() == wanted.astype(np.float32).tobytes()


@pytest.mark.parametrize(
    ("c", "message"),
    [
        (5, "no class 5; the 5 classes are 0 to 4"),
        ([0, -1], "no class -1"),
        ([0, 1, 2], "int64 of shape"),
        (1.0, "float64 of shape"),
        (True, "bool of shape"),
        ("1", "of shape"),
        (np.ones((2, 4)), "float64 of shape"),
        (np.full(5, np.nan), "finite"),
    ],
)
def test_what_is_no_class_is_refused(c, message):
    with pytest.raises(LsapError, match=message):
        labels_from(5, c, 2)
    with pytest.raises(LsapError, match="unconditional"):
        labels_from(0, c, 2)


@given(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1))))
def test_a_number_is_recorded_as_a_number(of):
    c_dim, k = of
    label = labels_from(c_dim, k, 1)[0]
    assert plain(label) == k
    between = 0.5 * label if c_dim > 1 else label + 1
    assert plain(between) == between.tolist()


def test_the_mapping_refuses_as_the_original_does(conditional):
    with pytest.raises(LsapError, match="conditional and needs one of its 5 classes"):
        conditional.mapping(Z)
    with pytest.raises(LsapError, match=r"takes labels \[3, 5\]"):
        conditional.mapping(Z, jnp.ones((3, 4)))
    with pytest.raises(LsapError, match=r"takes labels \[3, 5\]"):
        conditional.mapping(Z, 3)
    with pytest.raises(LsapError, match=r"takes labels \[3, 0\]"):
        tiny_generator(discriminator=False).mapping(Z, jnp.ones((3, 5)))


def test_a_given_label_is_that_of_the_mapping(conditional):
    """`given` labels, and the one label that a generator is used for, stand for the argument c."""
    c = EYE[[1, 4, 1]]
    ws = np.asarray(conditional.mapping(Z, c))
    assert np.abs(ws - np.asarray(conditional.mapping(Z, EYE[[1, 1, 1]]))).max(axis=(1, 2))[1] > 0.1
    np.testing.assert_array_equal(conditional.given(c).mapping(Z), ws)
    one = conditional.for_classes(EYE[[2, 2]])
    np.testing.assert_array_equal(one.labels, EYE[2:3])
    assert (
        one.for_classes(EYE[2:3]) is one and "x" not in one.with_part("statistics", "x").for_classes(c).parts.values()
    )
    np.testing.assert_array_equal(one.mapping(Z), conditional.mapping(Z, EYE[[2, 2, 2]]))
    with pytest.raises(LsapError, match="needs one of its 5 classes"):
        conditional.for_classes(c).mapping(Z)


def test_truncation_goes_to_the_mean_of_all_classes(conditional):
    """NVlabs' mapping network tracks one w_avg over all classes."""
    ws = np.asarray(conditional.mapping(Z, EYE[[0, 1, 2]], truncation_psi=0.0))
    np.testing.assert_allclose(ws, np.broadcast_to(conditional.w_avg, ws.shape), atol=1e-6)


@given(st.lists(st.integers(0, 4), min_size=4, max_size=4), st.permutations(range(5)))
def test_values_are_those_of_the_label(wanted, order):
    table = by_class(EYE[order], [{"a": jnp.full(2, k, jnp.float32)} for k in order])
    found = jax.tree.map(np.asarray, table.of(jnp.asarray(EYE[wanted])))
    np.testing.assert_array_equal(found["a"][:, 0], wanted)
