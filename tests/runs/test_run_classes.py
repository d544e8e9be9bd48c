"""Classes of images in runs: their file, their record, and results that depend on the own class alone."""

import json

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lsap_jax
from lsap_jax.configuration import load_config
from lsap_jax.data import from_arrays
from lsap_jax.editing.between import interpolate, mix_styles
from lsap_jax.errors import LsapError
from lsap_jax.experiments.edit_quality.quality import genuine_logits
from lsap_jax.inversion.inverter import Inverter
from lsap_jax.inversion.jobs import Job
from lsap_jax.runs.classes import describe_classes, labels_by_id, labels_of, read_classes, used_for
from lsap_jax.runs.evaluation import genuine_nscd
from lsap_jax.runs.run import run
from lsap_jax.spaces import statistics
from lsap_jax.storage.results import read_code, read_run
from lsap_jax.testing import tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation")

IDS = ("a", "sub/b", "c")
CLASSES = (4, 0, 2)
SPACES = ("z+", "f/z+", "w", "s", "pn", "pn+", "projector", "bdinvert", "lsap_o")


@pytest.fixture(scope="module")
def conditional():
    return tiny_generator(classes=5, discriminator=False)


@pytest.fixture(scope="module", autouse=True)
def few_samples():
    """Latent statistics of few samples."""
    with pytest.MonkeyPatch.context() as patch:
        few = {"samples": 400, "anchor_samples": 300}
        whole = statistics.compute_statistics
        patch.setattr(statistics, "compute_statistics", lambda G, report=None: whole(G, **few, report=report))
        yield
    statistics._computed_once.cache_clear()


# ---------------------------------------------------------------------------------------------------------------------
# The file


def test_a_file_gives_each_image_its_class(tmp_path):
    file = tmp_path / "classes.csv"
    file.write_bytes("\ufeffid,class\r\nsub/b,0\r\n\r\na, 4\r\nc,00000000000000000000002\r\n".encode())
    found = read_classes(file, 5, IDS)
    assert tuple(found) == IDS and [int(label.argmax()) for label in found.values()] == list(CLASSES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "its first line is ''"),
        ("id,class\n", "has no class for 'a' (and 2 more)"),
        ("id,label\na,1\n", "its first line is 'id,label'; it has to be 'id,class'"),
        ("id,class\na,1\nc,2\n", "has no class for 'sub/b'"),
        ("id,class\na,1\nsub/b,0\nc,2\nd,1\n", "'d' is none of the images"),
        ("id,class\na,1\na,1\nsub/b,0\nc,2\n", "line 3: 'a' is there twice"),
        ("id,class\n\na,1\nsub/b,x\nc,2\n", "line 4: 'sub/b,x' is not an id and the number of a class"),
        ("id,class\na,1.0\nsub/b,0\nc,2\n", "line 2: 'a,1.0'"),
        ("id,class\na,-1\nsub/b,0\nc,2\n", "line 2: 'a,-1'"),
        ("id,class\na\nsub/b,0\nc,2\n", "line 2: 'a'"),
        ("id,class\na,1,2\nsub/b,0\nc,2\n", "line 2: 'a,1,2'"),
        ("id,class\na,\u0663\nsub/b,0\nc,2\n", "line 2:"),
        ("id,class\na,1\nsub/b,5\nc,2\n", "there is no class 5; the 5 classes are 0 to 4"),
        ("id,class\na,1\nsub/b,99999999999999999999999\nc,2\n", "there is no class"),
        ('id,class\na,"1', "is not a CSV file"),
        ("id,class\na,1\udcff\n", "is not a CSV file"),
    ],
)
def test_a_file_of_other_things_is_refused(tmp_path, text, message):
    file = tmp_path / "classes.csv"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(LsapError) as refusal:
        read_classes(file, 5, IDS)
    assert message in str(refusal.value) and str(file) in str(refusal.value) and "\n" not in str(refusal.value)


def test_what_is_no_file_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "missing.csv"):
        with pytest.raises(LsapError, match="is not a file"):
            read_classes(path, 5, IDS)


# ---------------------------------------------------------------------------------------------------------------------
# The record


@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.lists(st.integers(0, 4), min_size=1, max_size=6))
def test_the_record_is_that_of_these_classes(first, second):
    one, other = (labels_by_id(5, np.array(c), [str(i) for i in range(len(c))]) for c in (first, second))
    described = json.loads(json.dumps(describe_classes(one)))
    assert described["labels"] == sorted(set(first))
    assert {label.tobytes() for label in labels_of(described, 5)} == {label.tobytes() for label in one.values()}
    alike = set(first) == set(second) if len(set(first)) == 1 else first == second
    assert (describe_classes(other) == described) == alike


