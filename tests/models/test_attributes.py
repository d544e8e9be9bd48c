"""The attribute classifier: its network, scores and files, its training, and the bundled one."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import ConfigDict

from convert_weights import ConversionError
from lsap_jax.cli import guarded
from lsap_jax.configuration import load_config
from lsap_jax.data.source import open_images
from lsap_jax.errors import LsapError
from lsap_jax.models.attributes import (
    BATCH,
    Attributes,
    BinaryAttribute,
    attribute_scores,
    check_binary,
    label_accuracies,
    label_logits,
    label_probabilities,
)
from lsap_jax.models.attributes_file import load_attributes, save_attributes
from lsap_jax.models.generator_file import load_generator
from lsap_jax.networks.attributes import AttributesConfig, AttributesNetwork, initial_params
from lsap_jax.networks.parameters import count, halved
from lsap_jax.storage import weights_file
from lsap_jax.testing import tiny_images
from lsap_jax.training.attributes import (
    Augmentation,
    ClassifierTraining,
    augment,
    load_labelled,
    optimizer,
    train_attributes,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")

ASSETS = Path(__file__).resolve().parents[2] / "lsap_jax" / "assets"
LABELS = (("colour", ("blue", "green", "red")), ("half", ("left", "right")))
TINY = AttributesConfig(labels=LABELS, resolution=8, widths=(4, 6))
WARM = BinaryAttribute("colour", ("red", "green"), ("blue",))
RED = BinaryAttribute("colour", ("red",), ("blue",))


@pytest.fixture(scope="module")
def classifier(quick_compilation) -> Attributes:
    """Untrained, for images of 8 px."""
    return Attributes(config=TINY, params=initial_params(TINY, jax.random.key(0)), binary={"warm": WARM, "red": RED})


def painted(count: int, seed: int = 0, resolution: int = 8) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Images and their labels: a bright square in one half, of one of three colours."""
    rng = np.random.default_rng(seed)
    colours, halves = rng.integers(0, 3, count), rng.integers(0, 2, count)
    images = rng.integers(0, 40, (count, resolution, resolution, 3)).astype(np.uint8)
    for image, colour, half in zip(images, colours, halves, strict=True):
        left = half * resolution // 2
        image[2:-2, left + 1 : left + resolution // 2 - 1, 2 - colour] = 220
    names = dict(LABELS)
    return images, {"colour": np.array(names["colour"])[colours], "half": np.array(names["half"])[halves]}


def archive(path: Path, count: int = 150, **changes) -> Path:
    images, labels = painted(count)
    np.savez(path, **{"images": images, **{f"label_{name}": a for name, a in labels.items()}, **changes})
    return path


def tiny_training(**changes) -> ConfigDict:
    config = load_config("attributes_toonhead64", {"generator": "", "epochs": 8, "heldout": 50})
    config.update_from_flattened_dict({"train.batch_size": 20, "train.lr": 2e-2, "augment.shift": 1})
    with config.ignore_type():
        config.widths, config.labels = (4, 8), ()
        config.binary = {"warm": WARM._asdict()}
        config.update_from_flattened_dict(changes)
    return config


def test_one_head_per_label_in_float32(classifier):
    x = jax.random.uniform(jax.random.key(1), (3, 8, 8, 3), minval=-1.0)
    run = jax.jit(lambda params: AttributesNetwork(TINY).apply({"params": params}, x))
    full = run(classifier.params)
    assert {name: a.shape for name, a in full.items()} == {"colour": (3, 3), "half": (3, 2)}
    half = run(halved(classifier.params))
    for name in full:
        assert full[name].dtype == jnp.float32
        np.testing.assert_allclose(half[name], full[name], atol=1e-2)


def test_scores_and_probabilities_by_their_definition(classifier):
    images = tiny_images(5, 8)
    logits = label_logits(classifier, images)
    found, scores = label_probabilities(classifier, images), attribute_scores(classifier, images)
    for name, a in logits.items():
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], np.exp(a) / np.exp(a).sum(axis=1)[:, None], 1e-5)
    blue, green, red = found["colour"].T  # the order of `labels`
    assert scores.keys() == {"warm", "red"} and scores["warm"].shape == (5,)
    np.testing.assert_allclose(scores["warm"], np.log((red + green) / blue), 1e-4, 1e-5)
    np.testing.assert_allclose(scores["red"], np.log(red / blue), 1e-4, 1e-5)


