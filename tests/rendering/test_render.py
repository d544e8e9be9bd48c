"""Rendering, editing and measuring refined images."""

import json
import subprocess
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from small_runs import write_run

import lsap_jax
from lsap_jax.cli import main
from lsap_jax.editing.edit_record import read_edit
from lsap_jax.errors import LsapError
from lsap_jax.metrics import distortion
from lsap_jax.pixels import to_uint8
from lsap_jax.rendering import render as rendering
from lsap_jax.rendering import transforms
from lsap_jax.rendering.refinement import Full, LowRank, Refinement, from_arrays, merged, take, to_arrays
from lsap_jax.rendering.render import render, renderer, space_of, synthesise
from lsap_jax.rendering.samples import _images, draw
from lsap_jax.rendering.transforms import ScaleShift, Transform
from lsap_jax.spaces import parse_space
from lsap_jax.spaces.feature import own_feature
from lsap_jax.storage.checked_json import sealed
from lsap_jax.storage.results import read_arrays, read_manifest, read_run
from lsap_jax.testing import tiny_generator

pytestmark = pytest.mark.usefixtures("quick_compilation")
COUNT = 5
SPACES = ("z+", "w", "s", "f/w+")


@pytest.fixture(scope="module")
def G(tiny):
    return tiny.bare("statistics")


def codes_of(G, name, count=COUNT):
    space = parse_space(name, base_resolution=8 if name.startswith("f/") else 0)
    f0 = np.broadcast_to(own_feature(G, 8), (count, 8, 8, 8)) if space.has_base else None
    keys = jax.random.split(jax.random.key(0), count)
    return space, {key: np.asarray(a) for key, a in space.init(G, keys, f0, "random").items()}


def weights_of(count=COUNT, seed=0):
    rng = np.random.default_rng(seed)
    shapes = {
        "b8.conv1.weight": (3, 3, 8, 8),
        "b8.conv1.affine.weight": (16, 8),
        "b16.torgb.bias": (3,),
        "b16.conv0.noise_strength": (),
    }
    full = {f"synthesis.{p}": Full(delta=rng.normal(0, 0.3, (count, *s)).astype(np.float32)) for p, s in shapes.items()}
    up, down = (rng.normal(0, 0.5, (count, *s)).astype(np.float32) for s in ((72, 2), (2, 8)))
    return full | {"synthesis.b16.conv1.weight": LowRank(up=up, down=down)}


def shift_of(count=COUNT, seed=1):
    scale, shift = np.random.default_rng(seed).normal(0, 0.5, (2, count, 8, 8, 8)).astype(np.float32)
    return {"b8.conv1": ScaleShift(scale=1 + scale, shift=shift)}


class Gated(Transform, kw_only=True):
    """features + offset · sigmoid(mean of ws + mean of the styles of b16.conv1 - w_avg): follows the codes."""

    offset: jax.Array

    def __call__(self, features, *, G, ws, styles):
        gate = styles["b16.conv1"].mean(axis=1) - G.w_avg.mean()
        gate = gate if ws is None else gate + ws.mean(axis=(1, 2))
        return features + self.offset * jax.nn.sigmoid(4 * gate)[:, None, None, None]


@pytest.fixture
def gated(monkeypatch):
    """The kind `Gated` as a row of the table, and a refinement by it."""
    monkeypatch.setitem(transforms.KINDS, "gated", Gated)
    offset = np.random.default_rng(3).standard_normal((COUNT, 8, 8, 8)).astype(np.float32)
    return Refinement(transforms={"b8.conv0": Gated(offset=offset)})


@pytest.mark.parametrize("name", SPACES)
def test_changed_weights_make_what_a_generator_with_these_weights_makes(G, name):
    space, codes = codes_of(G, name)
    weights = weights_of()
    found = render(G, space, codes, refinement=Refinement(weights=weights))
    assert np.abs(found - render(G, space, codes)).max(axis=(1, 2, 3)).min() > 1e-2
    for i in range(COUNT):
        own = merged(G, take(Refinement(weights=weights), i).weights)
        alone = {key: a[i : i + 1] for key, a in codes.items()}
        np.testing.assert_allclose(render(own, space, alone)[0], found[i], atol=1e-5)


def test_images_computed_together_have_weights_of_their_own(G):
    """As accelerators compute them: one program for the batch."""
    space, codes = codes_of(G, "w")
    both = Refinement(weights=weights_of(), transforms=shift_of())
    found = jax.jit(lambda G, codes, r: synthesise(G, space.decode(G, codes), r))(G, codes, both)
    np.testing.assert_allclose(jnp.clip(found, -1, 1), render(G, space, codes, refinement=both), atol=1e-5)


