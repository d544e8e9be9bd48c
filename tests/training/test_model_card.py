"""The model card: its parts and its refusals; `test_training` writes a whole one."""

import jax
import numpy as np
import pytest

from lsap_jax.errors import LsapError
from lsap_jax.models.generator import Generator
from lsap_jax.testing import tiny_generator, tiny_images
from lsap_jax.training import model_card


@pytest.fixture(scope="module")
def G() -> Generator:
    return tiny_generator(img_resolution=8)


def test_nearest_images_are_nearest():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(30, 5))
    found = model_card.nearest(images[[7, 3]] + 1e-3, images)
    assert found.indices[:, 0].tolist() == [7, 3] and found.indices.shape == (2, 3)
    distances = np.linalg.norm(images[7] + 1e-3 - images, axis=1)
    np.testing.assert_allclose(found.distances[0], np.sort(distances)[:3], 1e-6)


def test_whitening_and_floor_take_different_images():
    own, apart = model_card.split_reference(101, 0)
    assert len(own) == len(apart) == 50 and not set(own) & set(apart)
    assert [len(part) for part in model_card.split_reference(9_600, 0)] == [2000, 2000]


def test_sizes_leave_buffers_out(G):
    total = sum(leaf.size for leaf in jax.tree.leaves(G.params["mapping"]))
    assert model_card.sizes(G)["mapping"] == total - G.w_dim
    assert model_card.sizes(G.without("discriminator")).keys() == {"mapping", "synthesis"}


def test_a_card_of_too_few_images_is_refused(tmp_path, G):
    with pytest.raises(LsapError, match="at least 32 training images"):
        model_card.write_model_card("g", tiny_images(8, 8), tiny_images(8, 8), tmp_path)


def test_the_card_s_command_explains_its_errors(tmp_path, capsys):
    status = model_card.main(["--generator", str(tmp_path / "no"), "--data", "x.npz", "--out", str(tmp_path)])
    assert status == 2 and "neither a file nor a bundled generator" in capsys.readouterr().err