def test_scores_have_no_bounds(classifier):
    """Where a probability is 1 to the last digit, log-odds still tell two images apart."""
    strong = classifier.replace(params=jax.tree.map(lambda a: 20 * a, classifier.params))
    images = tiny_images(4, 8)
    scores = attribute_scores(strong, images)["red"]
    assert np.isfinite(scores).all() and np.abs(scores).max() > 100 and len(set(scores.tolist())) == 4


@given(st.integers(1, BATCH + 6), st.integers(0, 2**16))
def test_an_image_is_judged_alike_in_every_batch(classifier, number, seed):
    images = np.random.default_rng(seed).integers(0, 256, (number, 8, 8, 3), np.uint8)
    place = seed % number
    together, alone = label_logits(classifier, images), label_logits(classifier, images[place : place + 1])
    for name in together:
        assert together[name].shape == (number, len(classifier.labels[name]))
        np.testing.assert_allclose(together[name][place], alone[name][0], 1e-6, 1e-6)


def test_a_picture_is_judged_as_its_file_is(classifier):
    images = tiny_images(3, 8)
    floats = images.astype(np.float32) / 127.5 - 1
    levels = label_logits(classifier, images)
    for same in (floats, floats + 0.003, floats.astype(np.float64), jnp.asarray(floats)):
        assert np.array_equal(label_logits(classifier, same)["colour"], levels["colour"])
    white = np.full((1, 8, 8, 3), 255, np.uint8)
    assert np.array_equal(
        label_logits(classifier, np.full((1, 8, 8, 3), 1.7))["half"], label_logits(classifier, white)["half"]
    )


def test_images_that_cannot_be_judged(classifier):
    for wrong in (np.zeros((2, 16, 16, 3)), np.zeros((8, 8, 3)), np.zeros((2, 8, 8, 1)), np.zeros((0, 8, 8, 3))):
        with pytest.raises(LsapError, match=r"judges images \[N, 8, 8, 3\], got"):
            label_logits(classifier, wrong)
    with pytest.raises(LsapError, match=r"floats in \[-1, 1\], got int64"):
        label_logits(classifier, np.zeros((2, 8, 8, 3), np.int64))
    with pytest.raises(LsapError, match="NaN or infinite values.*leave such images out"):
        attribute_scores(classifier, np.full((2, 8, 8, 3), np.nan))


def test_accuracy_is_of_the_likeliest_value(classifier):
    images = tiny_images(8, 8)
    guessed = {n: np.array(classifier.labels[n])[a.argmax(axis=1)] for n, a in label_logits(classifier, images).items()}
    assert label_accuracies(classifier, images, guessed) == {"colour": 1.0, "half": 1.0}
    guessed["half"][:2] = "neither"
    assert label_accuracies(classifier, images, guessed)["half"] == 0.75
    with pytest.raises(LsapError, match="no true values of label 'half'"):
        label_accuracies(classifier, images, {"colour": guessed["colour"]})


def test_sides_are_values_that_there_are():
    names = dict(LABELS)
    check_binary(names, {"warm": WARM}, "x")
    for wrong, message in (
        (
            BinaryAttribute("shape", ("red",), ("blue",)),
            "x: attribute a has the unknown label 'shape'; use colour, half",
        ),
        (BinaryAttribute("colour", ("red",), ("pink",)), "x: attribute a: label colour has no value 'pink'"),
        (BinaryAttribute("colour", ("red",), ()), "both need values"),
        (BinaryAttribute("colour", ("red", "blue"), ("blue",)), "no value may be on both"),
    ):
        with pytest.raises(LsapError, match=message):
            check_binary(names, {"a": wrong}, "x")


