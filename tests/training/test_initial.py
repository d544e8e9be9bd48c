"""Params before a training, as torch draws them."""

import numpy as np
from flax.traverse_util import flatten_dict

from lsap_jax.networks.psp import PspConfig, param_shapes
from lsap_jax.training.initial import initial_params


def test_every_kind_of_leaf_has_torchs_values():
    units = ((32, 2), (64, 2))
    shape = PspConfig(num_ws=2, w_dim=64, units=units, taps=(0, 0, 1), head_convs=(2, 2, 2), input_resolution=16)
    found = flatten_dict(initial_params(param_shapes(shape), 0), sep=".")
    assert found.keys() == flatten_dict(param_shapes(shape), sep=".").keys()
    convolution = np.asarray(found["styles.0.convs.0.weight"])
    bound = (64 * 9) ** -0.5
    assert 0.99 * bound < np.abs(convolution).max() <= bound and abs(convolution.mean()) < 0.02 * bound
    np.testing.assert_allclose(convolution.std(), bound / 3**0.5, rtol=0.02)
    np.testing.assert_allclose(np.std(found["styles.1.linear.weight"]), 1, rtol=0.05)
    for name, value in {
        "body.1.res_layer.0.weight": 1, "body.1.res_layer.0.running_var": 1, "body.1.res_layer.0.running_mean": 0,
        "body.1.res_layer.2.weight": 0.25, "input_layer.2.weight": 0.25, "styles.0.convs.0.bias": 0,
    }.items():  # fmt: skip
        assert (np.asarray(found[name]) == value).all(), name
    other = flatten_dict(initial_params(param_shapes(shape), 1), sep=".")["styles.0.convs.0.weight"]
    assert not np.array_equal(convolution, other)
