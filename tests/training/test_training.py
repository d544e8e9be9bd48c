"""Training of generators: the parts of a step, the order of the data, and whole runs."""

import json
import shutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import ConfigDict

from lsap_jax.errors import LsapError
from lsap_jax.models.generator import Generator
from lsap_jax.models.generator_file import load_generator
from lsap_jax.testing import tiny_generator, tiny_images
from lsap_jax.training import dataset, model_card
from lsap_jax.training import stylegan2 as training
from lsap_jax.training.augment import adapt, augment
from lsap_jax.training.generator import build, check_windows, initial_local, mean_logit, train_generator
from lsap_jax.training.stylegan2 import BUFFERS, TrainConfig, Window

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def G(quick_compilation) -> Generator:
    return tiny_generator(img_resolution=8)


@pytest.fixture(scope="module")
def real() -> jax.Array:
    return jnp.asarray(tiny_images(4, 8), jnp.float32) / 127.5 - 1


def flat(tree) -> dict[tuple, np.ndarray]:
    return {path: np.asarray(leaf) for path, leaf in flatten_dict(dict(tree)).items()}


@pytest.fixture(scope="module")
def one_step(G):
    """(config, state before, state after, logs) of a step with everything turned on."""
    config = TrainConfig(
        batch_size=4, path_length_weight=2.0, ema_halflife=8.0, augment_p=0.5, augment_target=0.6, r1_gamma=10.0,
        windows=(Window(name="again", top=0, left=0, size=8, channels=(8, 8), r1_gamma=1.0),),
    )  # fmt: skip
    before = training.initial_state(G, config, initial_local(G, config, 0))
    step = jax.jit(partial(training.train_step, G, config), static_argnames=("r1", "path_length"))
    after, logs = step(before, tiny_images(4, 8), jax.random.key(5), config.lr, r1=True, path_length=True)
    return config, before, after, logs


def test_a_step_moves_what_is_trained_and_no_buffer(one_step, G):
    config, before, after, logs = one_step
    for part in ("generator", "discriminators"):
        old, new = flat(getattr(before, part)), flat(getattr(after, part))
        for path in old:
            moved = not np.array_equal(old[path], new[path])
            # The last torgb's w is all that a random torgb needs: every leaf has a gradient here.
            assert moved == (path[-1] != "noise_const"), path
    for path, leaf in flat(after.ema).items():
        if path[-1] == "noise_const":
            assert np.array_equal(leaf, flat(before.ema)[path])
    assert int(after.images_seen) == 4
    assert all(np.isfinite(v) for v in logs.values()) and logs["r1"] > 0
    assert abs(float(after.augment_p) - 0.5) == pytest.approx(4 / config.augment_images_to_one, rel=0.01)


def test_buffers_get_no_step_of_the_optimizer(G):
    g_tx, _ = training.optimizers(TrainConfig())
    ones = jax.tree.map(jnp.ones_like, G.params)
    updates, _ = jax.jit(lambda g: g_tx.update(g, g_tx.init(G.params), G.params))(ones)
    for path, leaf in flat(updates).items():
        assert np.all(leaf == 0) if path[-1] in BUFFERS else np.all(leaf < 0), path


def test_moving_average_has_its_half_life(one_step):
    config, before, after, _ = one_step
    beta = 0.5 ** (config.batch_size / config.ema_halflife)
    old, new, average = flat(before.ema), flat(after.generator), flat(after.ema)
    for path in old:
        np.testing.assert_allclose(average[path], beta * old[path] + (1 - beta) * new[path], 1e-5, 1e-6)


def test_w_avg_follows_the_mean_of_w(G):
    w = jnp.arange(32.0).reshape(2, 16)
    params = training.track_w_avg(G.params, w, 0.75)
    np.testing.assert_allclose(params["mapping"]["w_avg"], 0.75 * G.w_avg + 0.25 * (jnp.arange(16.0) + 8), 1e-6)
    assert params["synthesis"] is G.params["synthesis"]