def test_label_vectors_are_recorded_as_they_are():
    c = np.array([[0.25, 0.75, 0, 0, 0], [0, 0, 1, 0, 0]], np.float32)
    described = json.loads(json.dumps(describe_classes(labels_by_id(5, c, ["a", "b"]))))
    assert described["labels"] == [2, [0.25, 0.75, 0.0, 0.0, 0.0]]
    assert {label.tobytes() for label in labels_of(described, 5)} == {label.tobytes() for label in c}


@pytest.mark.parametrize("damaged", [{}, {"labels": []}, {"labels": [9]}, {"labels": [[1, 0]]}, {"labels": [[[1], 2]]}])
def test_a_damaged_record_is_refused(damaged):
    with pytest.raises(LsapError, match="run.json"):
        labels_of(damaged, 5)


# ---------------------------------------------------------------------------------------------------------------------
# Results


def check_independence(G, space):
    """Codes among images of other classes are those alone, bit for bit, and render to what is shown."""
    images = tiny_images(3)
    found = lsap_jax.invert(G, images, space, steps=3, c=CLASSES, ids=IDS)
    np.testing.assert_array_equal(found.codes["c"], np.eye(5, dtype=np.float32)[list(CLASSES)])
    alone = lsap_jax.invert(G, images[2:], space, steps=3, c=CLASSES[2], ids=IDS[2:])
    for key, codes in found.codes.items():
        np.testing.assert_array_equal(alone.codes[key][0], codes[2], err_msg=f"{space} {key}")
    np.testing.assert_array_equal(lsap_jax.render(G, found.space, found.codes), found.images)
    return found


def test_a_class_does_not_change_the_neighbours(conditional):
    """Two images in one batch: the class of one decides its own code, and not that of the other."""
    labels = labels_by_id(5, CLASSES, IDS)
    config = load_config("z", {"steps": 1, "batch_size": 2})
    inverter = Inverter(used_for(conditional, labels), config)
    image = tiny_images(1)[0]

    def codes(*classes):
        jobs = [Job(id=id, image=image, start={"c": labels[k]}) for id, k in zip("xy", classes, strict=True)]
        return [found.codes for found in inverter(jobs)]

    first, second = codes("a", "c"), codes("a", "sub/b")
    np.testing.assert_array_equal(first[0]["z"], second[0]["z"])
    assert not np.array_equal(first[1]["z"], second[1]["z"])
    assert [int(code["c"].argmax()) for code in (*first, second[1])] == [4, 2, 0]
    with pytest.raises(LsapError, match="x: has no class"):
        inverter([Job(id="x", image=image)])


@pytest.mark.slow
@pytest.mark.usefixtures("full_compilation")
@pytest.mark.parametrize("space", SPACES)
def test_no_space_mixes_classes(conditional, space):
    check_independence(conditional, space)


def test_without_a_class_there_is_an_error_before_anything_is_computed(conditional):
    images = tiny_images(2)
    for space, options in (
        ("z", {}),
        ("f/z+", {}),
        ("pn", {}),
        ("w+", {"loss.nscd": 1.0}),
        ("w", {"init.detail": "random"}),
    ):
        with pytest.raises(LsapError, match="conditional and needs one of its 5 classes"):
            lsap_jax.invert(conditional, images, space, steps=1, **options)
    with pytest.raises(LsapError, match="unconditional and takes no class"):
        lsap_jax.invert(tiny_generator(discriminator=False), images, "w", steps=1, c=0)


def test_codes_of_z_need_their_labels(conditional):
    z = np.random.default_rng(0).standard_normal((2, 16), dtype=np.float32)
    with pytest.raises(LsapError, match="codes of space z without labels c"):
        lsap_jax.render(conditional, "z", {"z": z})
    with pytest.raises(LsapError, match="unconditional"):
        lsap_jax.render(tiny_generator(discriminator=False), "z", {"z": z, "c": [0, 1]})
    shown, zero, one = (lsap_jax.render(conditional, "z", {"z": z, "c": c}, 1) for c in ([0, 1], [0, 0], 1))
    np.testing.assert_array_equal(shown, np.stack([zero[0], one[1]]))
    assert not np.array_equal(zero[0], one[0])


