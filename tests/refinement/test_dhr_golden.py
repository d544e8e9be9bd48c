"""DHR against the original: superpixels, the domain of an image, and both optimisations."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from parity import assert_parity, nhwc

from convert_weights import read
from lsap_jax.models.generator_file import from_checkpoint
from lsap_jax.refinement.domain import CLASSES, Thresholds, domain, segment_classes, segment_levels
from lsap_jax.refinement.hybrid import Hybrid
from lsap_jax.refinement.segments import segments
from lsap_jax.rendering.refinement import Refinement, merged
from lsap_jax.rendering.render import decode, synthesise
from lsap_jax.rendering.transforms import MaskedOffset
from lsap_jax.spaces import parse_space

STEPS, WEIGHT_STEPS = 5, 3
RATE, WEIGHT_RATE = 9e-2, 1.5e-3
# Parameter here -> there, with the slice of the reference's.
PARAMETERS = {
    "synthesis.b4.const": "input.input",
    "synthesis.b4.conv1.weight": "conv1.conv.weight",
    "synthesis.b8.conv1.affine.bias": "convs.1.conv.modulation.bias",
    "synthesis.b16.conv0.weight": "convs.2.conv.weight",
    "synthesis.b16.conv1.bias": "convs.3.activate.bias",
    "synthesis.b16.conv1.noise_strength": "convs.3.noise.weight",
    "synthesis.b4.torgb.bias": "to_rgb1.bias",
    "synthesis.b32.torgb.bias": "to_rgbs.2.bias",
    "synthesis.b32.torgb.weight": "to_rgbs.2.conv.weight",
    "synthesis.b32.conv1.affine.weight": "convs.5.conv.modulation.weight",
}


@pytest.fixture(scope="module")
def seen(golden):
    """The segmentation's reference, its maps, and its segments from 0 on."""
    file = golden("dhr_segmentation")
    return (
        file,
        [jnp.asarray(file[f"delta{k}"][0, 0]) for k in range(5)],
        jnp.asarray(file["superpixel"] - 1, jnp.int32),
    )


def test_superpixels_are_those_of_the_originals_order_of_channels(seen):
    pytest.importorskip("skimage")
    file, _, numbers = seen
    image = file["image_u8_rgb"]
    assert np.mean(segments(image, "slic", 200, order="bgr") == numbers) > 0.99  # another scikit-image may differ
    assert np.mean(segments(image, "slic", 200) == numbers) < 0.9


def test_segments_that_vanish_are_out_of_the_domain(seen):
    file, deltas, numbers = seen
    count, known = int(numbers.max()) + 1, file["segment_layer_means"]
    gone = np.isnan(known)
    assert gone.any() and not gone.all()
    found = np.asarray(jax.jit(partial(segment_levels, count=count, vanished="out"))(deltas, numbers))
    assert np.array_equal(np.isinf(found), gone)
    assert_parity("dhr_segmentation", "means", found[~gone], known[~gone])
    kept = np.asarray(segment_levels(deltas, numbers, count, "nearest"))
    assert np.isfinite(kept).all()  # every segment has a value
    assert (kept[gone] <= max(float(delta.max()) for delta in deltas)).all()


def test_the_domain_is_the_originals(seen):
    file, deltas, numbers = seen
    count = int(numbers.max()) + 1
    assert np.array_equal(
        segment_classes(jax.nn.one_hot(file["parsing_class"], len(CLASSES)), numbers, count), file["segment_class"]
    )
    how = {"count": count, "thresholds": Thresholds(), "vanished": "out"}
    found = domain(deltas, numbers, mask=jnp.asarray(file["parsing_class"]) / 255, parsing=True, **how)
    assert np.array_equal(found, file["mask_final"])
    assert not np.array_equal(file["mask_final"], file["mask_superpixel"])  # the parser takes something away
    allowed = domain(deltas, numbers, mask=None, **how)
    assert np.array_equal(allowed, file["mask_final_noface"])
    masked = domain(deltas, numbers, mask=jnp.asarray(file["mask_parsing"]), **how)
    assert np.array_equal(masked, file["mask_final_noface"] * file["mask_parsing"])


@pytest.fixture(scope="module")
def G(shared_file):
    return from_checkpoint(read(shared_file("golden/rosinality_g32_converted_style.pt")))


