"""SAM on any generator: codes and offsets, edits, options, masks, what is recorded and refused."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import write_run

import lsap_jax
from lsap_jax.cli import main
from lsap_jax.errors import LsapError
from lsap_jax.models.invertibility import InvertibilityNetwork
from lsap_jax.models.network_file import attach, save
from lsap_jax.networks.invertibility import InvertibilityConfig, param_shapes
from lsap_jax.refinement.layer_choice import chosen_latents, layer_masks, segment_means
from lsap_jax.refinement.methods import make_refiner
from lsap_jax.refinement.sam import Sam
from lsap_jax.refinement.segments import bound, bounded
from lsap_jax.refinement.steps import descend
from lsap_jax.rendering.transforms import MaskedOffset
from lsap_jax.spaces import parse_space
from lsap_jax.storage.results import read_run
from lsap_jax.testing import random_leaves, tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation")
COUNT = 3
SMALL = InvertibilityConfig(
    resolutions=(8,), input_resolution=16, kernel=3, pooled=False, stem=4, stages=((4, 1, 1, (1,)),), rates=(1, 2),
    pyramid=4, low=4, decoder=4, features=4, head=2,
)  # fmt: skip
FAST = {"steps": 12, "segments": "grid", "mvg": 0.0, "tau": 0.3}


@pytest.fixture(scope="module")
def G():
    params = random_leaves(param_shapes(SMALL), np.random.default_rng(1))
    return attach(tiny_generator(), InvertibilityNetwork(config=SMALL, params=params))


@pytest.fixture(scope="module")
def codes(G):
    return {"w": np.asarray(G.mapping(np.random.default_rng(0).standard_normal((COUNT, 16), np.float32)))}


@pytest.fixture(scope="module")
def refined(quick_compilation, G, codes):
    return lsap_jax.refine(G, ("w+", codes), tiny_images(COUNT), "sam", batch_size=4, **FAST)


def test_codes_and_offsets_reconstruct(G, codes, refined):
    target = tiny_images(COUNT) / 127.5 - 1
    before = np.square(lsap_jax.render(G, "w+", codes) - target).mean((1, 2, 3))
    assert (refined.metrics["mse"] < 0.9 * before).all()
    ((place, kept),) = refined.refinement.transforms.items()
    assert place == "b8" and np.array_equal(kept.shift, np.float16(kept.shift)) and kept.scale.shape == (COUNT, 8, 8, 1)
    assert (refined.codes["w"] != codes["w"]).any()
    share = 1 - np.float32(kept.scale)
    assert 0.02 < share.mean() < 0.98 and share.min() >= 0 and share.max() <= 1


@pytest.mark.parametrize("size", [1, 2])
def test_no_image_sees_its_neighbours(G, codes, refined, size):
    found = lsap_jax.refine(G, ("w+", codes), tiny_images(COUNT), "sam", batch_size=size, **FAST)
    jax.tree.map(np.testing.assert_array_equal, found.refinement, refined.refinement)
    np.testing.assert_array_equal(found.images, refined.images)


def test_strength_0_is_the_inversion(G, refined):
    edited = lsap_jax.edit(G, "w+", refined.codes, "random:0", [0, 3], images=refined.images,
                           refinement=refined.refinement)  # fmt: skip
    np.testing.assert_array_equal(edited.images[0], refined.images)
    assert np.abs(edited.images[1] - refined.images).max() > 0.01


@pytest.mark.parametrize("variant", ["original", "ganinverter"])
def test_pasting_is_adding_for_the_codes_that_were_fitted(variant, G, codes):
    rng, space = np.random.default_rng(2), parse_space("w+")
    sam = Sam(network=None, judge=None, statistics=None, resolutions=(8,), variant=variant)
    offsets = {8: rng.standard_normal((COUNT, 8, 8, 8), np.float32)}
    masks = {8: rng.random((COUNT, 8, 8, 1), np.float32)}
    shown = []
    for edit in ("add", "paste"):
        refinement = sam.replace(edit=edit).kept(G, space, codes, offsets, masks)
        assert list(refinement.transforms) == [{"original": "b8", "ganinverter": "b8.conv0"}[variant]]
        shown.append(lsap_jax.render(G, space, codes, refinement=refinement))
    np.testing.assert_allclose(shown[0], shown[1], atol=1e-5)
    plain = lsap_jax.render(G, space, codes)
    assert np.abs(plain - shown[0]).max() > 0.01


@pytest.mark.parametrize("family", ["stylegan1", "stylegan2"])
def test_the_image_of_a_block_does_not_see_its_own_offset(family):
    G = tiny_generator(family=family, discriminator=False)
    ws = np.asarray(G.mapping(np.ones((1, 16), np.float32)))
    offset = MaskedOffset(offset=np.ones((1, 8, 8, 8), np.float32), mask=np.ones((1, 8, 8, 1), np.float32))
    _, plain = G.features(ws)
    _, found = G.features(ws, transforms={"b8": offset})
    for name in ("b8", "b8.conv1", *(["b8.img"] if family == "stylegan2" else [])):
        np.testing.assert_array_equal(found[name], plain[name])
    assert np.abs(found["b16.conv0"] - plain["b16.conv0"]).max() > 1e-3


@pytest.mark.slow
def test_measured_maps_superpixels_and_the_variant(G, codes):
    bare = G.without("invertibility")
    options = {**FAST, "maps": "measured", "map_steps": 5, "segments": "slic", "variant": "ganinverter"}
    found = lsap_jax.refine(bare, ("w+", codes), tiny_images(COUNT), "sam", **options)
    assert list(found.refinement.transforms) == ["b8.conv0"]
    before = np.square(lsap_jax.render(G, "w+", codes) - (tiny_images(COUNT) / 127.5 - 1)).mean((1, 2, 3))
    assert (found.metrics["mse"] < before).all()


@pytest.mark.slow
def test_codes_on_the_sphere_stay_there(G):
    space = parse_space("z+", truncation_psi=0.7, truncation_cutoff=2)
    z = np.asarray(space.retract({"z": jax.random.normal(jax.random.key(0), (1, G.num_ws, 16))})["z"])
    found = lsap_jax.refine(G, (space, {"z": z}), tiny_images(1), "sam", **FAST)
    np.testing.assert_allclose(np.linalg.norm(found.codes["z"], axis=-1), 4, rtol=1e-5)
    assert np.abs(found.codes["z"] - z).max() > 1e-3
    shown = lsap_jax.render(G, space, found.codes, refinement=found.refinement)
    np.testing.assert_allclose(shown, found.images, atol=1e-6)


@pytest.mark.slow
def test_only_what_counts_is_fitted(G, codes):
    masks = np.zeros((1, 16, 16), np.float32)
    one, x = {"w": codes["w"][:1]}, tiny_images(1)
    changed = x.copy()
    changed[:, 8:] = 255 - changed[:, 8:]
    masks[:, :8] = 1
    # Maps are of whole images: with tau as large as this every segment has the codes alone.
    options = {**FAST, "tau": 1e9, "perceptual": 0.0}
    found = [lsap_jax.refine(G, ("w+", one), images, "sam", masks=masks, **options) for images in (x, changed)]
    np.testing.assert_array_equal(found[0].codes["w"], found[1].codes["w"])
    assert not found[0].refinement.transforms["b8"].shift.any()


def test_an_image_that_is_not_finite_stops_at_its_best_step():
    target = jnp.array([1.0, 2.0])[:, None]

    def loss(params):
        value = jnp.square(params["a"] - target).sum(1)
        return jnp.where((jnp.arange(2) == 1) & (params["a"][:, 0] > 0.25), jnp.nan, value)

    params, course = descend(loss, {"a": jnp.zeros((2, 1))}, {"a": 0.1}, 5, schedule=jnp.ones_like)
    alone, _ = descend(lambda p: loss(p)[:1], {"a": jnp.zeros((2, 1))}, {"a": 0.1}, 5, schedule=jnp.ones_like)
    assert course.finite.tolist() == [True, False] and course.step.tolist() == [5, 2]
    assert params["a"][0] == alone["a"][0] and 0.15 < params["a"][1, 0] < 0.25


@pytest.mark.slow
def test_a_loss_that_is_not_finite_is_flagged(G, codes, tmp_path, capsys):
    run, out = tmp_path / "run", tmp_path / "refined"
    G.save(tmp_path / "g.safetensors")
    write_run(run, G, tmp_path / "g.safetensors", "w+", ("a",), tiny_images(1))
    words = ("refine", run, "--method=sam", "--config.refine.lr=1e30", "--out", out)
    more = [f"--config.refine.{key}={value}" for key, value in FAST.items() if key != "tau"]
    assert main([*map(str, words), *more]) == 0, capsys.readouterr().err
    assert "non-finite loss or gradient in the refinement; kept step" in (out / "manifest.jsonl").read_text()


@pytest.mark.slow
def test_a_run_is_refined_verified_and_edited(G, tmp_path, capsys):
    save(tmp_path / "sam.safetensors", G.parts["invertibility"], {})
    bare = G.without("invertibility")
    bare.save(tmp_path / "g.safetensors")
    run, out, edits = (tmp_path / name for name in ("run", "refined", "edits"))
    write_run(run, bare, tmp_path / "g.safetensors", "w+", ("a", "b"), tiny_images(2))
    more = [f"--config.refine.{key}={value}" for key, value in FAST.items()]
    refine = ("refine", run, "--method=sam", "--weights", tmp_path / "sam.safetensors", *more, "--out", out)
    for words in (refine, ("verify", out), ("edit", out, "--direction=random:0", "--strengths=0,2", "--out", edits)):
        assert main([str(word) for word in words]) == 0, capsys.readouterr().err
    options = read_run(out)["refinement"]["options"]
    assert options["layers"] == "8" and options["maps"] == "network" and options["segments"] == "grid"
    for id in ("a", "b"):
        still = edits / "images" / id / "random-0" / "0.png"
        assert still.read_bytes() == (out / "images" / f"{id}.png").read_bytes()


def test_what_is_missing_is_said_and_recorded(G, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    monkeypatch.setattr("lsap_jax.refinement.segments.find_spec", lambda name: None)
    options = {"mvg": 0.0}
    with pytest.warns(UserWarning, match="segments are the cells of a grid; superpixels need scikit-image"):
        _, recorded = make_refiner("sam", G, options=options)
    assert recorded["segments"] == "grid" and recorded["maps"] == "network"
    with pytest.warns(UserWarning, match="no network says where codes fail"):
        _, recorded = make_refiner("sam", G.without("invertibility"), options={**options, "segments": "slic"})
    assert recorded["maps"] == "measured"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": "12"}, "refine.layers='12': 12 is not the resolution of a block .* there are 8"),
        ({"layers": "16"}, "refine.layers='16': 16 is not the resolution"),
        ({"steps": -1}, "refine.steps=-1: needs to be 0 or more"),
        ({"tau": 0.0}, "refine.tau=0.0: has to be more than 0"),
        ({"edit": "blend"}, "refine.edit='blend': choose one of paste, add"),
        ({"network": "none"}, "there is neither; name converted weights with --config.refine.lpips"),
    ],
)
def test_options_out_of_range_are_refused(G, options, message):
    with pytest.raises(LsapError, match=message):
        make_refiner("sam", G, options={"segments": "grid", "mvg": 0.0, **options})


def test_other_networks_generators_and_codes_are_refused(G, codes):
    f = {"w": codes["w"][:1], "f": np.zeros((1, 8, 8, 8), np.float32)}
    with pytest.raises(LsapError, match=r"method 'sam': .* codes of f/w\+ .* refine a run in W\+"):
        lsap_jax.refine(G, (parse_space("f/w+", base_resolution=8), f), tiny_images(1), "sam", **FAST)
    for changes, message in (
        (
            {"resolutions": (16,)},
            "judges offsets at 16 px, this generator has blocks of 4, 8, 16 px, the last",
        ),
        ({"in_channels": 1}, "reads images with 1 channels, this generator makes images with 3"),
    ):
        with pytest.raises(LsapError, match=message):
            attach(G.without("invertibility"), G.parts["invertibility"].replace(
                config=InvertibilityConfig(**{**vars(SMALL), **changes})))  # fmt: skip
    bare = G.without("invertibility")
    with pytest.raises(LsapError, match="comes without SAM's network; name a converted file"):
        make_refiner("sam", bare, options={**FAST, "maps": "network"})
    with pytest.raises(LsapError, match="does not judge offsets at 16 px, only at 8 px"):
        larger = tiny_generator(img_resolution=32).with_part("invertibility", G.parts["invertibility"])
        make_refiner("sam", larger, options={**FAST, "layers": "8,16"})


@settings(max_examples=30)
@given(seed=st.integers(0, 999), tau=st.floats(0.1, 0.9), latents=st.integers(1, 5))
def test_a_segment_has_the_most_editable_latent_that_passes(seed, tau, latents):
    means = np.random.default_rng(seed).random((2, 7, latents), np.float32)
    found = np.asarray(chosen_latents(jnp.asarray(means), tau))
    for image, segment in np.ndindex(2, 7):
        passing = [k for k in range(latents) if means[image, segment, k] <= np.float32(tau)]
        assert found[image, segment] == (passing[0] if passing else latents - 1)


@pytest.mark.parametrize("kind", ["slic", "grid"])
@pytest.mark.parametrize("side", [16, 33])
def test_every_pixel_has_a_segment(kind, side):
    images, count = tiny_images(2, side), bound(9)
    numbers = np.stack([bounded(image, kind, 9) for image in images])
    assert numbers.shape == (2, side, side) and numbers.min() == 0 and numbers.max() < count
    values = jnp.asarray(images / 127.5 - 1, jnp.float32)
    means = segment_means(values, jnp.asarray(numbers), count)
    weights = np.stack([np.bincount(np.ravel(one), minlength=count) for one in numbers])
    np.testing.assert_allclose((means * weights[..., None]).sum(1) / side**2, values.mean((1, 2)), atol=1e-5)


def test_masks_of_latents_that_no_pixel_has_are_empty():
    latents = jnp.asarray(np.repeat([[0, 2]], 8, 0).repeat(4, 1)[None], jnp.int32)
    first, second = layer_masks(latents, (4, 2))
    assert not first.any() and second.shape == (1, 2, 2, 1) and float(second.max()) > 0.9
    assert jnp.isfinite(first).all()
