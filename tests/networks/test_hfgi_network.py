"""HFGI's two networks against the original modules."""

import jax
import numpy as np
import pytest
from parity import assert_parity, nhwc

from lsap_jax.models.hfgi import Hfgi
from lsap_jax.networks.hfgi import HfgiConfig, param_shapes
from lsap_jax.networks.parameters import merge

pytestmark = pytest.mark.usefixtures("quick_compilation")


def images(file, name):
    return nhwc(file[f"{name}_u8"]).astype(np.float32) / 127.5 - 1


def assert_like(file, key, found):
    """A feature map against the part of it, the means and the norms that the reference has."""
    found = np.moveaxis(np.asarray(found), -1, 1)
    if f"{key}/slice" in file:
        strides = [round(whole / part) for whole, part in zip(found.shape, file[f"{key}/slice"].shape, strict=True)]
        assert_parity("hfgi", f"{key} slice", found[tuple(slice(None, None, s) for s in strides)], file[f"{key}/slice"])
    assert_parity("hfgi", f"{key} means", found.mean((2, 3)), file[f"{key}/chanmean"])
    norms = np.sqrt(np.square(found.astype(np.float64)).sum((1, 2, 3)))
    assert_parity("hfgi", f"{key} norm", norms, file[f"{key}/norm"])


def test_both_networks(seeded):
    file, weights = seeded("enc_hfgi_nets")
    config = HfgiConfig()
    named = {f"{net}.{n}": a for net in ("residue", "grid_align") for n, a in weights(net).items()}
    params = merge(param_shapes(config), {n: a for n, a in named.items() if "tracked" not in n}, "golden")
    networks = Hfgi(config=config, params=params)
    a, b, small = (images(file, name) for name in ("img_a", "img_b", "img64_a"))
    for key, x in (("residue", a), ("residue_px64", small)):  # heads of 16 px are brought to 64
        scale, shift = jax.jit(networks.conditions)(x)
        assert_like(file, f"{key}/scale", scale)
        assert_like(file, f"{key}/shift", shift)
    assert_like(file, "grid_align/out", jax.jit(networks.aligned)(a, b))


def test_a_shape_that_is_none_is_refused():
    for changes, message in (
        ({"rises": ((8, 3), (3,))}, "goes down 3 times and up 2 times"),
        ({"in_channels": 1}, "makes 3 channels of images with 1"),
    ):
        with pytest.raises(ValueError, match=message):
            HfgiConfig(**changes)
