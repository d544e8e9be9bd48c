"""One generator tuned to several images: its steps one by one, runs of it, and the file of the generator."""

import shutil
import signal
import subprocess
import sys
from functools import partial

import colour
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_runs import write_run

import lsap_jax
from lsap_jax.cli import main
from lsap_jax.errors import LsapError
from lsap_jax.refinement import pti
from lsap_jax.rendering.refinement import Full, Refinement, take
from lsap_jax.spaces import parse_space
from lsap_jax.storage.results import read_failures, read_manifest
from lsap_jax.testing import tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation")
IDS = ("a", "b", "sub/c")
FAST = {"shared": True, "steps": 8, "lr": 0.01, "rank": 1, "network": "none", "layers": "b16"}


@pytest.fixture(scope="module")
def G():
    return tiny_generator(discriminator=False)


@pytest.fixture(scope="module")
def pivot(G):
    """(space, codes in W+, targets)"""
    w = np.random.default_rng(0).standard_normal((len(IDS), G.num_ws, G.w_dim), np.float32)
    return "w+", {"w": w}, tiny_images(len(IDS))


def by_hand(G, batch, steps, lr, layer):
    """Adam on one bias, a step for each image in turn, of the squared error alone; an image may be left out."""
    delta, adam = jnp.zeros_like(G.params["synthesis"]["b8"]["conv1"]["bias"]), optax.adam(lr)
    state = adam.init(delta)

    @jax.jit
    def gradient(delta, w, target):
        def loss(delta):
            own = Refinement(weights={layer: Full(delta=delta[None])})
            shown = lsap_jax.rendering.render.synthesise(G, parse_space("w+").decode(G, {"w": w[None]}), own)
            return jnp.mean(jnp.square(shown - target[None]))

        return jax.grad(loss)(delta)

    for _ in range(steps):
        for w, target in batch:
            updates, state = adam.update(gradient(delta, w, target), state)
            delta = optax.apply_updates(delta, updates)
    return delta


@pytest.mark.parametrize("broken", [False, True])
def test_each_image_takes_a_step_in_turn(G, pivot, broken):
    """An image whose loss is not finite takes none, and is flagged."""
    layer, targets = "synthesis.b8.conv1.bias", jnp.asarray(pivot[2] / 127.5 - 1, jnp.float32)
    if broken:
        targets = targets.at[1].set(jnp.nan)
    plain = pti.Pti(judge=None, shared=True, steps=3, lr=0.01)
    batch = pti.Image(codes=pivot[1], target=targets, rng=jax.random.split(jax.random.key(0), 3), mask=None)
    change, course = jax.jit(partial(pti.tune_together, plain, G, parse_space("w+"), [layer]))(batch)
    left = [i for i in range(3) if not (broken and i == 1)]
    known = by_hand(G, [(pivot[1]["w"][i], targets[i]) for i in left], 3, 0.01, layer)
    np.testing.assert_allclose(change[layer].delta, known, rtol=1e-4, atol=1e-6)
    assert np.abs(known).max() > 0.01
    np.testing.assert_array_equal(course.finite, [True, not broken, True])


def test_one_generator_makes_all_images(G, pivot):
    space, codes, images = pivot
    before = np.square(lsap_jax.render(G, space, codes) - (images / 127.5 - 1)).mean((1, 2, 3))
    ref = lsap_jax.refine(G, (space, codes), images, "pti", **FAST)
    assert (ref.metrics["mse"] < 0.95 * before).all()
    one = take(ref.refinement, 0)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.broadcast_to(b, a.shape), a), ref.refinement, one)
    shown = lsap_jax.render(G, ref.space, codes, refinement=ref.refinement)
    np.testing.assert_allclose(shown, ref.images, atol=1e-6)


def test_options_that_do_not_go_together_are_refused(G, pivot):
    space, codes, images = pivot
    for options, message in (
        ({"keep": "best"}, "refine.keep='best': one generator for all images"),
        ({"batch_size": 2}, "batch_size=2: refine.shared refines all 3 images together"),
    ):
        with pytest.raises(LsapError, match=message):
            lsap_jax.refine(G, (space, codes), images, "pti", **FAST, **options)


@pytest.fixture(scope="module")
def work(quick_compilation, tmp_path_factory):
    """A folder with g.safetensors, a run in W+, and that run refined/ by one generator."""
    folder, G = tmp_path_factory.mktemp("work"), tiny_generator(discriminator=False)
    G.save(folder / "g.safetensors")
    write_run(folder / "run", G, folder / "g.safetensors", "w+", IDS, tiny_images(len(IDS)))
    assert main(argv(folder / "run", folder / "refined")) == 0
    return folder


def argv(run, out):
    options = [f"--config.refine.{key}={value}" for key, value in FAST.items()]
    return ["refine", str(run), "--method=pti", "--out", str(out), *options]


def test_the_generator_is_exported_without_an_image(work, tmp_path, capsys):
    for name, more in (("one.safetensors", []), ("other.safetensors", ["--id=sub/c"])):
        assert main(["export", str(work / "refined"), str(tmp_path / name), "--format=generator", *more]) == 0
        assert "the generator tuned for all images, 16 px" in capsys.readouterr().out
    one, other = (lsap_jax.load_generator(tmp_path / name) for name in ("one.safetensors", "other.safetensors"))
    assert one.network_sha256 == other.network_sha256 and "all 3 images of refined" in one.provenance["tuned"]
    assert main(["verify", str(work / "refined"), "--batch_size=2"]) == 0
    assert "3 images rendered again: all match" in capsys.readouterr().out


@pytest.mark.slow  # test_pti.py kills one of the other kind
def test_a_killed_tuning_goes_on_byte_for_byte(work, tmp_path, capsys):
    words = argv(work / "run", tmp_path / "out")
    dead = subprocess.run([sys.executable, colour.__file__, "3", *words], capture_output=True)
    assert dead.returncode == -signal.SIGKILL, dead.stderr.decode()
    assert 0 < len(read_manifest(tmp_path / "out")) < 3
    assert main(words) == 0 and "of them earlier" in capsys.readouterr().out
    for file in (work / "refined").rglob("*.[np]*"):
        if file.is_file():
            assert file.read_bytes() == (tmp_path / "out" / file.relative_to(work / "refined")).read_bytes()


def test_images_are_refined_together_or_not_at_all(work, tmp_path, capsys):
    run = shutil.copytree(work / "run", tmp_path / "run")
    (run / "targets" / "b.png").write_bytes(b"")
    assert main(argv(run, tmp_path / "out")) == 1
    failed = read_failures(tmp_path / "out")
    assert failed.keys() == set(IDS) and "another one cannot be used" in failed["a"]["reason"]
    lines = (work / "run" / "manifest.jsonl").read_text().splitlines(keepends=True)
    shutil.copytree(work / "run", run, dirs_exist_ok=True)
    (run / "manifest.jsonl").write_text("".join(line for line in lines if '"sub/c"' not in line))
    capsys.readouterr()
    assert main(argv(run, work / "refined")) == 2
    assert "refinement.together was" in capsys.readouterr().err
    words = ["invert", str(work / "run" / "targets"), "--generator", str(work / "g.safetensors"), "--refine=pti"]
    assert main([*words, "--space=w+", "--config.refine.shared=True", "--out", str(tmp_path / "x")]) == 2
    assert "refine.shared=True: needs the codes of all images" in capsys.readouterr().err