class Quadratic:
    """A critic Σ a x² + b x per image, with the gradient 2 a x + b."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return (0.5 * jnp.square(x) + 3 * x).sum(axis=(1, 2, 3))[:, None]


def test_r1_is_the_squared_gradient_of_the_critic(real):
    expected = 2.0 * np.square(np.asarray(real) + 3).sum(axis=(1, 2, 3)).mean()
    found = training.r1_penalty(Quadratic(), real, 4.0)  # type: ignore[arg-type]
    np.testing.assert_allclose(found, expected, 1e-5)


def test_a_window_sees_its_pixels_alone():
    G, window = tiny_generator(), Window(name="corner", top=1, left=2, size=8, channels=(8, 8), r1_gamma=1.0)
    config = TrainConfig(windows=(window,))
    whole, corner = training.critics(G, config).values()
    params = initial_local(G, config, 0)["corner"]
    images = jax.random.normal(jax.random.key(0), (4, 16, 16, 3))
    grads = np.abs(jax.grad(lambda x: corner(params, x).sum())(images)).sum(axis=(0, 3))
    inside = np.zeros((16, 16), bool)
    inside[1:9, 2:10] = True
    assert (grads[inside] > 0).all() and not grads[~inside].any()
    assert np.array_equal(whole(G.discriminator.params, images), G.discriminator(images))


@pytest.mark.parametrize("where", [dict(top=9), dict(left=-1), dict(size=4), dict(name="whole")])
def test_windows_outside_the_images_are_refused(where):
    window = Window(**{**dict(name="w", top=8, left=0, size=8, channels=(8, 8), r1_gamma=1.0), **where})
    with pytest.raises(LsapError, match=f"windows.{window.name}"):
        check_windows([window], 16)
    check_windows([Window(name="w", top=8, left=8, size=8, channels=(8, 8), r1_gamma=1.0)], 16)


class Linear:
    """A stand-in generator whose image is every w spread over the pixels: its Jacobian is known."""

    img_resolution, img_channels, num_ws, z_dim = 4, 1, 2, 3

    def map_w(self, z: jax.Array) -> jax.Array:
        return z

    def synthesis(self, ws: jax.Array, noise_mode: str, rng: jax.Array) -> jax.Array:
        return jnp.broadcast_to(3.0 * ws[:, :, 0].sum(axis=1)[:, None, None, None], (ws.shape[0], 4, 4, 1))


def test_path_length_penalty_of_a_known_jacobian():
    config = TrainConfig(path_length_weight=2.0, path_length_interval=4, style_mixing=0.0)
    rng = jax.random.key(3)
    penalty, mean = training.path_length_penalty(Linear(), config, rng, 6, jnp.float32(1.5))  # type: ignore[arg-type]
    y = jax.random.normal(jax.random.split(rng, 3)[2], (6, 4, 4, 1)) / 4
    # d(Σ y · image)/dw is 3 Σ y in the first of three dimensions of both rows: their mean length is that.
    lengths = np.abs(3 * np.asarray(y).sum(axis=(1, 2, 3)))
    new_mean = 1.5 + 0.01 * (lengths.mean() - 1.5)
    np.testing.assert_allclose(mean, new_mean, 1e-5)
    np.testing.assert_allclose(penalty, 8 * np.square(lengths - new_mean).mean(), 1e-4)


def test_path_length_of_a_generator_is_finite_and_tracked(one_step):
    _, before, after, logs = one_step
    assert float(before.path_length_mean) == 0 < float(after.path_length_mean)
    assert np.isfinite(float(logs["g_loss"]))


@pytest.mark.parametrize("mixing", [0.0, 1.0])
def test_style_mixing_cuts_between_the_first_and_the_last_layer(mixing):
    G = tiny_generator(img_resolution=16, discriminator=False)
    ws, w = jax.jit(lambda rng: training.sample_ws(G, rng, 64, mixing))(jax.random.key(0))
    first, second = np.asarray(w[:64, None]), np.asarray(w[64:, None])
    from_first = np.isclose(ws, first).all(axis=2)
    assert np.array_equal(from_first | np.isclose(ws, second).all(axis=2), np.ones((64, G.num_ws), bool))
    cuts = from_first.sum(axis=1)
    assert all(row[:cut].all() and not row[cut:].any() for row, cut in zip(from_first, cuts, strict=True))
    assert set(cuts) == ({G.num_ws} if mixing == 0 else set(range(1, G.num_ws)))


def test_augmentation_changes_images_by_its_probability_and_lets_gradients_through(real):
    run = jax.jit(augment)
    rng = jax.random.key(1)
    assert np.array_equal(run(real, rng, jnp.float32(0)), real)
    for image, plain in zip(run(real, rng, jnp.float32(1)), real, strict=True):
        assert not np.allclose(image, plain)
    grads = jax.jit(jax.grad(lambda x: jnp.square(augment(x, rng, jnp.float32(1))).sum()))(real)
    assert np.isfinite(grads).all() and (np.abs(grads).sum(axis=(1, 2, 3)) > 0).all()
    many = jnp.tile(real[:1], (512, 1, 1, 1))
    changed = ~np.isclose(run(many, rng, jnp.float32(0.3)), many).all(axis=(1, 2, 3))
    assert changed.mean() == pytest.approx(1 - 0.7**5, abs=0.07)


@given(
    st.floats(0, 0.8),
    st.lists(st.floats(-5, 5, width=32, allow_subnormal=False), min_size=1, max_size=8),
    st.floats(0.1, 0.9),
)
def test_adapted_probability_stays_in_its_bounds(p, logits, target):
    new = float(adapt(jnp.float32(p), jnp.asarray(logits, jnp.float32), target=target, images_to_one=40.0))
    size = len(logits) / 40
    assert 0 <= new <= np.float32(0.8) and abs(new - p) <= size + 1e-6
    mean = np.sign(logits).mean()
    if abs(mean - target) > 1e-3:
        expected = np.clip(p + (size if mean > target else -size), 0, 0.8)
        assert new == pytest.approx(expected, abs=1e-6)


@given(
    count=st.integers(2, 40),
    size=st.integers(1, 8),
    heldout=st.integers(1, 10),
    seed=st.integers(0, 99),
    mirror=st.booleans(),
)
def test_epochs_are_permutations_of_the_training_images_alone(count, size, heldout, seed, mirror):
    images = np.arange(count + heldout, dtype=np.uint8).reshape(-1, 1, 1, 1).repeat(2, axis=2)
    training_images, apart = dataset.split_heldout(images, heldout)
    assert not set(training_images.ravel()) & set(apart.ravel())
    per_epoch = count // size
    if per_epoch == 0:
        with pytest.raises(LsapError, match="lower train.batch_size"):
            dataset.batch(training_images, 0, size, seed, mirror)
        return
    for epoch in range(2):
        steps = range(epoch * per_epoch, (epoch + 1) * per_epoch)
        batches = [dataset.batch(training_images, step, size, seed, mirror) for step in steps]
        served = np.concatenate(batches)[:, 0, 0, 0].tolist()
        assert len(served) == len(set(served)) and set(served) <= set(training_images.ravel().tolist())
        again = [dataset.batch(training_images, step, size, seed, mirror) for step in steps]
        assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))


def test_order_depends_on_epoch_and_seed_and_mirroring_flips():
    images = tiny_images(64, 8)
    first = dataset.batch(images, 0, 64, 0, False)
    assert not np.array_equal(first, dataset.batch(images, 1, 64, 0, False))
    assert not np.array_equal(first, dataset.batch(images, 0, 64, 1, False))
    flipped = dataset.batch(images, 0, 64, 0, True)
    same, turned = (
        (flipped == first).all(axis=(1, 2, 3)),
        (flipped == first[:, :, ::-1]).all(axis=(1, 2, 3)),
    )
    assert (same | turned).all() and 10 < turned.sum() < 54
    assert first.dtype == np.uint8


def test_the_rate_falls_by_half_a_cosine():
    rates = [
        training.learning_rate(TrainConfig(lr=2.0, decay_start=100, decay_images=50), n)
        for n in (0, 100, 125, 150, 999)
    ]
    np.testing.assert_allclose(rates, [2.0, 2.0, 1.02, 0.04, 0.04])
    assert training.learning_rate(TrainConfig(lr=2.0), 10**9) == 2.0


def test_packs_of_arrays_jpegs_and_folders(tmp_path):
    from PIL import Image

    images = tiny_images(3, 8) // 8 + 100
    np.savez(tmp_path / "a.npz", images=images)
    assert np.array_equal(dataset.load_pack(tmp_path / "a.npz", 8, 3), images)
    files = []
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{i}.jpg", quality=95)
        files.append((tmp_path / f"{i}.jpg").read_bytes())
    offsets = np.cumsum([0, *map(len, files)])
    np.savez(tmp_path / "b.npz", jpeg=np.frombuffer(b"".join(files), np.uint8), offsets=offsets)
    decoded = dataset.load_pack(tmp_path / "b.npz", 8, 3)
    assert decoded.shape == images.shape and np.abs(decoded.astype(int) - images).mean() < 10
    folder = tmp_path / "folder"
    folder.mkdir()
    Image.fromarray(images[0]).save(folder / "x.png")
    assert np.array_equal(dataset.load_pack(folder, 8, 3), images[:1])
    both, apart = dataset.load_training_images(str(tmp_path / "a.npz"), [str(tmp_path / "b.npz")], 1, 8, 3)
    assert np.array_equal(both, np.concatenate([images[:2], decoded])) and np.array_equal(apart, images[2:])


def test_unusable_packs_are_refused_by_name(tmp_path):
    np.savez(tmp_path / "size.npz", images=tiny_images(3, 16))
    with pytest.raises(LsapError, match=r"size\.npz: images are uint8 \(16, 16, 3\), the generator makes uint8 \(8, 8"):
        dataset.load_pack(tmp_path / "size.npz", 8, 3)
    np.savez(tmp_path / "float.npz", images=np.zeros((3, 8, 8, 3), np.float32))
    with pytest.raises(LsapError, match="float32"):
        dataset.load_pack(tmp_path / "float.npz", 8, 3)
    np.savez(tmp_path / "other.npz", pictures=np.zeros(3))
    (tmp_path / "text.npz").write_text("no pack")
    for name in ("other.npz", "text.npz", "absent.npz"):
        with pytest.raises(LsapError, match=f"{name}.*not a pack of images"):
            dataset.load_pack(tmp_path / name, 8, 3)
    for heldout in (0, 3):
        with pytest.raises(LsapError, match="set heldout between 1 and 2"):
            dataset.split_heldout(tiny_images(3, 8), heldout)


def run_config(tmp_path, **changes) -> ConfigDict:
    """24 images of 8 px, 6 of them held out; batches of 4 with R1 and adaptive augmentation in each step."""
    pack = tmp_path / "pack.npz"
    if not pack.exists():
        np.savez(pack, images=tiny_images(24, 8))
    config = ConfigDict(
        dict(
            name="tiny", licence="none", data=str(pack), extra_data=(), heldout=6, mirror=True, init="", seed=3,
            total_images=16, snapshot_images=8,
            generator=dict(
                img_resolution=8, channels=(4, 4), z_dim=8, w_dim=8, layer_features=8, mapping_layers=2
            ),
            discriminator=dict(img_resolution=8, channels=(4, 4)),
            train=dict(batch_size=4, r1_interval=1, ema_halflife=16.0, augment_p=0.1, augment_target=0.5),
        )
    )  # fmt: skip
    with config.ignore_type():
        config.update_from_flattened_dict(changes)
    return config


@pytest.mark.slow
def test_a_run_killed_and_resumed_equals_an_uninterrupted_one(tmp_path):
    decay = {"train.decay_start": 8, "train.decay_images": 8}
    whole = train_generator(run_config(tmp_path, **decay), tmp_path / "whole", log=lambda _: None)
    lines: list[str] = []
    # The state of a run that was killed between its first and second snapshot, and is resumed with a decaying rate.
    train_generator(run_config(tmp_path, total_images=8, **decay), tmp_path / "parts", log=lines.append)
    parts = train_generator(run_config(tmp_path, **decay), tmp_path / "parts", log=lines.append)
    with pytest.raises(LsapError, match="parts: was started with other settings .train.r1_interval was 1, is 2"):
        train_generator(run_config(tmp_path, **{"train.r1_interval": 2}), tmp_path / "parts", log=lines.append)
    assert "going on from 8 images" in lines
    a, b = load_generator(whole), load_generator(parts)
    assert a.sha256 == b.sha256 and a.discriminator is not None
    config = run_config(tmp_path)
    assert a.sha256 != build(config).sha256
    assert a.provenance["images_seen"] == 16 and a.provenance["config"]["train"]["batch_size"] == 4
    log = [json.loads(line) for line in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()]
    assert [line["images"] for line in log] == [8, 16]
    assert {"g_loss", "d_loss", "real", "fake", "r1", "logit_training", "logit_heldout"} <= log[0].keys()
    assert sorted(p.name for p in (tmp_path / "whole" / "samples").iterdir()) == ["00000008.png", "00000016.png"]
    # Once finished, the same command only writes the result again.
    shutil.copy(whole, tmp_path / "before")
    train_generator(run_config(tmp_path, **decay), tmp_path / "whole", log=lambda _: None)
    assert (tmp_path / "before").read_bytes() == whole.read_bytes()
    # Out of time after its first step, it leaves a checkpoint, and goes on from there to the same end.
    in_time: list[str] = []
    for lent in (1e-9, None):
        late = train_generator(run_config(tmp_path, **decay), tmp_path / "late", log=in_time.append, stop_after=lent)
    assert "going on from 4 images" in in_time and load_generator(late).sha256 == a.sha256
    # Another run that starts from it counts on.
    more = run_config(tmp_path, init=str(whole), total_images=4, **decay)  # the same program
    more = train_generator(more, tmp_path / "more", log=lambda _: None)
    assert load_generator(more).provenance["images_seen"] == 20
    # Its model card.
    images, apart = np.repeat(tiny_images(24, 8), 2, axis=0), tiny_images(6, 8, seed=1)
    command, caveats = "lsap-jax train-generator", ("Noise in, noise out.",)
    card = model_card.write_model_card(
        whole, images, apart, tmp_path / "card", command=command, credit="Nobody", caveats=caveats, samples=20
    ).read_text()
    for part in ("# tiny", "16 images seen", "Credit: Nobody.", command, *caveats, "| samples | 20 |", a.sha256):
        assert part in card
    assert (tmp_path / "card" / "samples.png").is_file() and (tmp_path / "card" / "nearest.png").is_file()


def test_training_refuses_what_cannot_be_trained(tmp_path, G):
    G.without("discriminator").save(tmp_path / "bare.safetensors")
    with pytest.raises(LsapError, match=r"bare\.safetensors: has no discriminator"):
        train_generator(run_config(tmp_path, init=str(tmp_path / "bare.safetensors")), tmp_path / "out")
    with pytest.raises(LsapError, match="neither a file nor a bundled generator"):
        train_generator(run_config(tmp_path, init="nowhere"), tmp_path / "out")
    file = tmp_path / "whole.safetensors"
    G.save(file)
    np.savez(tmp_path / "large.npz", images=tiny_images(24, 16))
    with pytest.raises(LsapError, match=r"large\.npz: images are"):
        train_generator(run_config(tmp_path, data=str(tmp_path / "large.npz"), init=str(file)), tmp_path / "out")
    with pytest.raises(LsapError, match="set both alike"):
        build(run_config(tmp_path, **{"discriminator.img_resolution": 16, "discriminator.channels": (4, 4, 4)}))
    with pytest.raises(LsapError, match="c_dim"):
        build(run_config(tmp_path, **{"generator.c_dim": 2, "generator.embed_features": 8}))


def test_mean_logit_takes_any_number_of_images(G):
    images = tiny_images(6, 8)
    assert G.discriminator is not None
    logits = np.asarray(jax.jit(G.discriminator.__call__)(jnp.asarray(images[:4], jnp.float32) / 127.5 - 1))
    assert mean_logit(G.discriminator, images) == pytest.approx(float(logits.mean()), rel=1e-4)