def test_features_are_changed_where_the_original_has_its_hook(golden, G):
    file, codes = golden("ganinverter_hooks_g32"), {"w": jnp.asarray(golden("rosinality_g32")["wplus"])}
    offset = jnp.asarray(nhwc(file["sam_f4"]))
    mask = jnp.broadcast_to(nhwc(file["sam_m4"]), (*offset.shape[:3], 1))
    refinement = Refinement(transforms={"b16.conv0": MaskedOffset(offset=offset, mask=mask)})
    space = parse_space("w+")
    shown = synthesise(G, decode(G, space, codes), refinement)
    assert_parity("ganinverter_hooks_g32", "sam_img", shown, nhwc(file["sam_img"]))
    # The image of a block does not see what is changed behind it; the next block does.
    behind = Refinement(transforms={"b8": MaskedOffset(offset=jnp.ones((2, 8, 8, 40)), mask=jnp.ones((2, 8, 8, 1)))})
    plain, found = (
        jax.jit(G.features)(codes["w"], transforms=one.transforms)[1] for one in (Refinement(transforms={}), behind)
    )
    np.testing.assert_array_equal(found["b8.img"], plain["b8.img"])
    assert np.abs(found["b16.conv0"] - plain["b16.conv0"]).max() > 0.1


@pytest.fixture(scope="module")
def alex(seeded_lpips):
    return seeded_lpips("alex")


def features_of(refinement, place):
    """The free features, where the mask leaves any of them, and where that is."""
    one = refinement.transforms[place]
    free = 1 - np.asarray(one.scale)
    return np.asarray(one.shift) / np.where(free > 0, free, 1), np.broadcast_to(free > 0, one.shift.shape)


@pytest.mark.slow
@pytest.mark.parametrize(("place", "prefix"), [("b8", ""), ("b16.conv0", "idx4/")])
def test_both_optimisations_are_the_originals(golden, G, alex, place, prefix):
    file = golden("dhr_refine")
    space, codes = parse_space("w+"), {"w": jnp.asarray(file["code"])}
    target, inside = jnp.asarray(nhwc(file["target"])), jnp.asarray(file["mask_full"][:, 0])
    hybrid = Hybrid(
        judge=alex,
        place=place,
        steps=STEPS,
        weight_steps=WEIGHT_STEPS,
        lr_feature=RATE,
        lr_weights=WEIGHT_RATE,
    )
    refinement, course = jax.jit(partial(hybrid, G, space))(codes, target, inside)
    assert course.step[0] == STEPS and course.finite[0]
    assert_parity(
        "dhr_refine", f"{prefix}mask", refinement.transforms[place].scale, nhwc(file[f"{prefix}mask_feature"])
    )
    shown = synthesise(G, decode(G, space, codes, refinement), refinement)
    assert_parity("dhr_refine", f"{prefix}img_final", shown, nhwc(file[f"{prefix}img_final"]), rtol=1e-3, atol=1e-4)
    final = file["offset_after"][-1] if not prefix else file["idx4/offset_final"]
    found, free = features_of(refinement, place)
    own = np.abs(found[0, ..., : len(final)] - np.moveaxis(final, 0, -1))[free[0, ..., : len(final)]]
    assert own.max() <= 2.5 * STEPS * RATE and np.mean(own > 1e-3) < 0.01
    if prefix:
        return
    where = json.loads(bytes(file["meta_json"]))["slices"]
    tuned = flatten_dict(dict(merged(G, jax.tree.map(lambda a: a[0], refinement.weights)).params), sep=".")
    before = flatten_dict(dict(G.params), sep=".")
    inverse = {4: (3, 2, 0, 1), 3: (2, 0, 1), 2: (1, 0)}
    for ours, theirs in PARAMETERS.items():
        a, b = (np.asarray(params[ours]) for params in (tuned, before))
        a, b = (v.transpose(inverse[v.ndim]) if v.ndim > 1 else v for v in (a, b))
        reference = file[f"w/{theirs}"]
        cut = eval(where[theirs])  # of the reference, whose kernels and constant have a first axis of one image
        cut = cut[1:] if isinstance(cut, tuple) and cut[0] == 0 else cut
        a, b = (v.reshape(reference.shape) if v.size == reference.size else v[cut] for v in (a, b))
        gap = np.abs(a.reshape(reference.shape) - reference)
        # Adam turns a gradient near zero into a whole step, so a few entries may be a step or two away.
        assert gap.max() <= 2.5 * WEIGHT_STEPS * WEIGHT_RATE and np.mean(gap > 3e-5) < 0.01, theirs
        assert np.abs(a - b).max() > WEIGHT_RATE / 10, theirs
    names = {name for name in before if name.startswith("synthesis") and not name.endswith("noise_const")}
    assert refinement.weights.keys() == names
