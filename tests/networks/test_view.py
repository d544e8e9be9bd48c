"""What encoders see of a generator's image: the originals' filter and size, on the host and on the device."""

import numpy as np
import pytest
from PIL import Image

from lsap_jax.data.fitting import fit_picture
from lsap_jax.inversion import jobs
from lsap_jax.networks.view import View, middle, square, viewed
from lsap_jax.testing import tiny_images

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "lanczos": Image.Resampling.LANCZOS}


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize(("side", "height", "width"), [(64, 16, 16), (64, 12, 16), (24, 20, 20), (8, 20, 20)])
def test_resized_as_by_pillow(filter, side, height, width):
    """Training and test pictures of the originals go through torchvision's Resize, which is Pillow's for pictures."""
    view = View(height, width, filter)
    x = np.random.default_rng(side).uniform(-1, 1, (2, side, side, 1)).astype(np.float32)
    rows = x[:, side // 8 : side - side // 8] if view.barred else x
    size = (view.width, view.height)
    expected = [np.asarray(Image.fromarray(one[..., 0], "F").resize(size, FILTERS[filter])) for one in rows]
    np.testing.assert_allclose(viewed(x, view)[..., 0], expected, atol=2e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_targets_are_seen_as_the_originals_saw_the_pictures(channels):
    """A picture of 4 by 3 px of the generator's width, through the target with bars, to the pixel of a plain Resize."""
    picture = Image.fromarray(tiny_images(1, 64)[0][8:56])
    picture = picture.convert("L") if channels == 1 else picture
    target, notes = fit_picture(picture, resolution=64, channels=channels, fit="bars")
    assert not notes and not target[:8].any() and not target[56:].any()
    found = jobs.viewed(target[None], View(12, 16, "bilinear"))[0]
    expected = np.asarray(picture.resize((16, 12), Image.Resampling.BILINEAR)).reshape(12, 16, channels)
    np.testing.assert_array_equal(found, expected)
    whole = jobs.viewed(target[None], square(16, "bilinear"))[0]
    np.testing.assert_array_equal(
        whole, np.asarray(Image.fromarray(target.squeeze()).resize((16, 16), 2)).reshape(whole.shape)
    )
    assert np.abs(jobs.viewed(target[None], square(16))[0].astype(int) - whole).max() > 2, "filters differ"


def test_nothing_is_done_to_what_fits():
    x = tiny_images(1)
    assert jobs.viewed(x, square(16)) is not None and np.shares_memory(jobs.viewed(x, square(16)), x)
    np.testing.assert_array_equal(viewed(x, View(12, 16)), x[:, 2:14])
    assert middle(512, View(192, 256)) == slice(64, 448)


@pytest.mark.parametrize(
    ("size", "cut", "note"),
    [
        ((64, 48), (0, 0, 64, 48), None),
        ((128, 48), (32, 0, 96, 48), "cropped 128x48 to 64x48"),
        ((64, 64), (0, 8, 64, 56), "cropped 64x64 to 64x48"),
        ((67, 48), (1, 0, 65, 48), "cropped 67x48 to 64x48"),
    ],
)
def test_bars(size, cut, note):
    picture = Image.fromarray(np.random.default_rng(0).integers(1, 256, (*size[::-1], 3), np.uint8))
    target, notes = fit_picture(picture, resolution=64, channels=3, fit="bars")
    np.testing.assert_array_equal(target[8:56], np.asarray(picture.crop(cut)))
    assert not target[:8].any() and not target[56:].any()
    assert notes == ([note] if note else [])
