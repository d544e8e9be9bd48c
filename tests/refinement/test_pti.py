"""Pivotal tuning of the tiny generator: what is tuned, stored and shown, alone and in company, and of whole runs."""

import signal
import subprocess
import sys

import colour
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from small_runs import write_run

import lsap_jax
from lsap_jax.cli import main
from lsap_jax.configuration import load_config
from lsap_jax.errors import LsapError
from lsap_jax.inversion.jobs import Job
from lsap_jax.networks.convolution import Kernel
from lsap_jax.refinement import pti
from lsap_jax.refinement.methods import make_refiner
from lsap_jax.rendering.refinement import Full, LowRank, as_matrix, from_arrays, take
from lsap_jax.runs.refining import RefiningWorker, refining
from lsap_jax.runs.worker import Failed, Result
from lsap_jax.spaces import parse_space
from lsap_jax.storage.results import read_arrays, read_manifest, read_run
from lsap_jax.testing import tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation")
COUNT = 3
FAST = {"steps": 6, "lr": 0.01}


@pytest.fixture(scope="module")
def G():
    return tiny_generator()


@pytest.fixture(scope="module")
def pivot(G):
    """(space, codes in W+, targets)"""
    w = np.random.default_rng(0).standard_normal((COUNT, G.num_ws, G.w_dim), np.float32)
    return "w+", {"w": w}, tiny_images(COUNT)


@pytest.fixture(scope="module")
def refined(quick_compilation, G, pivot):
    space, codes, images = pivot
    return lsap_jax.refine(G, (space, codes), images, "pti", rank=2, batch_size=2, **FAST)


def mse_of(G, pivot):
    space, codes, images = pivot
    return lsap_jax.evaluate(G, space, codes, images)["mse"]


def test_tuned_generators_make_the_images(G, pivot, refined):
    assert (refined.metrics["mse"] < 0.8 * mse_of(G, pivot)).all()
    np.testing.assert_array_equal(refined.codes["w"], pivot[1]["w"])
    shown = lsap_jax.render(G, refined.space, refined.codes, refinement=refined.refinement)
    np.testing.assert_allclose(shown, refined.images, atol=1e-6)
    edited = lsap_jax.edit(
        G, refined.space, refined.codes, "random:0", [0], images=refined.images, refinement=refined.refinement
    )
    np.testing.assert_array_equal(edited.images[0], refined.images)


@pytest.mark.slow
def test_what_is_stored_is_rounded_before_it_is_shown(G, pivot, refined):
    """Rounded after it was shown, the stored change would make another picture."""
    space, codes, images = pivot
    exact = lsap_jax.refine(G, (space, codes), images, "pti", rank=2, dtype="float32", **FAST)

    def rounded(tree):
        return jax.tree.map(lambda a: np.asarray(a).astype(np.float16).astype(np.float32), tree)

    jax.tree.map(np.testing.assert_array_equal, rounded(refined.refinement), refined.refinement)
    shown = lsap_jax.render(G, space, codes, refinement=refined.refinement)
    np.testing.assert_allclose(shown, refined.images, rtol=0, atol=1e-6)
    coarse = lsap_jax.render(G, space, codes, refinement=rounded(exact.refinement))
    assert 1e-5 < np.abs(exact.images - coarse).max() < 0.05, "rounding is seen"


def test_changes_are_thin_where_that_is_smaller(G, refined):
    kinds = {name: type(change) for name, change in refined.refinement.weights.items()}
    assert kinds["synthesis.b8.conv1.weight"] is LowRank and kinds["synthesis.b8.conv1.affine.weight"] is LowRank
    assert kinds["synthesis.b8.conv1.bias"] is Full and kinds["synthesis.b8.conv1.noise_strength"] is Full
    assert kinds["synthesis.b8.torgb.weight"] is LowRank  # (8 + 3) * 2 < 24
    assert not any("noise_const" in name or name.startswith("mapping.") for name in kinds)
    assert refined.refinement.weights["synthesis.b8.conv1.weight"].up.shape == (COUNT, 72, 2)


