"""`lsap_jax.evaluate` on arrays: its columns, their values, what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_runs import write_run

import lsap_jax
from lsap_jax.cli.evaluate import summary
from lsap_jax.errors import LsapError
from lsap_jax.losses.alignment import genuine_level, nscd, sn_layers
from lsap_jax.metrics.distortion import ms_ssim, ssim01
from lsap_jax.models.perceptual import from_discriminator
from lsap_jax.pixels import to_float, to_uint8
from lsap_jax.runs.evaluate_run import evaluate_run
from lsap_jax.runs.evaluation import compare_sets, describe_metrics, genuine_nscd
from lsap_jax.spaces import parse_space
from lsap_jax.storage.metrics_table import read_metrics_table, write_table
from lsap_jax.storage.results import read_evaluation
from lsap_jax.testing import tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation", "quick_whitening")

LAYERS = [f"nscd_{i:02d}" for i in range(6)]
COLUMNS = ["mse", "psnr", "ssim", "ssim01", "ms_ssim", "discriminator_distance", "logit", "nscd", *LAYERS]


@pytest.fixture(scope="module")
def images():
    return tiny_images(5)


@pytest.fixture(scope="module")
def inv(tiny, images):
    return lsap_jax.invert(tiny, images, "f/z+", steps=3, chunk=4, batch_size=4)


@pytest.fixture(scope="module")
def found(tiny, images, inv):
    return lsap_jax.evaluate(tiny, inv.space, inv.codes, images, batch_size=2)


def test_the_metrics_of_the_inversion_come_out_again(inv, found):
    # f of 4 px stands in for b4.conv1, the first of the six layers
    assert set(found) == set(COLUMNS[:-1]) and all(value.shape == (5,) for value in found.values())
    for name, value in inv.metrics.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, err_msg=name)


def test_the_others_are_their_formulas(tiny, images, inv, found):
    targets = to_float(images)
    np.testing.assert_allclose(found["ssim01"], jax.jit(ssim01)(inv.images, targets), atol=1e-5)
    np.testing.assert_allclose(found["ms_ssim"], jax.jit(ms_ssim)(inv.images, targets), atol=1e-5)
    styles = tiny.styles(tiny.map_rows(jnp.asarray(inv.codes["z"])))
    distances = nscd(tiny.config, styles, tiny.statistics.anchors, base_resolution=4)
    np.testing.assert_allclose(found["nscd"], distances.mean(axis=1), atol=1e-5)
    for i in range(5):
        np.testing.assert_allclose(found[LAYERS[i]], distances[:, i], atol=1e-5)
    each = [float(tiny.discriminator(inv.images[i : i + 1])[0, 0]) for i in range(5)]
    np.testing.assert_allclose(found["logit"], each, rtol=1e-4, atol=1e-4)


def test_a_name_float_targets_and_other_batches_agree(tiny, images, inv, found):
    again = lsap_jax.evaluate(tiny, "f/z+", inv.codes, to_float(images), batch_size=2)
    for name, value in found.items():
        np.testing.assert_array_equal(again[name], value, err_msg=name)
    part = {key: code[3:] for key, code in inv.codes.items()}
    for name, value in lsap_jax.evaluate(tiny, "f/z+", part, images[3:], batch_size=2).items():
        np.testing.assert_allclose(value, found[name][3:], rtol=1e-5, atol=1e-6, err_msg=name)


def test_genuine_samples_are_at_the_genuine_level(tiny):
    """NSCD of samples in Z, by the same road as those of codes."""
    count = 400
    z = parse_space("z").retract({"z": jax.random.normal(jax.random.key(8), (count, 16))})
    targets = np.zeros((count, 16, 16, 3), np.uint8)
    codes = {"z": np.asarray(z["z"])}
    found = lsap_jax.evaluate(tiny, "z", codes, targets, perceptual=[], batch_size=count)
    assert set(found) == {name for name in COLUMNS if name != "discriminator_distance"}
    level = genuine_nscd(tiny, parse_space("z"))
    np.testing.assert_allclose(level, np.mean(genuine_level(tiny.config, tiny.statistics.anchors)), rtol=1e-6)
    assert abs(found["nscd"].mean() - level) < 5 * found["nscd"].std() / np.sqrt(count)


@pytest.mark.parametrize("shape", [(5, 8, 8, 3), (4, 16, 16, 3), (5, 16, 16, 1), (16, 16, 3)])
def test_targets_of_another_shape_are_refused(tiny, inv, shape):
    with pytest.raises(LsapError, match=r"these codes need targets of shape \[5, 16, 16, 3\], got"):
        lsap_jax.evaluate(tiny, inv.space, inv.codes, np.zeros(shape, np.uint8))


def test_no_codes_have_no_metrics(tiny):
    assert lsap_jax.evaluate(tiny, "w", {"w": np.zeros((0, 16))}, np.zeros((0, 16, 16, 3), np.uint8)) == {}
    for function in (lsap_jax.evaluate, lambda G, space, codes, images: lsap_jax.render(G, space, codes)):
        with pytest.raises(LsapError, match="codes of space f/z have z, f; missing: z, f"):
            function(tiny, "f/z", {"w": np.zeros((1, 16))}, np.zeros((1, 16, 16, 3), np.uint8))
    with pytest.raises(LsapError, match="unknown space 'q'"):
        lsap_jax.evaluate(tiny, "q", {"w": np.zeros((1, 16))}, np.zeros((1, 16, 16, 3), np.uint8))


def test_every_column_is_described(tiny, inv, found):
    described = describe_metrics(tiny, inv.space, [from_discriminator(tiny, scale=1.0)])
    assert set(described) == {name for name in found if not name.startswith("nscd_")}
    assert all("formula" in record and "network" in record for record in described.values())
    formula = described["nscd"]["formula"]
    assert f"{tiny.statistics.anchor_samples:,} samples" in formula
    assert formula.endswith(", ".join(sn_layers(tiny.config, 4))) and "b4.conv1" not in formula


def test_sets_are_compared_in_random_features(tiny, images):
    z = np.asarray(jax.random.normal(jax.random.key(3), (80, 16)))
    samples = to_uint8(lsap_jax.render(tiny, "z", {"z": 4 * z / np.linalg.norm(z, axis=1, keepdims=True)}))
    same = compare_sets(tiny, samples[:40], samples[40:], None)
    other = compare_sets(tiny, samples[:40], tiny_images(40, seed=1), None)
    assert set(same) == set(other) == {"kid", "kid_stderr", "features"}
    assert abs(same["kid"]) < 4 * same["kid_stderr"] and other["kid"] > 4 * other["kid_stderr"]
    assert "64 samples of the generator" in str(other["features"])
    assert compare_sets(tiny, images[:2], images[:2], None) == {}


def test_columns_of_others_stay_but_for_cells_that_hold_no_number(tmp_path):
    G = tiny_generator(discriminator=False)
    G.save(tmp_path / "g.safetensors")
    run = write_run(tmp_path / "run", G, tmp_path / "g.safetensors", "z", ("a", "b"))
    write_table(run, b"id,mse,score\na,7,n/a\nb,7,2.5\n")
    evaluate_run(G, run, sets=False)
    table = read_metrics_table(run)
    assert "score" not in table["a"] and table["b"]["score"] == 2.5
    assert table["a"]["mse"] < 1e-4 and table["b"]["nscd"] > 0


@pytest.mark.slow
def test_path_length_stands_in_evaluation_json_and_is_printed(tmp_path):
    G = tiny_generator()
    G.save(tmp_path / "g.safetensors")
    run = write_run(tmp_path / "run", G, tmp_path / "g.safetensors", "z", ("a",))
    evaluate_run(G, run, sets=False, ppl=2, batch_size=2)
    record = read_evaluation(run)
    found = record["ppl"]
    assert (found["samples"], found["epsilon"], found["network"]) == (2, 1e-4, "discriminator")
    assert f"  ppl z_full {found['z_full']:.4g}, z_end " in summary("run", record)
