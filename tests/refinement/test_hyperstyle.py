"""HyperStyle against the original code: passes, changes before demodulation, edits with the same changes."""

import json
from dataclasses import replace

import foreign_dialects as dialects
import foreign_files as files
import jax
import numpy as np
import pytest
from parity import assert_parity, nhwc

import lsap_jax
from lsap_jax.errors import LsapError
from lsap_jax.models.generator_file import load_generator
from lsap_jax.models.hyperstyle import HyperStyle
from lsap_jax.models.network_file import attach
from lsap_jax.networks.hyperstyle import HyperConfig, param_shapes
from lsap_jax.networks.view import viewed
from lsap_jax.refinement.hyperstyle import HyperStyleRefiner, weights_of
from lsap_jax.rendering.refinement import from_arrays, take, to_arrays
from lsap_jax.rendering.render import synthesise
from lsap_jax.spaces import parse_space
from lsap_jax.testing import tiny_generator, tiny_images
from lsap_jax.training.initial import initial_params

pytestmark = pytest.mark.usefixtures("quick_compilation")
COUNT = 3
TINY = HyperConfig(
    slots=((0, 8, 8), (2, 8, 8)), input_resolution=16, stem=4, units=((6, 2), (6, 2)), shared=8, shared_code=5,
    shared_convs=((4, 2), (4, 1)), convs=((4, 2),), passes=3,
)  # fmt: skip


def oihw(delta):
    delta = np.asarray(delta).transpose(0, 4, 3, 1, 2)
    return np.broadcast_to(delta, (*delta.shape[:3], 3, 3))


@pytest.mark.slow
def test_three_passes_and_an_edit(seeded, tmp_path):
    file, weights = seeded("hyperstyle_loop")
    root = {"state_dict": dialects.state_dict(weights("net")), "latent_avg": files.T(np.zeros(512, np.float32))}
    (tmp_path / "g.pt").write_bytes(files.torch_zip(root))
    G = load_generator(tmp_path / "g.pt")
    network: HyperStyle = G.parts["hyperstyle"]
    sizes = json.loads(bytes(file["meta_json"]))["PARAMETERS"]
    slots = tuple((int(k), inputs, outputs) for k, (kernel, inputs, outputs) in sizes.items() if kernel == 3)
    assert network.config == HyperConfig(slots=slots, shared=24, filter="bilinear")
    root["opts"] = {"dataset_type": "cars_hypernet"}
    (tmp_path / "cars.pt").write_bytes(files.torch_zip(root))
    assert load_generator(tmp_path / "cars.pt").parts["hyperstyle"].config.view == (192, 256, "bilinear")
    network = network.replace(config=replace(network.config, input_resolution=64))
    space, codes = parse_space("w+"), {"w": file["codes"]}
    x = nhwc(file["x_u8"]).astype(np.float32) / 127.5 - 1

    @jax.jit
    def shown(ws, changes):
        return synthesise(G, space.decode(G, {"w": ws}), weights_of(changes))

    for k in range(3):
        refiner = HyperStyleRefiner(network=network, passes=k + 1)
        changes = jax.jit(lambda codes, refiner=refiner: refiner.deltas(G, space, codes, x))(codes)
        for slot, name in ((0, "b4.conv1"), (6, "b16.conv1"), (8, "b32.conv0"), (9, "b32.conv1")):
            delta, key = oihw(changes[f"synthesis.{name}.weight"]), f"iter{k}/delta{slot}"
            if key in file:
                assert_parity("hyperstyle", key, delta, file[key])
            else:
                assert_parity("hyperstyle", key, delta.mean((2, 3, 4)), file[f"{key}/chanmean"])
        image = np.moveaxis(network.seen(shown(file["codes"], changes)), -1, 1)
        assert_parity("hyperstyle", f"iter{k}/image", image, file[f"iter{k}/image"])
    edited = shown(file["codes"] + file["edit"], changes)
    assert_parity("hyperstyle", "edit", np.moveaxis(edited, -1, 1), file["edit_image_32"])