def outcomes(G, pivot, devices, batch_size, at, **options):
    """Results of some images, in this order, by a worker of these devices."""
    space, codes, images = pivot
    config = load_config("encode", {"batch_size": batch_size})
    worker = RefiningWorker(G, parse_space(space), config, refining(G, "pti", None, options), devices)
    jobs = [Job(id=str(i), image=images[i], start={key: a[i] for key, a in codes.items()}) for i in at]
    found = {}
    for batch in worker.batches(len(jobs)):
        some = [jobs[k] for k in batch]
        found |= dict(zip([job.id for job in some], worker(some), strict=True))
    return found


@pytest.mark.parametrize(
    ("rank", "local", "devices"),
    [(1, False, 1), pytest.param(0, True, 2, marks=pytest.mark.slow), pytest.param(1, True, 2, marks=pytest.mark.slow)],
)
def test_no_image_sees_its_neighbours_or_the_devices(G, rank, local, devices):
    """Batches of 1, 3 and 8, on one device and two: the same bits, also where one of the images is lost."""
    one, both = jax.local_devices()[:devices], jax.local_devices()
    assert len(both) == 2
    w = np.random.default_rng(1).standard_normal((8, G.num_ws, G.w_dim), np.float32)
    pivot, options = ("w+", {"w": w}, tiny_images(8, seed=3)), {**FAST, "steps": 3, "rank": rank, "locality": local}
    reference = outcomes(G, pivot, both[:1], 8, range(8), **options)
    w[5] = np.nan
    for some, size, at in ((both[:1], 1, [6]), (one, 3, [7, 6, 5, 0]), (both[:1], 8, range(4, 8))):
        for id, found in outcomes(G, pivot, some, size, at, **options).items():
            if id == "5":
                assert isinstance(found, Failed) and "is not finite" in found.reason
                continue
            for part in ("refined", "codes"):
                for name, a in found.parts[part].items():
                    np.testing.assert_array_equal(a, reference[id].parts[part][name], err_msg=f"{id} {name}")
            np.testing.assert_array_equal(found.parts["images"], reference[id].parts["images"])


def test_steps_take_winograds_convolutions_where_they_pay(monkeypatch, G, pivot):
    """The judge of the steps is frozen with them."""
    space, codes, images = pivot
    refiner, _ = make_refiner("pti", G, None, {"rank": 0, "dtype": "float32", "steps": 1})
    rng = jax.random.split(jax.random.key(0), 1)
    targets = jnp.asarray(images[:1], jnp.float32) / 127.5 - 1

    def winograd_kernels(channels):
        monkeypatch.setattr(pti, "paying_channels", lambda devices: channels)
        seen = []
        tune = pti.tune
        monkeypatch.setattr(pti, "tune", lambda how, *rest: (seen.append(how.judge), tune(how, *rest))[1])
        jax.eval_shape(
            lambda w: refiner(G, parse_space(space), {"w": w}, targets, rng, None)[1], jnp.asarray(codes["w"][:1])
        )
        monkeypatch.setattr(pti, "tune", tune)
        kernels = jax.tree.leaves(seen[0].network, is_leaf=lambda leaf: isinstance(leaf, Kernel))
        return sum(isinstance(kernel, Kernel) and kernel.wide is not None for kernel in kernels)

    assert winograd_kernels(0) == 0
    assert winograd_kernels(4) > 0


@pytest.mark.slow
def test_on_accelerators_a_batch_is_tuned_at_once(G, pivot, refined):
    """The program that accelerators run, with an axis for images on every weight, gives the same up to rounding."""
    space, codes, images = pivot
    refiner, _ = make_refiner("pti", G, None, {"rank": 2, **FAST})
    rng = jax.random.split(jax.random.key(0), COUNT)
    targets = jnp.asarray(images, jnp.float32) / 127.5 - 1
    space = parse_space(space)
    tune = jax.jit(lambda *arguments: refiner(G, space, *arguments, None))
    _, found, course = tune({"w": jnp.asarray(codes["w"])}, targets, rng)
    assert course.step.tolist() == [6] * COUNT and course.finite.all()
    shown = lsap_jax.render(G, space, codes, refinement=found)
    found_mse = np.square(shown - np.asarray(targets)).mean((1, 2, 3))  # Adam makes whole steps of rounding
    np.testing.assert_allclose(found_mse, refined.metrics["mse"], rtol=0.05)