@pytest.mark.usefixtures("full_compilation")
@pytest.mark.parametrize(
    "refinement",
    [
        pytest.param({"weights": weights_of()}, marks=pytest.mark.slow),
        {"weights": weights_of(), "transforms": shift_of()},
    ],
)
def test_a_refined_image_does_not_see_its_batch(G, refinement):
    space, codes = codes_of(G, "f/w+")
    refinement = Refinement(**refinement)
    every = render(G, space, codes, batch_size=5, refinement=refinement)
    for size in (1, 2):
        np.testing.assert_array_equal(render(G, space, codes, batch_size=size, refinement=refinement), every)
    devices = renderer(G, space, 4, jax.local_devices()[:2])
    np.testing.assert_array_equal(devices(codes, refinement), every)
    alone = {key: a[3:4] for key, a in codes.items()}
    np.testing.assert_array_equal(render(G, space, alone, refinement=take(refinement, slice(3, 4)))[0], every[3])
    eager = synthesise(G, space.decode(G, codes), refinement)
    np.testing.assert_allclose(jnp.clip(eager, -1, 1), every, atol=1e-5)


@pytest.mark.parametrize("name", ["w+", "s"])
def test_a_transform_that_looks_at_the_codes_follows_an_edit(G, gated, name):
    space, codes = codes_of(G, name)
    found = lsap_jax.edit(
        G, space, codes, np.ones(codes[space.detail.key].shape[-1], np.float32), [0, 2], refinement=gated
    )
    np.testing.assert_array_equal(found.images[0], render(G, space, codes, refinement=gated))
    before = space.decode(G, codes)
    after = space.decode(G, {key: a[1] for key, a in found.codes.items()})
    images = []
    for decoded in (before, after):  # the gate of the unedited, and of the edited code
        seen = {"G": G, "ws": decoded.ws, "styles": decoded.styles}
        constant = gated.transforms["b8.conv0"](jnp.zeros((COUNT, 8, 8, 8)), **seen)
        change = {"b8.conv0": ScaleShift(scale=jnp.ones_like(constant), shift=constant)}
        images.append(jnp.clip(synthesise(G, after, Refinement(transforms=change)), -1, 1))
    np.testing.assert_allclose(found.images[1], images[1], atol=1e-5)
    assert np.abs(images[1] - images[0]).max() > 1e-2


def test_a_new_kind_is_a_row_of_the_table(gated):
    one = take(gated, 1)
    assert list(to_arrays(one)) == ["transforms/b8.conv0/gated/offset"]
    again = from_arrays(to_arrays(one))
    np.testing.assert_array_equal(again.transforms["b8.conv0"].offset, one.transforms["b8.conv0"].offset)


class Borrowing(Transform, kw_only=True):
    """features + offset · a number from the base-code encoder, which all images share."""

    parts: ClassVar[tuple[str, ...]] = ("basecode",)
    offset: jax.Array

    def __call__(self, features, *, G, ws, styles):
        return features + self.offset * jax.tree.leaves(G.parts["basecode"].params)[-1].mean()


def test_a_transform_reads_a_network_that_all_images_share(tiny, monkeypatch):
    monkeypatch.setitem(transforms.KINDS, "borrowing", Borrowing)
    space, codes = codes_of(tiny, "w+")
    offset = np.random.default_rng(3).standard_normal((COUNT, 8, 8, 8)).astype(np.float32)
    refinement = Refinement(transforms={"b8.conv0": Borrowing(offset=offset)})
    factor = np.asarray(jax.tree.leaves(tiny.parts["basecode"].params)[-1]).mean()
    constant = {"b8.conv0": ScaleShift(scale=np.ones_like(offset), shift=offset * factor)}
    expected = render(tiny, space, codes, refinement=Refinement(transforms=constant))
    np.testing.assert_allclose(render(tiny, space, codes, refinement=refinement), expected, atol=1e-5)
    assert factor and lsap_jax.evaluate(tiny, space, codes, expected, refinement=refinement)["mse"].max() < 1e-9


def test_an_edit_keeps_the_refinement(G):
    space, codes = codes_of(G, "z+")
    refinement = Refinement(weights=weights_of(), transforms=shift_of())
    shown = render(G, space, codes, refinement=refinement)
    found = lsap_jax.edit(G, space, codes, "random:0", [-1, 0, 1], refinement=refinement)
    np.testing.assert_array_equal(found.images[1], shown)
    np.testing.assert_array_equal(render(G, space, codes, refinement=Refinement()), render(G, space, codes))
    for s in (0, 2):
        moved = {key: a[s] for key, a in found.codes.items()}
        np.testing.assert_array_equal(found.images[s], render(G, space, moved, refinement=refinement))
        assert np.abs(found.images[s] - render(G, space, moved)).max() > 1e-2


