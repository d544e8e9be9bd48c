"""Grids, strips, differences and the files they are written to."""

import numpy as np
import pytest
from PIL import Image

from lsap_jax.report.pictures import data_uri, difference
from lsap_jax.storage.pictures import grid, save_png


def test_grid_places_images_row_by_row():
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 3, 4, 1), np.uint8)
    canvas = grid(images, columns=2, padding=1, background=9)
    assert canvas.shape == (3 * 4 + 1, 2 * 5 + 1, 1)
    assert canvas[1 + 2 * 4, 1, 0] == 4 and canvas[1, 6, 0] == 1 and canvas[-2, -2, 0] == 9 and canvas[0, 0, 0] == 9
    for wrong in (images[:0], images.astype(np.float32), images[0]):
        with pytest.raises(ValueError, match="uint8"):
            grid(wrong)


def test_difference_and_png_round_trip(tmp_path):
    a = np.array([[[0, 100, 255]]], np.uint8)
    b = np.array([[[10, 90, 0]]], np.uint8)
    np.testing.assert_array_equal(difference(a, b, 4), [[[40, 40, 255]]])
    path = save_png(tmp_path / "sub" / "x.png", a)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), a)
    grey = save_png(tmp_path / "grey.png", a[..., :1])
    np.testing.assert_array_equal(np.asarray(Image.open(grey)), a[..., 0])
    assert data_uri(np.zeros((300, 600, 3), np.uint8)).startswith("data:image/jpeg")
    with pytest.raises(ValueError, match="uint8"):
        save_png(path, np.zeros((2, 2, 4), np.uint8))
