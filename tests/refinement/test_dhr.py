"""DHR of the tiny generator: what is refined, stored and shown, alone and in company, and of whole runs."""

import json
import signal
import subprocess
import sys
from functools import partial

import colour
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from small_runs import write_run

import lsap_jax
from lsap_jax.cli import main
from lsap_jax.configuration import load_config
from lsap_jax.data import open_images
from lsap_jax.data.bundled import sample_images
from lsap_jax.errors import LsapError
from lsap_jax.inversion.jobs import Job
from lsap_jax.refinement.dhr import OPTIONS, check_place, resolved
from lsap_jax.refinement.domain import CLASSES, Thresholds, domain, nearest, segment_levels
from lsap_jax.refinement.methods import make_refiner
from lsap_jax.refinement.segments import grid
from lsap_jax.rendering.refinement import from_arrays
from lsap_jax.runs.refining import RefiningWorker, refining
from lsap_jax.runs.worker import Failed, Result
from lsap_jax.spaces import parse_space
from lsap_jax.storage.results import read_arrays, read_manifest, read_run
from lsap_jax.testing import tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation")
COUNT = 3
FAST = {"steps": 4, "weight_steps": 2, "coarse_steps": 2, "lr_weights": 0.01, "segments": "grid", "count": 16}
HALF = np.zeros((COUNT, 16, 16), np.float32)
HALF[:, :8] = 1


@pytest.fixture(scope="module")
def G():
    return tiny_generator()


@pytest.fixture(scope="module")
def start(G):
    """(space, codes in W+, targets)"""
    w = np.random.default_rng(0).standard_normal((COUNT, G.num_ws, G.w_dim), np.float32)
    return "w+", {"w": w}, tiny_images(COUNT)


@pytest.fixture(scope="module")
def refined(quick_compilation, G, start):
    """Where the domain is the upper half, as every segment passes and a parser's masks allow that half."""
    space, codes, images = start
    return lsap_jax.refine(G, (space, codes), images, "dhr", masks=HALF, threshold=99.0, batch_size=2, **FAST)


def test_weights_and_features_make_the_images(G, start, refined):
    space, codes, images = start
    plain = lsap_jax.render(G, space, codes)
    gain = np.square(plain - (images / 127.5 - 1)) - np.square(refined.images - (images / 127.5 - 1))
    assert (gain[:, :8].mean((1, 2, 3)) > 0).all() and (gain[:, 8:].mean((1, 2, 3)) > 0).all()
    np.testing.assert_array_equal(refined.codes["w"], codes["w"])
    (place,) = refined.refinement.transforms
    assert place == "b8"  # what the block of 16 px reads
    one = refined.refinement.transforms[place]
    np.testing.assert_array_equal(one.scale[..., 0], np.repeat(HALF[:, ::2, :1], 8, axis=2))
    assert not np.any(np.asarray(one.shift)[:, :4]) and np.all(np.any(np.asarray(one.shift)[:, 4:], axis=-1))
    names = {name for name in refined.refinement.weights}
    assert "synthesis.b8.conv1.weight" in names and not any("noise_const" in n or "mapping" in n for n in names)
    assert all(np.array_equal(a, np.float16(a)) for a in jax.tree.leaves(refined.refinement))


def test_refined_codes_are_shown_and_edited(G, refined, start):
    shown = lsap_jax.render(G, refined.space, refined.codes, refinement=refined.refinement)
    np.testing.assert_allclose(shown, refined.images, atol=1e-6)
    edited = lsap_jax.edit(
        G, refined.space, refined.codes, "random:0", [0, 2], images=refined.images, refinement=refined.refinement
    )
    np.testing.assert_array_equal(edited.images[0], refined.images)
    assert np.abs(edited.images[1] - refined.images).max() > 0.01


def outcomes(G, start, devices, batch_size, at, **options):
    """Results of some images, in this order, by a worker of these devices."""
    space, codes, images = start
    config = load_config("encode", {"batch_size": batch_size})
    worker = RefiningWorker(G, parse_space(space), config, refining(G, "dhr", None, options), devices)
    jobs = [Job(id=str(i), image=images[i], start={key: a[i] for key, a in codes.items()}) for i in at]
    found = {}
    for batch in worker.batches(len(jobs)):
        some = [jobs[k] for k in batch]
        found |= dict(zip([job.id for job in some], worker(some), strict=True))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("devices", "segments"), [(1, "grid"), (2, "slic")])
