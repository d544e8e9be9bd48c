"""`lsap-jax refine --weights`: pictures that read the networks in the file, and a file that is gone or another one."""

import shutil
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from small_runs import write_run

from lsap_jax.cli import main
from lsap_jax.models.network_file import save
from lsap_jax.refinement.methods import REFINERS, Method
from lsap_jax.rendering import transforms
from lsap_jax.rendering.refinement import Refinement
from lsap_jax.storage.results import read_image, read_run
from lsap_jax.testing import tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation", "quick_whitening", "rows")
IDS = ("a", "b")


class Borrowed(transforms.Transform, kw_only=True):
    """features + amount · the largest kernel entry of the base-code encoder that comes with G."""

    parts: ClassVar[tuple[str, ...]] = ("basecode",)
    amount: jax.Array

    def __call__(self, features: jax.Array, *, G: Any, **_: Any) -> jax.Array:
        most = jnp.max(jnp.stack([jnp.abs(leaf).max() for leaf in jax.tree.leaves(G.parts["basecode"].params)]))
        return features + self.amount * most


class Borrower(struct.PyTreeNode):
    """A refiner whose transform reads a network that comes with G."""

    def __call__(self, G: Any, space: Any, codes: Any, images: jax.Array, rng: Any, mask: Any) -> Any:
        amount = jnp.full((len(images), 1, 1, 1), 0.1, jnp.float32)
        return dict(codes), Refinement(transforms={G.config.layers[-1].name: Borrowed(amount=amount)})


@pytest.fixture(scope="module")
def rows():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(REFINERS, "borrow", Method(make=lambda G, weights: Borrower()))
        patch.setitem(transforms.KINDS, "borrowed", Borrowed)
        yield


@pytest.fixture
def work(rows, tmp_path):
    """A folder with g.safetensors without an encoder, a run, e.safetensors with one, and another.safetensors."""
    tiny_generator(discriminator=False).save(tmp_path / "g.safetensors")
    for seed, name in ((0, "e"), (1, "another")):
        save(tmp_path / f"{name}.safetensors", tiny_generator(seed, basecode=True).parts["basecode"], {})
    G = tiny_generator(discriminator=False)
    write_run(tmp_path / "run", G, tmp_path / "g.safetensors", "w", IDS, tiny_images(len(IDS)))
    return tmp_path


def command(*words):
    return main([str(word) for word in words])


@pytest.mark.slow
def test_the_file_is_attached_wherever_pictures_are_made(work, capsys):
    weights, out = work / "e.safetensors", work / "refined"
    assert command("refine", work / "run", "--method=borrow", "--weights", weights, "--out", out) == 0
    recorded = read_run(out)["refinement"]
    assert recorded["weights"] == str(weights) and len(recorded["weights_sha256"]) == 64
    assert (read_image(out, "a").astype(int) - read_image(work / "run", "a")).max() > 3
    edits = ("edit", out, "--direction=random:0", "--strengths=0,1", "--out", work / "edits")
    for words in (("verify", out), ("evaluate", out), edits, ("verify", work / "edits")):
        assert command(*words) == 0, capsys.readouterr().err
    assert command("export", out, work / "codes.npz", "--ws") == 0
    assert np.load(work / "codes.npz")["ws"].shape[0] == len(IDS)

    moved = shutil.move(weights, work / "moved.safetensors")
    capsys.readouterr()
    for words in (("verify", out), ("evaluate", out), ("verify", work / "edits")):
        assert command(*words) == 2
        error = capsys.readouterr().err
        assert f"{weights}, the weights that it was refined with, was not found; name it with --weights" in error
        assert command(*words, "--weights", moved) == 0
        assert command(*words, "--weights", work / "another.safetensors") == 2
        assert "name the right file with --weights" in capsys.readouterr().err
    again = ("refine", work / "run", "--method=borrow", "--out", out, "--weights")
    assert command(*again, moved) == 0 and "2 of them earlier" in capsys.readouterr().out
    assert command(*again, work / "another.safetensors") == 2
    assert "refinement.weights_sha256 was" in capsys.readouterr().err
    assert command("verify", work / "run", "--weights", moved) == 2
    assert "was not refined with a file of weights; leave it out" in capsys.readouterr().err