def test_a_way_between_codes_keeps_the_refinement(G):
    from lsap_jax.editing.between import interpolate

    space, codes = codes_of(G, "w+")
    refinement = Refinement(transforms=shift_of())
    other = {key: a[::-1].copy() for key, a in codes.items()}
    found = interpolate(G, space, codes, other, [0, 0.5, 1], refinement=refinement)
    np.testing.assert_array_equal(found.images[0], render(G, space, codes, refinement=refinement))
    np.testing.assert_array_equal(found.images[2], render(G, space, other, refinement=refinement))


def test_metrics_are_of_the_refined_images(G):
    space, codes = codes_of(G, "w+")
    refinement = Refinement(weights=weights_of(), transforms=shift_of())
    targets = render(G, space, codes)
    found = lsap_jax.evaluate(G, space, codes, targets, batch_size=2, refinement=refinement)
    expected = distortion.mse(render(G, space, codes, refinement=refinement), targets)
    np.testing.assert_allclose(found["mse"], expected, rtol=1e-5)
    plain = lsap_jax.evaluate(G, space, codes, targets, batch_size=2)
    assert found["mse"].min() > 1e-4 and plain["mse"].max() < 1e-10
    np.testing.assert_allclose(found["nscd"], plain["nscd"], rtol=1e-5)  # of the codes, whatever refines them


def test_what_belongs_to_other_images_is_refused(G):
    space, codes = codes_of(G, "w+")
    for function in (
        lambda **given: render(G, space, codes, **given),
        lambda **given: lsap_jax.edit(G, space, codes, "random:0", [1], **given),
        lambda **given: lsap_jax.evaluate(G, space, codes, np.zeros((COUNT, 16, 16, 3), np.float32), **given),
    ):
        with pytest.raises(LsapError, match="a refinement of 2 images does not fit codes of 5"):
            function(refinement=Refinement(transforms=shift_of(2)))


@pytest.fixture(scope="module")
def refined_run(tmp_path_factory):
    """A folder with g.safetensors and a run whose images "0" and "2" are refined, each in its own way."""
    work = tmp_path_factory.mktemp("refined")
    G = tiny_generator(discriminator=False)
    G.save(work / "g.safetensors")
    ways = [take(Refinement(weights=weights_of()), 0), None, take(Refinement(transforms=shift_of()), 2)]
    write_run(work / "run", G, work / "g.safetensors", "w+", ("0", "1", "2"), refinements=ways)
    return work


def command(*argv):
    return main([str(a) for a in argv])


def test_verify_renders_codes_and_refinements(refined_run, tmp_path, capsys):
    assert command("verify", refined_run / "run") == 0
    assert "3 images rendered again: all match" in capsys.readouterr().out
    spoilt = tmp_path / "run"
    subprocess.run(["cp", "-r", refined_run / "run", spoilt], check=True)
    lines = [json.loads(line) for line in (spoilt / "manifest.jsonl").read_text().splitlines()]
    assert [("refined" in line["sha256"]) for line in sorted(lines, key=lambda line: line["id"])] == [True, False, True]
    (spoilt / "refined" / "2.npz").write_bytes(b"not a refinement")
    assert command("verify", spoilt) == 1
    assert "2.npz: has changed" in capsys.readouterr().out


def test_verify_compiles_one_program_per_way_of_refining(tmp_path, capsys):
    """However many images of a batch are refined in one way, and in a last batch that is not full."""
    G = tiny_generator(discriminator=False)
    G.save(tmp_path / "g.safetensors")
    one, other = (take(Refinement(transforms=shift_of()), i) for i in (0, 1))
    ways = [one, other, None, one, None]
    run = write_run(tmp_path / "run", G, tmp_path / "g.safetensors", "w+", tuple("abcde"), refinements=ways)
    rendering._compiled.cache_clear()
    assert command("verify", run, "--batch_size=3") == 0
    assert "5 images rendered again: all match" in capsys.readouterr().out
    space = space_of(read_run(run), G)
    assert rendering._compiled(rendering._clipped, space, (jax.local_devices()[0],))._cache_size() == 2


