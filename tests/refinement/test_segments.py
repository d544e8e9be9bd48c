"""Segments of an image: SLIC's superpixels, and the grid that stands in for them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsap_jax.errors import LsapError
from lsap_jax.refinement.segments import best_kind, segments

COLOURS = np.repeat(np.array([[250, 20, 20], [20, 20, 250]], np.uint8), 16, axis=0)  # [32, 3]: red, then blue
IMAGE = np.broadcast_to(COLOURS, (32, 32, 3))


@settings(max_examples=50, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), count=st.integers(1, 400))
def test_a_grid_numbers_every_cell(height, width, count):
    found = segments(np.zeros((height, width, 3), np.uint8), "grid", count)
    assert found.shape == (height, width)
    assert found.dtype == np.int32
    assert np.array_equal(np.unique(found), np.arange(found.max() + 1))
    assert found.max() < count
    cells = [np.argwhere(found == cell) for cell in range(found.max() + 1)]
    for cell in cells:  # each is a rectangle without holes
        assert len(cell) == np.prod(np.ptp(cell, axis=0) + 1)


def test_superpixels_keep_to_edges_whatever_the_order_of_channels():
    pytest.importorskip("skimage")
    for order in ("rgb", "bgr"):
        found = segments(IMAGE, "slic", 9, order=order, sigma=0)
        assert np.array_equal(np.unique(found), np.arange(found.max() + 1))
        assert not set(found[:, :16].ravel()) & set(found[:, 16:].ravel())  # no segment is of both colours
    assert np.array_equal(segments(IMAGE, "slic", 9, order="bgr"), segments(IMAGE[..., ::-1], "slic", 9))


def test_grey_images_have_superpixels():
    pytest.importorskip("skimage")
    assert segments(IMAGE[..., :1], "slic", 9).max() > 1


def test_without_scikit_image_there_is_a_grid(monkeypatch):
    monkeypatch.setattr("lsap_jax.refinement.segments.find_spec", lambda name: None)
    assert best_kind() == "grid"
    with pytest.raises(LsapError, match="superpixels need scikit-image"):
        segments(IMAGE, "slic")


@pytest.mark.parametrize("wrong", [{"kind": "bisenet"}, {"count": 0}, {"order": "gbr"}])
def test_unknown_values_are_refused(wrong):
    with pytest.raises(LsapError, match="segments: kind="):
        segments(IMAGE, **wrong)
