"""A parser of faces in SAM and DHR: its segments, its classes, and what is refused."""

import foreign_face_parser as foreign
import jax.numpy as jnp
import numpy as np
import pytest

import lsap_jax
from lsap_jax.errors import LsapError
from lsap_jax.models.face_parser import CLASSES, FaceParserNetwork
from lsap_jax.models.network_file import save
from lsap_jax.networks.face_parser import FaceParserConfig, param_shapes
from lsap_jax.refinement import domain
from lsap_jax.refinement.methods import make_refiner
from lsap_jax.refinement.parsing import domain_shares, face_segments, load_parser
from lsap_jax.testing import random_leaves, tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation")
LABELS = np.random.default_rng(0).integers(0, 19, (2, 16, 16))


@pytest.fixture(scope="module")
def G():
    return tiny_generator()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("parser") / "bisenet.pth"
    path.write_bytes(foreign.packed(foreign.foreign()))
    return str(path)


@pytest.fixture
def known(monkeypatch):
    """Parsers that see `LABELS`, of which they are sure."""
    shares = jnp.asarray(np.eye(19, dtype=np.float32)[LABELS])
    monkeypatch.setattr(FaceParserNetwork, "shares", lambda self, images: shares[: len(images)])


def test_sam_takes_the_face_as_one_segment(file, known):
    """The authors' list of classes, by number."""
    parser, x = load_parser(file), np.zeros((2, 16, 16, 3), np.float32)
    face = (1, 2, 3, 4, 5, 7, 8, 10, 11, 12, 13, 14)
    np.testing.assert_array_equal(face_segments(parser, x, "original"), np.where(np.isin(LABELS, face), 1, LABELS))
    with_hair = np.where(np.isin(LABELS, (*face, 17)), 1, LABELS)
    np.testing.assert_array_equal(face_segments(parser, x, "ganinverter"), with_hair)


def test_dhr_has_the_classes_in_its_own_order(file, known):
    shares = np.asarray(domain_shares(load_parser(file), np.zeros((2, 16, 16, 3), np.float32)))
    named = np.array(domain.CLASSES)[shares.argmax(-1)]
    np.testing.assert_array_equal(named, np.array(CLASSES)[LABELS])
    assert sorted(CLASSES) == sorted(domain.CLASSES)


def test_without_a_face_the_parser_says_nothing(file, monkeypatch):
    """The first image has hair and background alone: nothing is left out, and the threshold is that of no class."""
    labels = np.full((2, 4, 4), CLASSES.index("hair"))
    labels[:, :2] = CLASSES.index("background")
    labels[1, 3, 3] = CLASSES.index("face")
    shares = jnp.asarray(np.eye(19, dtype=np.float32)[labels])
    monkeypatch.setattr(FaceParserNetwork, "shares", lambda self, images: shares)
    found = domain_shares(load_parser(file), np.zeros((2, 4, 4, 3), np.float32))
    assert not np.asarray(found[0]).any() and (np.asarray(found[1]).sum(-1) == 1).all()
    how = {
        "thresholds": domain.Thresholds(other=1.0),
        "numbers": jnp.zeros((4, 4), jnp.int32),
        "count": 1,
        "mask": None,
    }
    inside = [np.asarray(domain.domain([jnp.full((4, 4), 0.5)], shares=one, **how)) for one in found]
    assert inside[0].all() and not inside[1][:2].any()


def test_a_pixel_may_be_partly_outside():
    """Half of background and hat together is out; the class of a segment is that of the largest sum."""
    shares = np.zeros((4, 4, 19), np.float32)
    names = domain.CLASSES.index
    shares[..., names("face")], shares[..., names("nose")] = 0.4, 0.1
    shares[:, :2, names("background")], shares[:, :2, names("hat")] = 0.25, 0.25
    shares[:, 2:, names("nose")] += 0.5
    numbers = jnp.asarray(np.repeat([[0, 0, 0, 1]], 4, 0))
    np.testing.assert_array_equal(domain.segment_classes(jnp.asarray(shares), numbers, 2), [2, names("nose")])
    limits = domain.Thresholds(face=1.0, features=0.0)
    found = domain.domain([jnp.full((4, 4), 0.5)], numbers, 2, None, thresholds=limits, shares=jnp.asarray(shares))
    np.testing.assert_array_equal(found, np.repeat([[0, 0, 1, 0]], 4, 0))


OPTIONS = {
    "sam": {"steps": 3, "map_steps": 2, "mvg": 0.0, "maps": "measured"},
    "dhr": {"steps": 2, "weight_steps": 1, "coarse_steps": 2, "segments": "grid", "count": 16, "rank": 1},
}


@pytest.mark.slow
@pytest.mark.parametrize("method", OPTIONS)
def test_images_are_refined_by_the_parts_of_faces(G, file, method):
    codes = {"w": np.asarray(G.mapping(np.random.default_rng(0).standard_normal((2, 16), np.float32)))}
    ref = lsap_jax.refine(G, ("w+", codes), tiny_images(2), method, parser=file, **OPTIONS[method])
    assert np.isfinite(ref.images).all() and ref.method["options"]["parser"] == file
    alone = lsap_jax.refine(G, ("w+", codes), tiny_images(2), method, parser=file, batch_size=1, **OPTIONS[method])
    np.testing.assert_array_equal(alone.images, ref.images)
    if method == "sam":
        assert ref.method["options"]["segments"] == "parser"


def test_what_does_not_go_together_is_refused(G, file, tmp_path):
    config = FaceParserConfig(classes=11, stem=4, widths=(4, 4, 4, 4), context=4, fused=4, squeezed=4, head=4)
    other = FaceParserNetwork(config=config, params=random_leaves(param_shapes(config), np.random.default_rng(0)))
    save(tmp_path / "other.safetensors", other, {})
    sam, dhr = {"maps": "measured", "mvg": 0.0}, {"segments": "grid"}
    for method, options, message in (
        ("sam", {**sam, "segments": "parser"}, "refine.segments='parser': needs a converted parser of faces"),
        ("sam", {**sam, "segments": "grid", "parser": file}, "refine.segments='grid': has no use for refine.parser"),
        ("dhr", {**dhr, "parsing": True, "parser": file}, "refine.parsing=True: masks are label maps"),
        ("dhr", {**dhr, "parser": str(tmp_path / "other.safetensors")}, "has 11 classes; choose a parser with the 19"),
        ("dhr", {**dhr, "parser": str(tmp_path / "none.pth")}, "none.pth"),
    ):
        with pytest.raises(LsapError, match=message) as error:
            make_refiner(method, G, None, options)
        assert "\n" not in str(error.value)
