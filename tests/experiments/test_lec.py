"""Latent editing consistency: what it measures, and who inverts pictures again."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsap_jax.configuration import load_config
from lsap_jax.editing.direction import Direction
from lsap_jax.editing.moves import move
from lsap_jax.encoding.attach import with_encoder
from lsap_jax.errors import LsapError
from lsap_jax.experiments.edit_quality.consistency import again_by, comes_again, inverter_of, measurer
from lsap_jax.experiments.edit_quality.quality import Judges, measure_edits
from lsap_jax.metrics.consistency import lec, trimmed
from lsap_jax.models.network_file import save
from lsap_jax.pixels import to_float, to_uint8
from lsap_jax.rendering.render import render
from lsap_jax.runs.shipping import sha256_of
from lsap_jax.spaces import parse_space
from lsap_jax.testing import colour_encoder, tiny_generator

pytestmark = pytest.mark.usefixtures("quick_compilation", "colour_rows")
ALONE = {"batch_size": 4, "devices": jax.local_devices()[:1]}


@pytest.fixture(scope="module")
def encoded(colour_rows, tmp_path_factory):
    """A generator, an encoder for it, and the record of a run that it made."""
    G = tiny_generator()
    E = colour_encoder(G)
    path = tmp_path_factory.mktemp("encoders") / "e.safetensors"
    save(path, E, {})
    record = {"config": load_config("e4e").to_dict(), "encoder": {"name": str(path), "sha256": sha256_of(E)}}
    return G, E, record


def test_it_is_the_distance_that_the_edit_does_not_give_back(encoded):
    """By hand: |w - (E(G(w + d)) - d)| over all rows."""
    G, E, record = encoded
    space, rng = parse_space("w+"), np.random.default_rng(0)
    codes = {"w": rng.standard_normal((6, G.num_ws, G.w_dim)).astype(np.float32)}
    d = Direction(name="d", space="w", vector=rng.standard_normal(G.w_dim).astype(np.float32))
    again = again_by(inverter_of(G, record, 4, ALONE["devices"]), [str(i) for i in range(6)])
    found = measure_edits(G, space, codes, [d], (0.0, 2.0), Judges(), again=again, **ALONE).arrays["lec"]
    for k, strength in enumerate((0.0, 2.0)):
        step = np.float32(strength) * d.vector
        pictures = to_float(to_uint8(render(G, space, {"w": codes["w"] + step}, 4)))
        small = pictures.reshape(6, 8, 2, 8, 2, 3).mean(axis=(2, 4))  # the encoder sees them reduced by another filter
        back = np.asarray(E(small, G)) - step
        np.testing.assert_allclose(found[0, k], np.linalg.norm((back - codes["w"]).reshape(6, -1), axis=1), rtol=5e-3)


def test_codes_that_come_back_have_none(encoded):
    G, _, _ = encoded
    for name, key in (("w+", "w"), ("z+", "z")):
        space = parse_space(name)
        codes = {key: np.random.default_rng(1).standard_normal((3, G.num_ws, 16)).astype(np.float32)}
        codes = {k: np.asarray(v) for k, v in space.retract(codes).items()}
        d = Direction(name="d", space=key, vector=np.ones(16, np.float32))
        still = measurer(G, space, lambda image, pictures, codes=codes: codes, 4, ALONE["devices"])
        assert (
            still(codes, np.zeros((3, 16, 16, 3), np.uint8), np.arange(3), d, np.zeros(3, np.float32))["lec"] == 0
        ).all()
        there = move(G, space, codes, d, 0.9)
        came = measurer(G, space, lambda image, pictures, there=there: there, 4, ALONE["devices"])
        assert (
            came(codes, np.zeros((3, 16, 16, 3), np.uint8), np.arange(3), d, np.full(3, 0.9, np.float32))["lec"] < 1e-4
        ).all(), "on the sphere, too, a move is taken back"
        moved = still(codes, np.zeros((3, 16, 16, 3), np.uint8), np.arange(3), d, np.ones(3, np.float32))["lec"]
        assert (moved > 0.1).all(), "the code did not move, and was moved back"


def test_pictures_that_cannot_be_inverted_are_left_out():
    one = SimpleNamespace(codes={"w": np.ones((2, 3), np.float32)})
    again = again_by(lambda jobs: [None, one, None, None], ["a", "b"])  # two slots are empty
    found = again(np.array([1, 0]), np.zeros((2, 4, 4, 3), np.uint8))["w"]
    assert np.isnan(found[0]).all() and (found[1] == 1).all()
    with pytest.raises(LsapError, match="image b: the loss was not finite"):
        again_by(lambda jobs: [None], ["a", "b"])(np.array([1]), np.zeros((1, 4, 4, 3), np.uint8))


def test_encoders_come_again_and_optimisations_where_it_is_asked_for(encoded):
    G, E, record = encoded
    w, s = parse_space("w+"), parse_space("s")
    optimised = {"config": load_config("w+", {"steps": 20}).to_dict()}
    assert comes_again(record, w, 0) and not comes_again(record, w, -1) and not comes_again(record, s, 0)
    assert comes_again(optimised, w, 20) and not comes_again(optimised, w, 19)
    started = {"config": {**record["config"], "init": {**record["config"]["init"], "codes": "ab"}}}
    assert not comes_again(started, w, 0), "nobody has such a start for another picture"
    for method, steps, least in (("sam", 30, 30), ("styleres", 60, 60), ("styleres", 0, 0), ("pti", 30, 0)):
        refined = {**record, "refinement": {"method": method, "options": {"steps": steps}}}
        assert comes_again(refined, w, least), method
        assert least == 0 or not comes_again(refined, w, least - 1), "codes that moved, against codes that did not"
    other = {**record, "encoder": {**record["encoder"], "sha256": "0" * 64}}
    with pytest.raises(LsapError, match="is not the encoder of the run any more"):
        inverter_of(G, other, 4)
    own = with_encoder(G, replace(E, params={**E.params}))
    assert inverter_of(own, {"config": record["config"]}, 4).config.batch_size == 4


@given(st.integers(1, 4), st.integers(1, 60), st.integers(0, 3))
def test_trimming_leaves_out_what_is_outside_the_percentiles(directions, images, missing):
    values = np.random.default_rng(images).lognormal(size=(directions, 2, images))
    values[:, 1].flat[:missing] = np.nan
    found = trimmed(values)
    for column in range(2):
        own, kept = values[:, column], found[:, column]
        some = own[np.isfinite(own)]
        if len(some):
            low, high = np.percentile(some, [1, 99])
            np.testing.assert_array_equal(np.isfinite(kept), (own >= low) & (own <= high))
            np.testing.assert_array_equal(kept[np.isfinite(kept)], own[np.isfinite(kept)])
        else:
            assert np.isnan(kept).all()


def test_trimming_is_of_each_strength():
    values = np.stack([np.arange(200.0), 1000 + np.arange(200.0)])[None]
    assert np.isfinite(trimmed(values)).sum(axis=(0, 2)).tolist() == [196, 196]
    assert lec(np.zeros((2, 3, 4)), np.ones((2, 3, 4))).tolist() == pytest.approx([12**0.5] * 2)