def test_no_image_sees_its_neighbours_or_the_devices(G, devices, segments):
    """Batches of 1, 3 and 8, on one device and two: the same bits, also where one of the images is lost."""
    if segments == "slic":
        pytest.importorskip("skimage")
    one, both = jax.local_devices()[:devices], jax.local_devices()
    w = np.random.default_rng(1).standard_normal((8, G.num_ws, G.w_dim), np.float32)
    start = ("w+", {"w": w}, tiny_images(8, seed=3))
    options = {**FAST, "segments": segments, "threshold": 2.0}
    reference = outcomes(G, start, both[:1], 8, range(8), **options)
    w[5] = np.nan
    for some, size, at in ((both[:1], 1, [6]), (one, 3, [7, 6, 5, 0]), (both[:1], 8, range(4, 8))):
        for id, found in outcomes(G, start, some, size, at, **options).items():
            if id == "5":
                assert isinstance(found, Failed) and "is not finite" in found.reason
                continue
            for name, a in found.parts["refined"].items():
                np.testing.assert_array_equal(a, reference[id].parts["refined"][name], err_msg=f"{id} {name}")
            np.testing.assert_array_equal(found.parts["images"], reference[id].parts["images"])


@pytest.mark.slow
def test_a_trained_generator_has_the_same_domain_on_one_device_and_on_two(full_compilation):
    """The steps to the coarse codes amplify whatever else is rounded differently."""
    G = lsap_jax.load_generator("toonhead64")
    source = open_images(sample_images(), resolution=64, channels=3)
    images = np.stack([source.load(i).image for i in range(2)])
    inverted = lsap_jax.invert(G, images, "e4e", ids=["0", "1"])
    start = (inverted.space, inverted.codes, images)
    options = {"steps": 2, "weight_steps": 2, "coarse_steps": 20, "segments": "grid"}
    one, two = (outcomes(G, start, jax.local_devices()[:n], 2, range(2), **options) for n in (1, 2))
    for id, found in one.items():
        jax.tree.map(np.testing.assert_array_equal, found.parts["refined"], two[id].parts["refined"])
        np.testing.assert_array_equal(found.parts["images"], two[id].parts["images"])


@pytest.mark.slow
def test_a_loss_that_is_not_finite_leaves_the_best_step_and_a_flag(G, start):
    found = outcomes(G, start, None, 2, range(2), **{**FAST, "lr_weights": 1e30, "threshold": 99.0}, dtype="float32")
    plain = lsap_jax.render(G, *start[:2])
    for i in range(2):
        one = found[str(i)]
        assert isinstance(one, Result)
        assert one.flags == ("non-finite loss or gradient in the refinement; kept step 0",)
        np.testing.assert_allclose(one.parts["images"], plain[i], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.0, 99.0])
def test_a_region_may_be_empty(G, start, threshold):
    """All of an image in the domain, or nothing: no mean is over nothing, and the other part is refined."""
    space, codes, images = start
    found = lsap_jax.refine(G, (space, codes), images, "dhr", threshold=threshold, **FAST)
    before = lsap_jax.evaluate(G, space, codes, images)["mse"]
    assert (found.metrics["mse"] < before).all()
    moved = np.abs(np.asarray(found.refinement.weights["synthesis.b8.conv1.weight"].delta, np.float32)).max()
    assert (moved > 0) == (threshold > 0)
    assert np.all(np.asarray(found.refinement.transforms["b8"].scale) == (threshold > 0))


