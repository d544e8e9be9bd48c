"""Cycle consistency: what it measures, of refined runs, too, and which runs have it."""

import colour
import jax
import numpy as np
import pytest

from lsap_jax.configuration import load_config
from lsap_jax.editing.direction import Direction
from lsap_jax.errors import LsapError
from lsap_jax.experiments.edit_quality import consistency
from lsap_jax.experiments.edit_quality.quality import MEASURES, Judges, measure_edits
from lsap_jax.experiments.edit_quality.tables import COMPARED, LOWER_IS_BETTER, ORDER
from lsap_jax.models.network_file import save
from lsap_jax.pixels import to_float, to_uint8
from lsap_jax.rendering.refinement import take
from lsap_jax.rendering.render import render
from lsap_jax.runs.refining import refining
from lsap_jax.runs.shipping import sha256_of
from lsap_jax.spaces import parse_space
from lsap_jax.testing import colour_encoder, tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation", "rows")
DEVICES = jax.local_devices()[:1]
IDS = [str(i) for i in range(4)]
SPACE = parse_space("w+")


@pytest.fixture(scope="module")
def rows():
    with pytest.MonkeyPatch.context() as patch:
        colour.add_rows(patch)
        yield


@pytest.fixture(scope="module")
def run(rows, tmp_path_factory):
    """A generator, an encoder, the codes of four images, and the record of a run that was refined by half."""
    G = tiny_generator()
    E = colour_encoder(G)
    path = tmp_path_factory.mktemp("encoders") / "e.safetensors"
    save(path, E, {})
    codes = {"w": np.random.default_rng(0).standard_normal((4, G.num_ws, G.w_dim)).astype(np.float32)}
    record = {"config": load_config("e4e").to_dict(), "encoder": {"name": str(path), "sha256": sha256_of(E)}}
    return G, E, codes, {**record, "refinement": refining(G, "colour", None, {"share": 0.5}).record}


def by_hand(G, E, codes, d, strength, shifts, share):
    """The picture is rendered with its shift, inverted, shifted again by the share of what its mean colour lacks, and
    moved back.
    """
    step = np.float32(strength) * d.vector

    def shown(w, shift):
        return np.clip(np.asarray(G.synthesis(w)) + shift, -1, 1)

    pictures = to_float(to_uint8(shown(codes["w"] + step, shifts)))
    small = pictures.reshape(4, 8, 2, 8, 2, 3).mean(axis=(2, 4))  # the encoder sees them reduced by another filter
    found = np.asarray(E(small, G))
    again = share * (pictures - np.asarray(G.synthesis(found))).mean(axis=(1, 2), keepdims=True)
    return np.square(shown(found - step, again) - shown(codes["w"], shifts)).mean(axis=(1, 2, 3))


@pytest.mark.parametrize("share", [None, 0.5])
def test_it_is_what_the_picture_that_comes_back_lacks(run, share):
    G, E, codes, record = run
    d = Direction(name="d", space="w", vector=np.random.default_rng(1).standard_normal(G.w_dim).astype(np.float32))
    shifts, refinements = np.zeros((4, 1, 1, 3), np.float32), [None] * 4
    if share is None:
        record = {key: value for key, value in record.items() if key != "refinement"}
    else:
        refiner = refining(G, "colour", None, {"share": share}).refiner
        targets = to_float(tiny_images(4))
        _, both = refiner(G, SPACE, codes, targets, None, None)
        refinements = [jax.tree.map(np.asarray, take(both, i)) for i in range(4)]
        shifts = share * (targets - np.asarray(G.synthesis(codes["w"]))).mean(axis=(1, 2), keepdims=True)
    again = consistency.again_by(consistency.inverter_of(G, record, 4, DEVICES), IDS)
    refined = consistency.refined_by(consistency.refiner_of(G, SPACE, record, 4, DEVICES), IDS)
    found = measure_edits(
        G, SPACE, codes, [d], (0.0, 2.0), Judges(), refinements=refinements, again=again, refined=refined,
        batch_size=4, devices=DEVICES,
    ).arrays  # fmt: skip
    for k, strength in enumerate((0.0, 2.0)):
        wanted = by_hand(G, E, codes, d, strength, shifts, share or 0)
        np.testing.assert_allclose(found["cycle"][0, k], wanted, rtol=0.02)
        assert (wanted > 1e-3).all()
    without = measure_edits(G, SPACE, codes, [d], (2.0,), Judges(), again=again, batch_size=4, devices=DEVICES).arrays
    assert "cycle" not in without and without["lec"].shape == (1, 1, 4)


def test_images_that_come_back_have_none(run):
    """An inversion that gives the code of the edit itself undoes it, and what refined the image serves again."""
    G, _, codes, _ = run
    d = Direction(name="d", space="w", vector=np.ones(G.w_dim, np.float32))
    first = render(G, SPACE, codes)
    moved = {"w": codes["w"] + np.float32(2)}
    own = consistency.refined_by(None, IDS)
    measured = consistency.measurer(G, SPACE, lambda image, pictures: moved, 4, DEVICES, own, first)
    pictures = np.zeros((4, 16, 16, 3), np.uint8)
    found = measured(codes, pictures, np.arange(4), d, np.full(4, 2.0, np.float32))
    assert found["cycle"].max() < 1e-10 and found["lec"].max() < 1e-4


def test_a_picture_that_cannot_be_refined_again_is_left_out(run):
    G, _, codes, record = run
    worker = consistency.refiner_of(G, SPACE, record, 4, DEVICES)
    broken = {"w": codes["w"].copy()}
    broken["w"][1] = np.nan
    moved, refinements = consistency.refined_by(worker, IDS)(np.arange(4), tiny_images(4), broken)
    assert [one is None for one in refinements] == [False, True, False, False]
    assert np.isnan(moved["w"][1]).all() and np.isfinite(moved["w"][[0, 2, 3]]).all()


def test_which_runs_are_refined_again(run):
    G, _, _, record = run
    own = record["refinement"]
    assert consistency.refined_again({}, 0) and consistency.refined_again(record, 0)
    assert not consistency.refined_again({"refinement": {**own, "masked": True}}, 0)
    steps = {"refinement": {**own, "options": {"steps": 20}}}
    assert consistency.refined_again(steps, 20) and not consistency.refined_again(steps, 19)
    assert consistency.refiner_of(G, SPACE, {"config": record["config"]}, 4) is None
    other = {**record, "refinement": {**own, "sha256": "0" * 64}}
    with pytest.raises(LsapError, match="the generator: its networks of colour are not those of the run any more"):
        consistency.refiner_of(G, SPACE, other, 4)


def test_it_stands_beside_the_latent_one_in_tables():
    for names in (ORDER, COMPARED, LOWER_IS_BETTER, tuple(MEASURES)):
        assert names.index("cycle") == names.index("lec") + 1