def test_a_file_gives_the_same_classifier_back(tmp_path, classifier):
    made = classifier.replace(provenance={"accuracy": {"colour": 0.5, "half": 0.75}})
    path = tmp_path / "a.safetensors"
    digest = save_attributes(path, made)
    again = load_attributes(path)
    assert (again.config, again.binary, again.labels) == (TINY, made.binary, dict(LABELS))
    assert again.accuracy == {"colour": 0.5, "half": 0.75} and again.provenance["sha256"] == digest
    assert jax.tree.all(jax.tree.map(np.array_equal, again.params, made.params))
    assert save_attributes(tmp_path / "b.safetensors", again) == digest
    assert (tmp_path / "b.safetensors").read_bytes() == path.read_bytes()


def test_broken_files_are_refused(tmp_path, classifier):
    path = tmp_path / "a.safetensors"
    save_attributes(path, classifier)
    whole = path.read_bytes()
    for damaged, message in (
        (whole[:-1] + bytes([whole[-1] ^ 1]), "damaged"),
        (whole[:-20], "damaged or truncated"),
        (b"not weights at all", "not a known checkpoint format"),
        (b"", "is empty"),
    ):
        path.write_bytes(damaged)
        with pytest.raises((LsapError, ConversionError), match=f"a.safetensors: .*{message}"):
            load_attributes(path)
    with pytest.raises(LsapError, match=r"nowhere: no such file; give its own classifier with --attributes"):
        load_attributes(tmp_path / "nowhere")
    with pytest.raises(LsapError, match="holds 'generator' weights, not an attribute classifier"):
        load_attributes(ASSETS / "toonhead64.safetensors")


def test_headers_that_do_not_fit_are_refused(tmp_path, classifier):
    path = tmp_path / "a.safetensors"
    save_attributes(path, classifier)
    kind, arrays, config, _ = weights_file.read_weights(path)
    binary = config["binary"]
    fewer = {name: a for name, a in arrays.items() if name != "conv1/bias"}
    for tensors, header, message in (
        (fewer, config, r"- conv1/bias \(6,\)"),
        (arrays | {"conv9/bias": np.zeros(2)}, config, r"\+ conv9/bias \(2,\)"),
        (arrays, config | {"widths": [4, 7]}, r"! conv1/bias is \(6,\), expected \(7,\)"),
        (arrays, config | {"labels": 3}, "do not belong together"),
        (arrays, config | {"labels": [["colour"]]}, "do not belong together"),
        (arrays, config | {"binary": []}, "do not belong together"),
        (arrays, config | {"resolution": None}, "do not belong together"),
        (arrays, config | {"binary": binary | {"warm": {"label": "colour"}}}, "do not belong together"),
        (
            arrays,
            config | {"binary": binary | {"warm": WARM._asdict() | {"label": "age"}}},
            "has the unknown label 'age'",
        ),
    ):
        weights_file.write_weights(path, kind, tensors, header, {})
        with pytest.raises(LsapError, match=message):
            load_attributes(path)


def test_a_classifier_of_ones_own_needs_images_of_its_size(tmp_path, classifier, tiny):
    path = tmp_path / "a.safetensors"
    save_attributes(path, classifier)
    with pytest.raises(LsapError, match="judges images of 8 px and 3 channels, the generator makes 16 px and 3"):
        load_attributes(path, tiny)
    wider = replace(TINY, resolution=16)
    save_attributes(path, classifier.replace(config=wider, params=initial_params(wider, jax.random.key(0))))
    assert load_attributes(path, tiny).config == wider


def test_the_bundled_one_belongs_to_its_generator(tiny):
    G = load_generator("toonhead64")
    found = load_attributes(G=G)
    assert found.provenance["generator"] == {"name": "toonhead64", "sha256": G.network_sha256}
    assert load_attributes(G=G.bare()).config == found.config
    with pytest.raises(LsapError, match="judges images of 64 px and 3 channels, the generator makes 16 px"):
        load_attributes(G=tiny)
    other = G.replace(params=jax.tree.map(lambda a: a * 1.5, G.params))
    with pytest.raises(LsapError, match=r"bundled attribute classifier is for toonhead64.*--attributes"):
        load_attributes(G=other)
    assert load_attributes("toonhead64", other).config == found.config  # asked for by name