@pytest.mark.slow
@pytest.mark.parametrize("space", ["z+", "f/z+", "s"])
def test_codes_of_any_space(space):
    G = tiny_generator(img_resolution=32)
    inv = lsap_jax.invert(G, tiny_images(2, 32), space, steps=0)
    options = {**FAST, "layer": "b16"} if space == "f/z+" else FAST
    found = lsap_jax.refine(G, inv, tiny_images(2, 32), "dhr", rank=1, **options)
    assert (found.metrics["mse"] < inv.metrics["mse"]).all()
    for key, code in inv.codes.items():
        np.testing.assert_array_equal(found.codes[key], code)
    assert list(found.refinement.transforms) == [options.get("layer", "b8")]


@given(seed=st.integers(0, 99), count=st.sampled_from([1, 9, 40]), parsed=st.booleans())
@settings(max_examples=5, deadline=None)
def test_a_domain_is_of_whole_segments_whatever_their_size(seed, count, parsed):
    """The default gives every segment a value, and a parser takes away what it does not allow."""
    rng = np.random.default_rng(seed)
    deltas = [jnp.asarray(rng.random((side, side)), jnp.float32) for side in (16, 8, 2)]
    numbers = jnp.asarray(grid(16, 16, count))
    most = int(numbers.max()) + 1
    levels = np.asarray(segment_levels(deltas, numbers, most, "nearest"))
    means = [[np.asarray(nearest(d, (16, 16)))[np.asarray(numbers) == k].mean() for d in deltas] for k in range(most)]
    np.testing.assert_allclose(levels, means, rtol=1e-5)
    mask = jnp.asarray(rng.random((16, 16)) > 0.3, jnp.float32) if parsed else None
    found = np.asarray(domain(deltas, numbers, most, mask, thresholds=Thresholds(other=1.5)))
    for k in range(most):
        inside = np.asarray(numbers) == k
        allowed = inside if mask is None else inside & (np.asarray(mask) > 0)
        assert (found[allowed] == float(levels[k].sum() < 1.5)).all() and not found[inside & ~allowed].any()


def test_a_parsers_classes_choose_thresholds_and_leave_things_out():
    deltas, numbers = [jnp.full((8, 8), 0.65)], jnp.asarray(grid(8, 8, 4))

    @partial(jax.jit, static_argnums=0)
    def found(thresholds, mask):
        return domain(deltas, numbers, 4, mask, thresholds=thresholds, parsing=True)

    easy = Thresholds(other=1.0)
    for name, expected in (("face", 1), ("nose", 1), ("rr", 1), ("hair", 0), ("background", 0), ("glass", 0)):
        mask = jnp.full((8, 8), CLASSES.index(name) / 255, jnp.float32)
        assert np.all(found(Thresholds(), mask) == expected), name
    for name, expected in (("hair", 1), ("hat", 0), ("cloth", 0), ("earr", 0), ("neck", 1)):
        mask = jnp.full((8, 8), CLASSES.index(name) / 255, jnp.float32)
        assert np.all(found(easy, mask) == expected), name
    assert np.all(found(easy, jnp.ones((8, 8))) == 1)  # no class: everything may be inside


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": -1}, "refine.steps=-1: needs to be 0 or more"),
        ({"coarse_steps": 0}, "refine.coarse_steps=0: needs to be 1 or more"),
        ({"threshold_face": float("nan")}, "refine.threshold_face=nan: needs to be 0 or more"),
        ({"lr_feature": 0.0}, "refine.lr_feature=0.0: has to be more than 0"),
        ({"mse": 0.0, "perceptual": 0.0}, "nothing is left to minimise"),
        ({"order": "brg"}, "refine.order='brg': choose one of rgb, bgr"),
        ({"segments": "bisenet"}, "refine.segments='bisenet': choose one of auto, slic, grid"),
        ({"layer": "b16"}, "refine.layer='b16': choose one of b4.conv1, b8.conv0, b8.conv1, b16.conv0, b16.conv1, b4,"),
        ({"network": "none"}, "there is neither; name converted weights with --config.refine.lpips"),
    ],
)
def test_options_out_of_range_are_refused(G, options, message):
    with pytest.raises(LsapError, match=message) as error:
        make_refiner("dhr", G, None, options)
    assert "\n" not in str(error.value)