@pytest.mark.slow
def test_an_image_stops_at_its_own_distance(G, pivot):
    space, codes, images = pivot
    before = lsap_jax.evaluate(G, space, codes, images)["discriminator_distance"]
    middle = float(np.sort(before)[0] * 0.5 + np.sort(before)[1] * 0.5)
    found = lsap_jax.refine(G, (space, codes), images, "pti", stop=middle, **FAST)
    moved = np.array([np.abs(np.asarray(a)).max() for a in found.refinement.weights["synthesis.b8.conv1.bias"].delta])
    assert ((moved == 0) == (before <= middle)).all() and (moved == 0).sum() == 1


def test_a_loss_that_is_not_finite_leaves_the_best_step_and_a_flag(G, pivot):
    found = outcomes(G, pivot, None, 2, range(2), steps=3, lr=1e30, rank=0, dtype="float32")
    space, codes, images = pivot
    plain = lsap_jax.render(G, space, codes)
    for i in range(2):
        one = found[str(i)]
        assert isinstance(one, Result)
        assert one.flags == ("non-finite loss or gradient in the refinement; kept step 0",)
        assert not any(np.any(a) for a in one.parts["refined"].values())
        np.testing.assert_allclose(one.parts["images"], plain[i], atol=1e-6)


@pytest.mark.slow
def test_masks_layers_and_the_best_step(G, pivot):
    space, codes, images = pivot
    masks = np.zeros((COUNT, 16, 16), np.float32)
    masks[:, :8] = 1
    options = {"layers": "b16, b8.conv1", "keep": "best", **FAST, "steps": 12}
    found = lsap_jax.refine(G, (space, codes), images, "pti", masks=masks, **options)
    names = {name.split(".")[1] + "." + name.split(".")[2] for name in found.refinement.weights}
    assert names == {"b16.conv0", "b16.conv1", "b16.torgb", "b8.conv1"}
    target, plain = images / 127.5 - 1, lsap_jax.render(G, space, codes)
    gain = np.square(plain - target) - np.square(found.images - target)
    assert gain[:, :8].mean() > 2 * gain[:, 8:].mean()


@pytest.mark.parametrize("space", [pytest.param(name, marks=pytest.mark.slow) for name in ("f/z+", "s", "z")])
def test_pivots_of_any_space(space):
    G = tiny_generator()
    inv = lsap_jax.invert(G, tiny_images(2), space, steps=0)
    found = lsap_jax.refine(G, inv, tiny_images(2), "pti", rank=1, **FAST)
    assert (found.metrics["mse"] < inv.metrics["mse"]).all()
    for key, code in inv.codes.items():
        np.testing.assert_array_equal(found.codes[key], code)
    below = [name for name in found.refinement.weights if name.startswith("synthesis.b4.conv1")]
    assert bool(below) == (space != "f/z+")


@pytest.mark.slow
def test_a_tuned_mapping_network_is_part_of_what_is_shown():
    G = tiny_generator()
    inv = lsap_jax.invert(G, tiny_images(2), "z+", steps=0)
    found = lsap_jax.refine(G, inv, tiny_images(2), "pti", mapping=True, layers="b8", **FAST)
    assert "mapping.fc1.weight" in found.refinement.weights
    shown = lsap_jax.render(G, inv.space, found.codes, refinement=found.refinement)
    np.testing.assert_allclose(shown, found.images, atol=1e-6)
    synthesis = {n: c for n, c in found.refinement.weights.items() if n.startswith("synthesis.")}
    without = lsap_jax.render(G, inv.space, found.codes, refinement=found.refinement.replace(weights=synthesis))
    assert np.abs(without - shown).max() > 1e-3
    one = lsap_jax.render(G, inv.space, {"z": found.codes["z"][1:]}, refinement=take(found.refinement, slice(1, 2)))
    np.testing.assert_allclose(one[0], found.images[1], atol=1e-6)


