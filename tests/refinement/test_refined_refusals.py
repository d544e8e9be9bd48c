"""What no method of refinement can take ends in one line, whatever the method."""

import colour
import numpy as np
import pytest
from small_runs import write_run

import lsap_jax
from lsap_jax.cli import main
from lsap_jax.errors import LsapError
from lsap_jax.models.hfgi import Hfgi
from lsap_jax.models.hyperstyle import HyperStyle
from lsap_jax.models.invertibility import InvertibilityNetwork
from lsap_jax.models.network_file import attach
from lsap_jax.models.styleres import StyleRes
from lsap_jax.networks.hfgi import HfgiConfig
from lsap_jax.networks.hyperstyle import HyperConfig
from lsap_jax.networks.invertibility import InvertibilityConfig
from lsap_jax.networks.styleres import StyleResConfig
from lsap_jax.refinement.methods import REFINERS
from lsap_jax.storage.results import read_failures
from lsap_jax.testing import tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation")
IDS = ("a", "b")
CODE = np.zeros((2, 6, 16), np.float32)


@pytest.fixture(scope="module")
def G():
    return tiny_generator()


@pytest.fixture(scope="module")
def work(G, tmp_path_factory):
    """g.safetensors with runs whose targets are right, small, and grey; and other.safetensors of 8 px."""
    folder = tmp_path_factory.mktemp("work")
    G.save(folder / "g.safetensors")
    tiny_generator(img_resolution=8).save(folder / "other.safetensors")
    for name, targets in (("run", tiny_images(2)), ("small", tiny_images(2, 8)), ("grey", tiny_images(2)[..., :1])):
        write_run(folder / name, G, folder / "g.safetensors", "w+", IDS, targets)
    return folder


# Networks of the methods that have some, for other generators than the tiny one: of more features, channels or blocks.
NETWORKS = {
    "hfgi": (Hfgi, HfgiConfig()),
    "hyperstyle": (HyperStyle, HyperConfig(slots=((0, 512, 512), (3, 512, 256)))),
    "styleres": (StyleRes, StyleResConfig()),
    "sam": (InvertibilityNetwork, InvertibilityConfig()),
}


@pytest.mark.parametrize("method", NETWORKS)
def test_networks_of_another_generator(G, method):
    holder, config = NETWORKS[method]
    with pytest.raises(LsapError, match="this generator") as error:
        attach(G, holder(config=config, params={}))  # refused by its config, before its params matter
    assert "\n" not in str(error.value)


def test_arrays_that_do_not_fit(G, monkeypatch):
    """Before a method computes: the smallest one stands for all."""
    colour.add_rows(monkeypatch)
    for codes, images, masks, message in (
        ({"w": CODE[..., :8]}, tiny_images(2), None, r"'w' has shape \(6, 8\), this run needs \(6, 16\)"),
        ({"w": CODE[:, :4]}, tiny_images(2), None, r"'w' has shape \(4, 16\), this run needs \(6, 16\)"),
        ({"z": CODE}, tiny_images(2), None, "codes of space w\\+ have w; missing: w"),
        ({"w": CODE}, tiny_images(3), None, "codes of 2 images and 3 targets"),
        ({"w": CODE}, tiny_images(2)[..., 0], None, r"\[N, H, W, C\] with at least one image is needed"),
        ({"w": CODE}, tiny_images(2), np.ones((2, 8, 8)), r"masks of shape \(2, 8, 8\) do not belong"),
        ({"w": CODE}, tiny_images(2), np.full((2, 16, 16), 2.0), r"masks must lie in \[0, 1\]"),
    ):
        with pytest.raises(LsapError, match=message) as error:
            lsap_jax.refine(G, ("w+", codes), images, "colour", masks=masks)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("method", REFINERS)
def test_files_that_do_not_fit(work, tmp_path, capsys, method):
    (tmp_path / "junk.pt").write_bytes(b"junk")
    for more, message in (
        (["--weights", work / "g.safetensors"], method),
        (["--weights", tmp_path / "junk.pt"], "junk.pt: starts with b'junk', which is not a known"),
        (["--weights", tmp_path / "none.pt"], "none.pt: no such file"),
        (["--generator", work / "other.safetensors"], "name the right file with --generator"),
        (["--config.refine.speed=3"], f"method {method!r}: has no option 'speed'"),
    ):
        words = ["refine", work / "run", "--method", method, "--out", tmp_path / "out", *more]
        assert main([str(word) for word in words]) == 2
        error = capsys.readouterr().err
        assert message.casefold() in error.casefold() and error.count("\n") == 1 and "unexpected" not in error
    assert not (tmp_path / "out").exists()


# Of methods that need no networks: what they would warn about.
ALONE = {"pti": [], "sam": ["maps=measured", "segments=grid", "mvg=0"], "dhr": ["segments=grid"]}


@pytest.mark.parametrize("method", ALONE)
@pytest.mark.parametrize(("run", "size"), [("small", "8x8x3"), ("grey", "16x16x1")])
def test_targets_of_another_size_fail(work, tmp_path, capsys, method, run, size):
    words = ["refine", work / run, "--method", method, "--out", tmp_path / "out"]
    words += [f"--config.refine.{option}" for option in ALONE[method]]
    assert main([str(word) for word in words]) == 1
    failed = read_failures(tmp_path / "out")
    assert failed.keys() == set(IDS)
    assert f"the target of a is {size}, the generator makes 16x16x3" in failed["a"]["reason"]