# True values of the bundled samples, from the avatars' own description.
SAMPLE_LABELS = ("hair", "rearHair", "hairColor", "skinColor", "eyes", "beard", "mouth")
SAMPLES = {
    "k9600": "bun longStraight #a55728 #b98e6a wink null sad",
    "k9613": "spiky neckHigh #d6b370 #f1c3a5 humble chin smile",
    "k9627": "sideComed neckHigh #b58143 #c68e7a happy null sad",
    "k9640": "spiky longStraight #a55728 #a36b4f wink chinMoustache smile",
    "k9653": "undercut null #2c1b18 #f1c3a5 happy chin agape",
    "k9666": "sideComed null #b58143 #a36b4f wide null sad",
    "k9680": "spiky null #d6b370 #f1c3a5 happy null laugh",
    "k9693": "bun null #a55728 #a36b4f wink fullBeard agape",
    "k9706": "undercut null #b58143 #c68e7a happy chin laugh",
    "k9719": "spiky null #2c1b18 #c68e7a happy chin angry",
    "k9733": "bun null #2c1b18 #f1c3a5 happy null agape",
    "k9746": "bun null #b58143 #b98e6a happy null laugh",
    "k9759": "bun neckHigh #d6b370 #5c3829 wide null sad",
    "k9772": "undercut null #2c1b18 #5c3829 bow null angry",
    "k9786": "spiky null #b58143 #c68e7a wink null agape",
    "k9799": "bun longStraight #d6b370 #c68e7a wink chin angry",
}


def test_the_bundled_one_is_right_about_the_bundled_samples():
    found = load_attributes()
    source = open_images(str(ASSETS / "samples"), resolution=64, channels=3)
    images = np.stack([source.load(i).image for i in range(len(source))])
    assert set(SAMPLES) == set(source.ids)
    truth = dict(zip(SAMPLE_LABELS, np.array([SAMPLES[name].split() for name in source.ids]).T, strict=True))
    guessed = {n: np.array(found.labels[n])[a.argmax(axis=1)] for n, a in label_logits(found, images).items()}
    wrong = {n: int((guessed[n] != values).sum()) for n, values in truth.items()}
    # Long beards hide mouths.
    assert wrong.pop("mouth") <= 1
    assert not any(wrong.values()), wrong


def test_the_bundled_file_is_small_and_says_how_good_it_is():
    path = ASSETS / "toonhead64.attributes.safetensors"
    assert path.stat().st_size < 2_000_000
    found = load_attributes()
    assert count(found.params) < 400_000 and found.accuracy.keys() == found.labels.keys()
    assert len(found.binary) == 14
    assert found.provenance["heldout"] == 300 and found.provenance["images"] == 19500
    assert min(found.accuracy.values()) > 0.95


def test_the_same_archive_and_seed_give_the_same_classifier(tmp_path):
    lines: list[str] = []
    pack = archive(tmp_path / "pack.npz")
    first = train_attributes(tiny_training(), pack, tmp_path / "a.safetensors", log=lines.append)
    assert lines[0] == "100 training and 50 held-out images, 2 labels"
    assert [line.split()[0] for line in lines[1:9]] == [f"epoch={i}/8" for i in range(1, 9)]
    assert lines[9].startswith("colour ") and "of 50 held-out images, 3 values" in lines[9]
    images, labels = painted(200, seed=1)
    assert min(label_accuracies(first, images, labels).values()) > 0.9 and min(first.accuracy.values()) > 0.9
    assert (attribute_scores(first, images)["warm"] > 0).tolist() == (labels["colour"] != "blue").tolist()
    loaded = load_attributes(tmp_path / "a.safetensors")
    assert loaded.accuracy == first.accuracy
    assert {a.dtype.name for a in weights_file.read_weights(tmp_path / "a.safetensors")[1].values()} == {"float16"}
    assert np.array_equal(label_logits(loaded, images)["half"], label_logits(first, images)["half"])
    train_attributes(tiny_training(), pack, tmp_path / "b.safetensors", log=lambda _: None)
    assert (tmp_path / "b.safetensors").read_bytes() == (tmp_path / "a.safetensors").read_bytes()
    other = train_attributes(tiny_training(seed=1, epochs=1), pack, tmp_path / "c.safetensors", log=lambda _: None)
    assert not np.array_equal(label_logits(other, images)["half"], label_logits(first, images)["half"])