def test_cars_are_seen_without_their_bars():
    config = replace(TINY, input_height=12)
    network = HyperStyle(config=config, params=initial_params(param_shapes(config), 0))
    images = np.linspace(-1, 1, 32, dtype=np.float32).reshape(1, 32, 1, 1) * np.ones((1, 1, 32, 3), np.float32)
    seen = network.seen(images)
    assert seen.shape == (1, 12, 16, 3)
    np.testing.assert_allclose(seen[0, :, 0, 0], images[0, 4:28, 0, 0].reshape(12, 2).mean(1), atol=1e-6)
    assert viewed(images, config.view).shape == (1, 12, 16, 3)


@pytest.fixture(scope="module")
def G():
    rng = np.random.default_rng(1)
    params = initial_params(param_shapes(TINY), 0)
    head = params["shared_weight_hypernet"]
    own = {name: rng.standard_normal(leaf.shape, np.float32) * np.float32(0.2) for name, leaf in head.items()}
    network = HyperStyle(config=TINY, params={**params, "shared_weight_hypernet": own})
    return attach(tiny_generator(discriminator=False), network)


@pytest.fixture(scope="module")
def codes(G):
    return {"w": np.asarray(G.mapping(np.random.default_rng(0).standard_normal((COUNT, 16), np.float32)))}


@pytest.fixture(scope="module")
def refined(quick_compilation, G, codes):
    return lsap_jax.refine(G, ("w+", codes), tiny_images(COUNT), "hyperstyle", batch_size=3)


def test_no_image_sees_its_neighbours_and_edits_keep_the_changes(G, codes, refined):
    alone = lsap_jax.refine(G, ("w+", codes), tiny_images(COUNT), "hyperstyle", batch_size=1)
    jax.tree.map(np.testing.assert_array_equal, alone.refinement, refined.refinement)
    np.testing.assert_array_equal(alone.images, refined.images)
    edited = lsap_jax.edit(G, "w+", codes, "random:0", [0, 2], images=refined.images, refinement=refined.refinement)
    np.testing.assert_array_equal(edited.images[0], refined.images)
    plain = lsap_jax.edit(G, "w+", codes, "random:0", [2])
    assert np.abs(edited.images[1] - plain.images[0]).max() > 0.01


def test_changes_are_saved_as_they_are_rendered(G, codes, refined):
    one = take(refined.refinement, 0)
    arrays = to_arrays(one)
    assert arrays["weights/synthesis.b4.conv1.weight/relative/delta"].dtype == np.float16
    assert jax.tree.all(jax.tree.map(np.array_equal, from_arrays(arrays), one))
    np.testing.assert_allclose(
        lsap_jax.render(G, "w+", codes, refinement=refined.refinement), refined.images, atol=1e-5
    )
    whole = lsap_jax.refine(G, ("w+", codes), tiny_images(COUNT), "hyperstyle", dtype="float32", passes=1)
    once = lsap_jax.refine(G, ("w+", codes), tiny_images(COUNT), "hyperstyle", passes=1)
    np.testing.assert_allclose(once.images, whole.images, atol=0.05)
    assert np.abs(once.images - refined.images).max() > 1e-3  # three passes are more than one


def test_what_does_not_fit_is_refused(G, codes):
    for options, message in (({"passes": -1}, "passes=-1"), ({"dtype": "int8"}, "choose one of float16, float32")):
        with pytest.raises(LsapError, match=message):
            lsap_jax.refine(G, ("w+", codes), tiny_images(COUNT), "hyperstyle", **options)
    bare = G.without("hyperstyle")
    with pytest.raises(
        LsapError, match="neither this generator nor a file of weights has its networks; .* train_hyperstyle"
    ):
        lsap_jax.refine(bare, ("w+", codes), tiny_images(COUNT), "hyperstyle")
    for slot, message in (
        ((1, 8, 3), "changes layer 1 with 8 features in and 3 out, this generator has no such convolution"),
        ((0, 8, 4), "with 8 features in and 4 out, this generator has b4.conv1 there, of 8 and 8"),
        ((40, 8, 8), "changes layer 40 .* no such convolution"),
    ):
        network = HyperStyle(config=HyperConfig(**{**vars(TINY), "slots": (slot,)}), params={})
        with pytest.raises(LsapError, match=message):
            network.check_fits(G.config)