@pytest.mark.slow
def test_evaluate_measures_refined_images(refined_run):
    from lsap_jax.models.generator_file import load_generator
    from lsap_jax.runs.evaluate_run import evaluate_run
    from lsap_jax.storage.results import read_evaluation

    G = load_generator(refined_run / "g.safetensors")
    assert evaluate_run(G, refined_run / "run", sets=False).done == 3
    record = read_evaluation(refined_run / "run")
    rows = (refined_run / "run" / "metrics.csv").read_text().splitlines()
    mse = [float(dict(zip(rows[0].split(","), row.split(","), strict=True))["mse"]) for row in rows[1:]]
    assert record["images"] == 3 and mse[0] > 1e-3 and mse[1] < 1e-4 and mse[2] > 1e-3


def test_edits_of_a_refined_run_are_refined(refined_run, tmp_path, capsys):
    from lsap_jax.models.generator_file import load_generator

    run, out = refined_run / "run", tmp_path / "edits"
    assert (
        command(
            "edit",
            run,
            "--direction=random:0",
            "--strengths=0,1.5",
            "--out",
            out,
            "--generator",
            refined_run / "g.safetensors",
        )
        == 0
    )
    assert read_edit(out)["run"]["refinement"] == {"method": "made", "options": {"share": 1.0}}
    G, manifest = load_generator(refined_run / "g.safetensors"), read_manifest(out)
    space = space_of(read_run(run), G)
    for id in ("0", "1", "2"):
        assert (out / "images" / id / "random-0" / "0.png").read_bytes() == (run / "images" / f"{id}.png").read_bytes()
        code = {key: a[None] for key, a in read_arrays(out, id, "codes/random-0/1.5", manifest=manifest).items()}
        own = None
        if id != "1":
            assert (out / "refined" / f"{id}.npz").read_bytes() == (run / "refined" / f"{id}.npz").read_bytes()
            own = jax.tree.map(lambda a: a[None], from_arrays(read_arrays(out, id, "refined", manifest=manifest)))
        shown = np.asarray(Image.open(out / "images" / id / "random-0" / "1.5.png"))
        assert np.abs(to_uint8(render(G, space, code, refinement=own))[0].astype(int) - shown).max() <= 1
    capsys.readouterr()
    assert command("verify", out, "--generator", refined_run / "g.safetensors") == 0
    assert "all match" in capsys.readouterr().out
    other = tmp_path / "run"
    subprocess.run(["cp", "-r", run, other], check=True)
    record = read_run(run)
    record["refinement"]["method"] = "otherwise"
    (other / "run.json").write_bytes(sealed(record))
    words = ("--direction=random:0", "--strengths=0,1.5", "--generator", refined_run / "g.safetensors")
    assert command("edit", other, *words, "--out", out) == 2
    assert "(run.refinement.method was 'made', is 'otherwise')" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["--interpolate=0:1", "--interpolate=1:0", "--mix=1:2"])
def test_images_that_are_refined_are_not_blended(refined_run, tmp_path, capsys, words):
    out, generator = tmp_path / "edits", refined_run / "g.safetensors"
    assert command("edit", refined_run / "run", words, "--out", out, "--generator", generator) == 2
    refined = "2" if "2" in words else "0"
    assert f"{refined!r} is refined, and what refines an image does not fit the codes of" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("ways", "message"),
    [
        ((None, "shift"), "'0' is not refined as '1' is"),
        (("shift", None), "'1' is not refined as '0' is"),
        (("shift", "both"), "'1' is not refined as '0' is"),
    ],
)
def test_an_export_drops_no_refinement(tmp_path, capsys, ways, message):
    G = tiny_generator(discriminator=False)
    G.save(tmp_path / "g.safetensors")
    made = {
        None: None,
        "shift": take(Refinement(transforms=shift_of()), 0),
        "both": take(Refinement(weights=weights_of(), transforms=shift_of()), 0),
    }
    own = [made[way] for way in ways]
    run = write_run(tmp_path / "run", G, tmp_path / "g.safetensors", "w+", ("0", "1"), refinements=own)
    assert command("export", run, tmp_path / "all.npz") == 2
    error = capsys.readouterr().err
    assert message in error and "export the codes alone, as by --array=w" in error
    assert command("export", run, tmp_path / "codes.npz", "--array=w") == 0
    with np.load(tmp_path / "codes.npz") as arrays:
        assert set(arrays) == {"ids", "w"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["codes.npz", "g.safetensors", "run"]


def test_samples_of_any_number_take_one_program(tiny):
    first, known = draw(tiny, [0, 1, 2], batch_size=2), _images._cache_size()
    np.testing.assert_array_equal(draw(tiny, [2, 0, 1, 5, 6], batch_size=2)[:3], first[[2, 0, 1]])
    assert _images._cache_size() == known