def test_training_refuses_what_cannot_be(tmp_path):
    pack, out = archive(tmp_path / "pack.npz", count=40), tmp_path / "a.safetensors"
    for changes, message in (
        ({"heldout": 40}, "cannot hold out 40 of 40 images"),
        ({"heldout": 30}, "10 training images do not fill a batch of 20"),
        (
            {"heldout": 5, "labels": ("half", "hat")},
            r"has no label hat; its arrays are images, label_colour, label_half",
        ),
        ({"heldout": 5, "epochs": 0}, "epochs=0 is not a number of passes"),
        ({"widths": (0,)}, r"widths=\(0,\): numbers of channels are 1 or more"),
        ({"widths": ("x",)}, "widths="),
        ({"seed": -1}, "seed=-1 must be between 0 and 4294967295"),
        ({"train.batch_size": 0}, "train.batch_size=0 must be 1 or more"),
        ({"train.warmup": 2.0}, "train.warmup=2.0 must be between 0 and 1"),
        ({"train.lr": float("nan")}, "train.lr=nan must be 0 or more"),
        ({"augment.shift": -1}, "augment.shift=-1 must be 0 or more"),
        ({"augment.noise": float("inf")}, "augment.noise=inf must be 0 or more"),
        ({"heldout": 5, "labels": ("half",)}, r"pack.npz: attribute warm has the unknown label 'colour'; use half"),
        (
            {"heldout": 5, "generator": "toonhead64"},
            r"images are \(8, 8, 3\), generator=toonhead64 makes \(64, 64, 3\)",
        ),
    ):
        with pytest.raises(LsapError, match=message):
            train_attributes(tiny_training(**changes), pack, out, log=lambda _: None)
    assert not out.exists()