def test_statistics_are_those_of_the_class(conditional):
    """w of samples with the label, in float64; each image is compared with those of its own class."""
    c = np.eye(5, dtype=np.float32)[[2, 4]]
    G = statistics.with_class_means(statistics.with_statistics(conditional.for_classes(c)))
    own = G.given(c[::-1])
    rng = jax.random.fold_in(jax.random.key(0), 0)
    z = jax.random.normal(rng, (statistics.CHUNK, G.z_dim))
    for k, label in enumerate(c[::-1]):
        w = np.asarray(conditional.map_w(z, np.broadcast_to(label, (len(z), 5))), np.float64)
        np.testing.assert_allclose(own.statistics.w_mean[k], w[:400].mean(axis=0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(own.mean_w[k], w.mean(axis=0), rtol=1e-5, atol=1e-6)
    space = lsap_jax.parse_space("w")
    level = genuine_nscd(G, space, c)
    each = [float(genuine_nscd(conditional.for_classes(c[k : k + 1]), space, c[k : k + 1])[0]) for k in (0, 1)]
    np.testing.assert_allclose(level, each, rtol=1e-5)
    assert level[0] != level[1]


def test_statistics_of_classes_are_cached_apart(conditional):
    G = conditional.replace(source="/nowhere/g.safetensors")
    names = [statistics.cache_places(G.for_classes(np.eye(5)[k : k + 1]))[0].name for k in (0, 3)]
    assert names == [f"{G.network_sha256[:16]}-class{k}.statistics" for k in (0, 3)]
    assert names[0] != statistics.cache_places(G.for_classes(np.full((1, 5), 0.2)))[0].name


def test_between_classes(conditional):
    """Labels go along in z; where rows or coordinates belong to a class, images of two classes are refused."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal((2, 6, 16), dtype=np.float32)
    a, b = {"z": z[:1], "c": [1]}, {"z": z[1:], "c": [3]}
    way = interpolate(conditional, "z+", a, b, [0.0, 0.25, 1.0])
    np.testing.assert_allclose(way.codes["c"][:, 0, [1, 3]], [[1, 0], [0.75, 0.25], [0, 1]], atol=1e-6)
    same = interpolate(conditional, "z+", a, {**b, "c": [1]}, [0.3])
    np.testing.assert_array_equal(same.codes["c"][0], np.eye(5, dtype=np.float32)[[1]])
    with pytest.raises(LsapError, match="different classes do not mix"):
        mix_styles(conditional, "z+", a, b, "4-5")
    assert mix_styles(conditional, "w+", {"w": z[:1], "c": [1]}, {"w": z[1:], "c": [3]}, "4-5")["c"][0, 1] == 1
    p = {"p": z[:1, 0], "c": [1]}, {"p": z[1:, 0], "c": [3]}
    with pytest.raises(LsapError, match="no way between"):
        interpolate(conditional, "pn", *p, [0.5])


def test_a_run_records_classes_and_goes_on_with_them_alone(conditional, tmp_path):
    source = from_arrays(tiny_images(3), IDS, resolution=16, channels=3)
    config = load_config("z", {"steps": 1, "batch_size": 2})
    labels = labels_by_id(5, CLASSES, IDS)

    def inverted(classes):
        return run(conditional, source, config, tmp_path / "run", generator_name="tiny", classes=classes)

    assert inverted(labels).done == 3
    assert read_run(tmp_path / "run")["classes"]["labels"] == [0, 2, 4]
    for id, label in labels.items():
        np.testing.assert_array_equal(read_code(tmp_path / "run", id)["c"], label)
    assert inverted(labels).skipped == 3
    swapped = dict(zip(IDS, reversed(labels.values()), strict=True))
    with pytest.raises(LsapError, match="other settings .classes.by_id_sha256 was"):
        inverted(swapped)
    with pytest.raises(LsapError, match="needs one of its 5 classes"):
        inverted(None)
    with pytest.raises(LsapError, match=r"classes.labels was \[0, 2, 4\], is \[1\]"):
        inverted(labels_by_id(5, 1, IDS))


@pytest.mark.slow
def test_genuine_samples_are_judged_by_their_classes_in_turn():
    G = tiny_generator(classes=5).for_classes(np.eye(5)[[1, 3]])
    found = genuine_logits(G, 3)
    z = np.random.default_rng(0).standard_normal((3, 16), dtype=np.float32)
    z = np.asarray(lsap_jax.parse_space("z").retract({"z": z})["z"])
    c = np.asarray(G.labels)[[0, 1, 0]]
    images = lsap_jax.render(G, "z", {"z": z, "c": c})
    wanted = [float(G.discriminator(images[i : i + 1], c[i : i + 1])[0, 0]) for i in range(3)]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    other = [float(G.discriminator(images[i : i + 1], c[1:2])[0, 0]) for i in range(3)]
    assert abs(found[0] - other[0]) > 1e-4