def test_what_cannot_be_refined_is_refused(G):
    with pytest.raises(LsapError, match="--weights=x: dhr has no networks of its own"):
        make_refiner("dhr", G, "x")
    with pytest.raises(LsapError, match="a conditional generator does not have"):
        make_refiner("dhr", tiny_generator(classes=2))
    with pytest.raises(LsapError, match=r"refine.layer='b8': codes of space f/w\+ have a base code of 16 px") as error:
        check_place(G, "b8", 16, "f/w+")
    assert "\n" not in str(error.value)
    check_place(G, "b8", 8, "f/w+")


def test_the_layer_and_the_segments_are_recorded(G, monkeypatch):
    grid_of = {**OPTIONS, "segments": "grid"}
    for side, layer in ((8, "b4"), (16, "b8"), (128, "b8"), (256, "b128"), (512, "b128")):
        assert resolved(tiny_generator(img_resolution=side, discriminator=False), None, grid_of)["layer"] == layer
    monkeypatch.setattr("lsap_jax.refinement.segments.find_spec", lambda name: None)
    with pytest.warns(UserWarning, match=r"segments are the cells of a grid; superpixels need scikit-image") as said:
        options = resolved(G, None, OPTIONS)
    assert options["segments"] == "grid" and len(said) == 1


# Of a run folder

IDS = ("a", "b", "sub/c")


def argv(work, out, *more):
    words = ["refine", work / "run", "--method=dhr", "--batch_size=2", "--masks", work / "masks", "--out", out]
    return [str(word) for word in [*words, *(f"--config.refine.{key}={value}" for key, value in FAST.items()), *more]]


@pytest.fixture(scope="module")
def work(quick_compilation, tmp_path_factory):
    """A folder with g.safetensors, a run in Z+, a mask of one image, and the run refined/ by DHR."""
    folder = tmp_path_factory.mktemp("work")
    G = tiny_generator()
    G.save(folder / "g.safetensors")
    write_run(folder / "run", G, folder / "g.safetensors", "z+", IDS, tiny_images(len(IDS)))
    (folder / "masks").mkdir()
    Image.fromarray(np.uint8(HALF[0] * 255)).save(folder / "masks" / "a.png")
    assert main(argv(folder, folder / "refined", "--config.refine.threshold=99")) == 0
    return folder


@pytest.mark.slow
def test_a_refined_run_is_verified_edited_and_resumed(work, tmp_path, capsys):
    run, manifest = read_run(work / "refined"), read_manifest(work / "refined")
    assert run["refinement"]["options"]["layer"] == "b8" and run["refinement"]["options"]["segments"] == "grid"
    scales = {}
    for id in IDS:
        refinement = from_arrays(read_arrays(work / "refined", id, "refined", manifest=manifest))
        scales[id] = np.asarray(refinement.transforms["b8"].scale)
    assert scales["a"][:4].all() and not scales["a"][4:].any()  # where the mask allows it
    assert scales["b"].all()  # without a mask, everywhere
    assert main(["verify", str(work / "refined")]) == 0
    words = ["--direction=random:0", "--strengths=0,1", "--out", str(tmp_path / "edits")]
    assert main(["edit", str(work / "refined"), *words]) == 0
    for id in IDS:
        still = tmp_path / "edits" / "images" / id / "random-0" / "0.png"
        assert still.read_bytes() == (work / "refined" / "images" / f"{id}.png").read_bytes()
    assert main(["verify", str(tmp_path / "edits")]) == 0
    again = argv(work, tmp_path / "out", "--config.refine.threshold=99")
    dead = subprocess.run([sys.executable, colour.__file__, "3", *again], capture_output=True)
    assert dead.returncode == -signal.SIGKILL, dead.stderr.decode()
    assert main(again) == 0
    for id in IDS:
        for file in (f"refined/{id}.npz", f"images/{id}.png", f"codes/{id}.npz"):
            assert (tmp_path / "out" / file).read_bytes() == (work / "refined" / file).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lsap_e_dhr", "zplus_dhr"])
def test_a_preset_names_both_stages(work, name):
    plain = load_config(name)
    assert plain.refine.method == "dhr" and plain.space == {"lsap_e_dhr": "w+", "zplus_dhr": "z+"}[name]
    json.dumps(plain.to_dict())
