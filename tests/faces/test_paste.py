"""Squares put back into the photographs that they were cut out of."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lsap_jax.faces.align import cut_out
from lsap_jax.faces.paste import paste


def smooth(height, width, seed=0):
    """A photograph without detail that a resampling would lose."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    return np.array(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def square(centre, side, angle):
    x = np.array([np.cos(angle), np.sin(angle)]) * side / 2
    y = np.array([-x[1], x[0]])
    return np.asarray(centre) + np.stack([-x - y, -x + y, x + y, x - y])


def places(quad, height, width):
    """Of every pixel's centre in the square, from 0 to 1: [H, W, 2]."""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    away = np.stack([x, y], -1) - quad[0]
    sides = np.stack([quad[3] - quad[0], quad[1] - quad[0]])
    return away @ sides.T / np.square(sides).sum(1)


@settings(max_examples=30, deadline=None)
@given(
    x=st.floats(10, 110),
    y=st.floats(10, 80),
    side=st.floats(20, 90),
    angle=st.floats(-3.2, 3.2),
    resolution=st.sampled_from([24, 64, 128]),
)
def test_what_was_cut_out_and_put_back_is_the_photograph(x, y, side, angle, resolution):
    """Turned, over the edge, reduced or enlarged: pixels outside of the square stay, those inside come back."""
    photograph, quad = smooth(90, 120), square((x, y), side, angle)
    found = paste(photograph, cut_out(photograph, quad, resolution), quad)
    assert found.shape == photograph.shape and found.dtype == np.uint8
    inside = ((places(quad, 90, 120) > 0) & (places(quad, 90, 120) < 1)).all(-1)
    np.testing.assert_array_equal(found[~inside], photograph[~inside])
    assert not inside.any() or np.abs(found.astype(int) - photograph)[inside].mean() < 3


@settings(max_examples=20, deadline=None)
@given(angle=st.floats(-3.2, 3.2), feather=st.sampled_from([0.0, 0.1, 0.5]), resolution=st.sampled_from([16, 200]))
def test_a_square_fades_in_from_its_edge(angle, feather, resolution):
    photograph, quad = np.zeros((90, 120, 3), np.uint8), square((60, 45), 50, angle)
    white = np.full((resolution, resolution, 1), 255, np.uint8)
    found = paste(photograph, white, quad, feather)[..., 0] / 255
    place = places(quad, 90, 120)
    way = np.minimum(place, 1 - place).min(-1)
    t = np.clip(way / feather, 0, 1) if feather else (way > 0) * 1.0
    sure = np.abs(way) > 0.05  # Pillow's bicubic has no pixels beyond the edge
    np.testing.assert_allclose(found[sure], (t * t * (3 - 2 * t))[sure], atol=0.01)


def test_corners_keep_their_places():
    """Each quarter of a square has its own colour, as the face stands."""
    colours = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 0]]], np.uint8)
    own, quad = colours.repeat(16, 0).repeat(16, 1), square((30, 30), 40, np.pi / 2)
    found = paste(np.zeros((60, 60, 3), np.uint8), own, quad)
    # Turned by a quarter clockwise: the upper left of the face is at the upper right.
    for (x, y), colour in (((40, 20), 0), ((40, 40), 1), ((20, 20), 2), ((20, 40), 3)):
        np.testing.assert_array_equal(found[y, x], colours.reshape(4, 3)[colour])


@pytest.mark.parametrize("centre", [(-100, 20), (500, 500)])
def test_a_square_outside_changes_nothing(centre):
    photograph = smooth(40, 50)
    np.testing.assert_array_equal(paste(photograph, smooth(16, 16, 1), square(centre, 30, 0.3)), photograph)