@given(seed=st.integers(0, 99), rank=st.integers(1, 3))
def test_a_low_rank_change_starts_at_the_directions_of_the_gradient(seed, rank):
    """Of a gradient of that rank, no direction is lost, and the change is zero."""
    rng = np.random.default_rng(seed)
    gradient = (rng.standard_normal((36, rank)) @ rng.standard_normal((rank, 6))).astype(np.float32)
    whole = Full(delta=jnp.zeros((3, 3, 4, 6)))
    thin = pti.thin(rank, whole, Full(delta=jnp.asarray(gradient.reshape(3, 3, 4, 6))))
    w = jnp.asarray(rng.standard_normal((3, 3, 4, 6)), jnp.float32)
    np.testing.assert_array_equal(thin(w), w)
    up = np.asarray(thin.up)
    left = up / np.linalg.norm(up, axis=0)
    np.testing.assert_allclose(left.T @ left, np.eye(rank), atol=1e-4)
    np.testing.assert_allclose(left @ (left.T @ gradient), gradient, atol=1e-4 * np.abs(gradient).max())


@given(seed=st.integers(0, 99), shape=st.sampled_from([(3, 3, 4, 6), (5, 4), (4, 4, 3)]))
def test_a_change_of_full_rank_is_a_full_change(seed, shape):
    rng = np.random.default_rng(seed)
    w, delta = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for _ in range(2))
    u, s, v = np.linalg.svd(np.asarray(as_matrix(delta)), full_matrices=False)
    thin = LowRank(up=jnp.asarray(u * s), down=jnp.asarray(v))
    np.testing.assert_allclose(thin(w), Full(delta=delta)(w), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": -1}, "refine.steps=-1: needs to be 0 or more"),
        ({"rank": -1}, "refine.rank=-1: needs to be 0 or more"),
        ({"lr": 0.0}, "refine.lr=0.0: has to be more than 0"),
        ({"lr": float("nan")}, "refine.lr=nan: has to be more than 0"),
        ({"mse": -1.0}, "refine.mse=-1.0: needs to be 0 or more"),
        ({"mse": 0.0, "perceptual": 0.0}, "nothing is left to minimise"),
        ({"keep": "worst"}, "refine.keep='worst': choose one of last, best"),
        ({"dtype": "int8"}, "refine.dtype='int8': choose one of float16, float32"),
        ({"precision": "low"}, "refine.precision='low': choose one of"),
        ({"layers": "b64"}, "refine.layers: 'b64' is not a block or layer that reaches the image; the layers are b4"),
        ({"network": "lpips"}, "needs perceptual.weights"),
        ({"network": "vgg"}, "refine.network='vgg': choose one of auto, lpips, discriminator, none"),
        ({"network": "none", "mse": 0.0}, "no network to compare images by, and nothing is left to minimise"),
        ({"locality_interval": 0}, "refine.locality_interval=0: needs to be 1 or more"),
    ],
)
def test_options_out_of_range_are_refused(G, options, message):
    with pytest.raises(LsapError, match=message) as error:
        make_refiner("pti", G, None, options)
    assert "\n" not in str(error.value)


def test_options_without_a_use_are_refused(G, pivot):
    with pytest.raises(LsapError, match="refine.mapping=True: codes of space w. do not go through the mapping"):
        lsap_jax.refine(G, pivot[:2], pivot[2], "pti", mapping=True)
    with pytest.raises(LsapError, match="--weights=x: pti has no networks of its own"):
        make_refiner("pti", G, "x")
    local, _ = make_refiner("pti", G, None, {"locality": True})
    with pytest.raises(LsapError, match="refine.locality=True: codes of space s are styles"):
        pti.check_space(local, parse_space("s"))


# Of a run folder

IDS = ("a", "b", "sub/c")


def argv(work, out, *more):
    words = ["refine", work / "run", "--method=pti", "--batch_size=2", "--out", out]
    options = [f"--config.refine.{key}={value}" for key, value in {**FAST, "rank": 1}.items()]
    return [str(word) for word in [*words, *options, *more]]