def test_archives_that_are_none_are_refused(tmp_path):
    path = tmp_path / "pack.npz"
    with pytest.raises(LsapError, match="pack.npz: no such file; give an .npz archive"):
        load_labelled(path)
    pictures = np.zeros((40, 8, 8, 3), np.uint8)
    for changes, message in (
        ({"images": pictures.astype(np.float32)}, r"images are float32 \(40, 8, 8, 3\)"),
        ({"images": pictures[:, :, :6]}, r"images are uint8 \(40, 8, 6, 3\)"),
        ({"images": pictures[:9]}, r"label_colour is <U5 \(40,\); each of 9 images needs a text"),
        ({"label_half": np.arange(40)}, "label_half is int64"),
        ({"label_half": np.array([{}] * 40)}, r"label_half is an array of Python objects.*astype\(str\)"),
        ({"label_a/b": np.array(["x"] * 40)}, "the name of label 'a/b' has a /"),
    ):
        archive(path, 40, **changes)
        with pytest.raises(LsapError, match=message):
            load_labelled(path)
    archive(path, 40)
    whole = path.read_bytes()
    np.save(tmp_path / "plain.npy", pictures)
    np.savez(tmp_path / "bare.npz", images=pictures)
    np.savez(tmp_path / "blind.npz", label_half=np.array(["left"]))
    for content, message in (
        (whole[: len(whole) // 2], "not an archive"),
        (b"", "not an archive"),
        (b"PK\x03\x04" + bytes(40), "not an archive"),
        ((tmp_path / "plain.npy").read_bytes(), "not an archive"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "not an archive of labelled images; numpy.savez writes one"),
        ((tmp_path / "bare.npz").read_bytes(), "has no label at all; its arrays are images"),
        ((tmp_path / "blind.npz").read_bytes(), "not an archive of labelled images.*images"),
    ):
        path.write_bytes(content)
        with pytest.raises(LsapError, match=message):
            load_labelled(path)


def test_augmentation_stays_within_what_it_is_given():
    x = jnp.asarray(tiny_images(6, 8)) / 127.5 - 1
    rng = jax.random.key(0)
    nothing = Augmentation(shift=0, blur=0.0, noise=0.0, contrast=0.0, brightness=0.0)
    np.testing.assert_allclose(augment(x, rng, nothing), x, atol=1e-6)
    # Half of the images are flat, with no place to shift and nothing to blur; half have an edge.
    flat = jnp.full((32, 8, 8, 3), 0.4)
    both = jnp.concatenate([flat, jnp.zeros((32, 8, 8, 3)).at[:, :, 4:].set(1.0)])
    moved = np.asarray(augment(both, rng, replace(nothing, shift=2)))
    np.testing.assert_allclose(moved[:32], flat, atol=1e-6)
    assert set(moved[32:, 0, :, 0].sum(axis=1).tolist()) == {2.0, 3.0, 4.0, 5.0, 6.0}
    soft = np.asarray(augment(both, rng, replace(nothing, blur=1.0)))
    np.testing.assert_allclose(soft[:32], flat, atol=1e-6)
    np.testing.assert_allclose(soft[32:, :, 3] + soft[32:, :, 4], 1.0, atol=1e-5)
    assert soft[32:, 0, 3, 0].min() < 0.05 < 0.25 < soft[32:, 0, 3, 0].max() < 0.35
    toned = np.asarray(augment(both, rng, replace(nothing, contrast=0.1, brightness=0.7)))[:32]
    assert np.ptp(toned, axis=(1, 2, 3)).max() < 1e-6  # one tone per image
    assert 0.5 < np.abs(toned - 0.4).max() <= 0.4 * 0.1 + 0.7 + 1e-6 and toned.max() == 1.0
    noisy = np.asarray(augment(both, rng, replace(nothing, noise=0.2)))[:32].std(axis=(1, 2, 3))
    assert noisy.min() < 0.05 < 0.12 < noisy.max() < 0.25


def test_the_rate_rises_then_falls_to_nothing():
    train = ClassifierTraining(batch_size=4, lr=0.01, warmup=0.2, weight_decay=0.0)
    tx, params = optimizer(train, 10), {"a": jnp.zeros(1)}
    state, sizes = tx.init(params), []
    for _ in range(11):
        updates, state = tx.update({"a": jnp.ones(1)}, state, params)
        sizes.append(float(-updates["a"][0]))
    np.testing.assert_allclose(sizes[:3], [0, 0.005, 0.01], rtol=1e-3)
    assert sizes[2:] == sorted(sizes[2:], reverse=True) and sizes[-1] < 1e-6


def test_command(tmp_path, capsys):
    pack, config = archive(tmp_path / "pack.npz"), tmp_path / "mine.py"
    values = json.dumps(tiny_training(epochs=1).to_dict())
    config.write_text(f"from ml_collections import ConfigDict\ndef get_config():\n    return ConfigDict({values})\n")
    out = tmp_path / "deep" / "a.safetensors"

    def run(*arguments: object) -> int:
        return guarded("lsap-jax train-attributes", "train_attributes", [str(a) for a in arguments])

    assert run(pack, "--out", out, "--config", config, "--seed", 3, "--config.name=mine") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "100 training and 50 held-out images, 2 labels" and lines[-1] == str(out)
    found = load_attributes(out)
    assert (found.provenance["name"], found.provenance["config"]["seed"]) == ("mine", 3)
    assert found.provenance["generator"] is None and found.provenance["images_seen"] == 100
    for arguments, message in (
        ((pack, "--config", config), "--out is missing"),
        (("--out", out), "expected ARCHIVE.npz, got nothing"),
        ((pack, "--out", out, "--config", "f_zplus"), "this configuration belongs to another command"),
        ((tmp_path / "no.npz", "--out", out, "--config", config), "no.npz: no such file"),
    ):
        assert run(*arguments) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