def tree(folder):
    files = (p for part in ("codes", "images", "targets", "refined") for p in (folder / part).rglob("*.*"))
    return {str(p.relative_to(folder)): p.read_bytes() for p in [*files, folder / "metrics.csv"]}


@pytest.fixture(scope="module")
def work(quick_compilation, tmp_path_factory):
    """A folder with g.safetensors, a run in Z+, and that run refined/ by PTI."""
    folder = tmp_path_factory.mktemp("work")
    G = tiny_generator()
    G.save(folder / "g.safetensors")
    write_run(folder / "run", G, folder / "g.safetensors", "z+", IDS, tiny_images(len(IDS)))
    assert main(argv(folder, folder / "refined")) == 0
    return folder


def test_what_is_minimised_is_marked(G):
    both = {"mse", "discriminator_distance"}
    for options, expected in (
        ({}, both),
        ({"mse": 0.0}, both - {"mse"}),
        ({"network": "none"}, {"mse"}),
        ({"steps": 0}, set()),
    ):
        assert refining(G, "pti", None, options).minimised == expected, options


def test_a_tuned_run_is_verified_and_edited(work, tmp_path, capsys):
    run, manifest = read_run(work / "refined"), read_manifest(work / "refined")
    assert run["refinement"]["method"] == "pti" and run["refinement"]["options"]["rank"] == 1
    stored = read_arrays(work / "refined", "a", "refined", manifest=manifest)
    assert {a.dtype for a in stored.values()} == {np.dtype(np.float16)} and from_arrays(stored).weights
    assert main(["verify", str(work / "refined")]) == 0
    assert f"{len(IDS)} images rendered again: all match" in capsys.readouterr().out
    words = ["--direction=random:0", "--strengths=0,1", "--out", str(tmp_path / "edits")]
    assert main(["edit", str(work / "refined"), *words]) == 0
    for id in IDS:
        still = tmp_path / "edits" / "images" / id / "random-0" / "0.png"
        assert still.read_bytes() == (work / "refined" / "images" / f"{id}.png").read_bytes()
    assert main(["verify", str(tmp_path / "edits")]) == 0


def test_a_killed_tuning_goes_on_byte_for_byte(work, tmp_path, capsys):
    out = tmp_path / "out"
    dead = subprocess.run([sys.executable, colour.__file__, "3", *argv(work, out)], capture_output=True)
    assert dead.returncode == -signal.SIGKILL, dead.stderr.decode()
    assert len(read_manifest(out)) == 2
    assert main(argv(work, out)) == 0
    assert f"{len(IDS)} images done, 2 of them earlier" in capsys.readouterr().out
    assert tree(out) == tree(work / "refined")


def test_bad_options_end_a_command_in_one_line(work, tmp_path, capsys):
    for option, message in (("rank=-2", "refine.rank=-2"), ("layers=b5", "refine.layers: 'b5'"), ("rate=1", "rate")):
        assert main(argv(work, tmp_path / "x", f"--config.refine.{option}")) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert not (tmp_path / "x").exists()


# Presets of two stages


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) for name in ("pti", "zplus_pti", "f_zplus_pti")]
)
def test_a_preset_names_both_stages(work, tmp_path, name):
    for i, image in enumerate(tiny_images(2)):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    words = ["invert", tmp_path, "--generator", work / "g.safetensors", "--config", name, "--steps=2", "--out"]
    out = tmp_path / "out"
    options = ("--config.refine.steps=2", "--config.refine.rank=1")
    assert main([str(word) for word in [*words, out, *options]]) == 0
    run, plain = read_run(out), load_config(name)
    assert run["space"] == plain.space and "refine" not in run["config"]
    assert run["refinement"]["method"] == "pti" == plain.refine.method
    assert (run["refinement"]["options"]["steps"], run["refinement"]["options"]["lr"]) == (2, 3e-4)
    assert all("refined" in record["sha256"] for record in read_manifest(out).values())
    assert main(["verify", str(out)]) == 0


def test_presets_of_two_stages_are_refused_where_one_is_taken(G):
    with pytest.raises(LsapError, match="refine.method='pti': this preset has a second stage"):
        lsap_jax.invert(G, tiny_images(1), "pti", steps=1)
