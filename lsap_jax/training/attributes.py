"""Training an attribute classifier on labelled images (`lsap-jax train-attributes`).

The classifier will judge generated, inverted and edited images, which are softer than its training images and a little
off in place and tone. So training images are shifted, blurred, made noisy and a little lighter or darker, by less than
the difference between two colours.
"""

import math
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from lsap_jax.errors import LsapError
from lsap_jax.models.attributes import (
    Attributes,
    BinaryAttribute,
    check_binary,
    label_accuracies,
)
from lsap_jax.models.attributes_file import save_attributes
from lsap_jax.models.generator_file import load_generator
from lsap_jax.networks.attributes import AttributesConfig, AttributesNetwork, initial_params
from lsap_jax.networks.parameters import halved
from lsap_jax.training.dataset import split_heldout
from lsap_jax.training.loop import Log, say

PREFIX = "label_"  # of the archive's arrays
_REACH = 5  # pixels that a blur looks to each side
_RANGES = {
    "seed": (0, 2**32 - 1),
    "train.batch_size": (1, math.inf),
    "train.lr": (0, math.inf),
    "train.warmup": (0, 1),
    "train.weight_decay": (0, math.inf),
    "augment.shift": (0, math.inf),
    "augment.blur": (0, math.inf),
    "augment.noise": (0, math.inf),
    "augment.contrast": (0, math.inf),
    "augment.brightness": (0, math.inf),
}


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How far images are changed, at most; each by its own share of that.

    Shares of blur and noise are squares of evenly drawn ones: most images keep their finest lines, and in some nothing
    fine is left to be sure of. The others are drawn evenly.

    Attributes:
        shift: pixels in each direction; the border is repeated.
        blur: standard deviation of a Gaussian, in pixels.
        noise: standard deviation of white noise, in units of the image.
        contrast: share by which the distance from grey grows or shrinks.
        brightness: added to or taken from all channels, in units of the image.
    """

    shift: int = 3
    blur: float = 2.0
    noise: float = 0.1
    contrast: float = 0.05
    brightness: float = 0.03


@dataclass(frozen=True, kw_only=True)
class ClassifierTraining:
    """AdamW; the rate rises over the first `warmup` of all steps, then falls to 0 along a cosine."""

    batch_size: int = 64
    lr: float = 2e-3
    warmup: float = 0.05
    weight_decay: float = 1e-2


def load_labelled(path: str | Path, labels: tuple[str, ...] = ()) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(uint8 images [N, R, R, C], {label: values [N] as text}) of an .npz archive.

    Args:
        path: with arrays `images` and, per label, `label_NAME` of texts; "null" is a value as any other.
        labels: names of those wanted; all of them by default.

    Raises:
        LsapError: no such archive or label, its arrays do not belong together, or a label's name has a "/".
    """
    if not Path(path).is_file():
        raise LsapError(f"{path}: no such file; give an .npz archive with `images` and `{PREFIX}*` arrays")
    if not zipfile.is_zipfile(path):
        raise LsapError(
            f"{path}: not an archive of labelled images; numpy.savez writes one, with `images` and `{PREFIX}*` arrays"
        )
    try:
        with open(path, "rb") as file, np.load(file) as archive:  # numpy leaves a broken file open
            there = [name.removeprefix(PREFIX) for name in archive.files if name.startswith(PREFIX)]
            missing = [name for name in labels if name not in there]
            if not there or missing:
                raise LsapError(
                    f"{path}: has no label {', '.join(missing) or 'at all'}; its arrays are "
                    f"{', '.join(archive.files)}; a label is an array `{PREFIX}NAME` of texts"
                )
            images = _array(archive, "images", path)
            found = {name: _array(archive, PREFIX + name, path) for name in labels or there}
    except (OSError, KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise LsapError(f"{path}: not an archive of labelled images ({error}); it needs `images`") from error
    shape = images.shape
    if images.dtype != np.uint8 or images.ndim != 4 or shape[1] != shape[2] or shape[3] not in (1, 3):
        raise LsapError(f"{path}: images are {images.dtype} {shape}, a classifier takes uint8 [N, R, R, 1 or 3]")
    for name, values in found.items():
        if "/" in name:
            raise LsapError(f"{path}: the name of label {name!r} has a /, which separates names in a file of weights")
        if values.shape != shape[:1] or values.dtype.kind != "U":
            raise LsapError(
                f"{path}: {PREFIX}{name} is {values.dtype} {values.shape}; each of {shape[0]} images needs a text"
            )
    return images, found


def _array(archive: Any, name: str, path: str | Path) -> np.ndarray:
    try:
        return archive[name]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise LsapError(
            f"{path}: {name} is an array of Python objects, which are not read; make it one of numbers or texts "
            "(`.astype(str)`)"
        ) from None


def check_training(config: ConfigDict) -> None:
    """Raises LsapError where a number of a training configuration is out of its range."""
    for key, (least, most) in _RANGES.items():
        group, _, name = key.rpartition(".")
        value = (config[group] if group else config)[name]
        if not (least <= value <= most and math.isfinite(value)):
            range_ = f"{least} or more" if most == math.inf else f"between {least} and {most}"
            raise LsapError(f"{key}={value} must be {range_}")
    if not all(isinstance(width, int) and width >= 1 for width in config.widths):
        raise LsapError(f"widths={tuple(config.widths)}: numbers of channels are 1 or more")


def augment(images: jax.Array, rng: jax.Array, most: Augmentation) -> jax.Array:
    """Changed copies of images [B, R, R, C] in [-1, 1], clipped; see `Augmentation`."""
    shift, blur, noise, grain, tone = jax.random.split(rng, 5)
    x = _shifted(images, shift, most.shift)
    x = _blurred(x, most.blur * _squares(blur, len(x)))
    contrast, brightness = jax.random.uniform(tone, (2, len(x), 1, 1, 1), minval=-1.0)
    x = x * (1 + most.contrast * contrast) + most.brightness * brightness
    x = x + most.noise * _squares(noise, len(x)) * jax.random.normal(grain, x.shape)
    return jnp.clip(x, -1, 1)


def _squares(rng: jax.Array, number: int) -> jax.Array:
    return jnp.square(jax.random.uniform(rng, (number, 1, 1, 1)))


def _shifted(x: jax.Array, rng: jax.Array, reach: int) -> jax.Array:
    shifts = jax.random.randint(rng, (len(x), 2), 0, 2 * reach + 1)
    padded = jnp.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
    return jax.vmap(lambda image, s: jax.lax.dynamic_slice(image, (s[0], s[1], 0), x.shape[1:]))(padded, shifts)


def _blurred(x: jax.Array, sigma: jax.Array) -> jax.Array:
    """Gaussian blur of each image by its own sigma [B, 1, 1, 1], cut off at `_REACH` pixels."""
    offsets = range(-_REACH, _REACH + 1)
    weights = [jnp.exp(-0.5 * jnp.square(k / jnp.maximum(sigma, 1e-2))) for k in offsets]
    total = sum(weights)
    for axis in (1, 2):
        edges = [(_REACH, _REACH) if i == axis else (0, 0) for i in range(4)]
        padded, size = jnp.pad(x, edges, mode="edge"), x.shape[axis]
        slices = (jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(len(weights)))
        x = sum((w / total * part for w, part in zip(weights, slices, strict=True)), jnp.zeros_like(x))
    return x


def optimizer(train: ClassifierTraining, steps: int) -> optax.GradientTransformation:
    """AdamW with its schedule over this number of steps."""
    rise = max(round(train.warmup * steps), 1)
    rate = optax.warmup_cosine_decay_schedule(0.0, train.lr, rise, max(steps, rise + 1))
    return optax.adamw(rate, weight_decay=train.weight_decay)


@partial(jax.jit, static_argnums=(0, 1, 2, 3), donate_argnums=(4, 5))
def classifier_step(
    shape: AttributesConfig, train: ClassifierTraining, most: Augmentation, steps: int,
    params: Any, state: optax.OptState, levels: jax.Array, values: jax.Array, rng: jax.Array,
) -> tuple[Any, optax.OptState, jax.Array]:  # fmt: skip
    """One step on uint8 images [B, R, R, C] with values [B, number of labels] by index.

    Returns:
        (params, optimiser's state, loss: cross-entropy, summed over the labels, mean over the batch).
    """
    images = augment(levels.astype(jnp.float32) / 127.5 - 1, rng, most)

    def loss(params: Any) -> jax.Array:
        logits = AttributesNetwork(shape).apply({"params": params}, images)
        terms = [
            optax.softmax_cross_entropy_with_integer_labels(logits[name], values[:, i])  # type: ignore[call-overload]
            for i, (name, _) in enumerate(shape.labels)
        ]
        return sum(terms, jnp.zeros(len(levels))).mean()

    value, grads = jax.value_and_grad(loss)(params)
    updates, state = optimizer(train, steps).update(grads, state, params)
    return optax.apply_updates(params, updates), state, value


def train_attributes(config: ConfigDict, archive: str | Path, out: str | Path, log: Log = say) -> Attributes:
    """Train on all but the last `config.heldout` images of an archive and write the classifier to one file.

    The file holds float16 weights, the held-out accuracy of each label (with these), and the generator whose images
    it is for.

    Args:
        config: see `configs/attributes_toonhead64.py`.
        archive: see `load_labelled`.
        out: the file to write.
        log: takes a line of progress.

    Returns:
        The classifier, as `load_attributes` gives it back.

    Raises:
        LsapError: the archive and the configuration do not fit together, or a number is out of range.
    """
    check_training(config)
    images, labels = load_labelled(archive, tuple(config.labels))
    G = load_generator(config.generator) if config.generator else None
    if G is not None and images.shape[1:] != (G.img_resolution, G.img_resolution, G.img_channels):
        raise LsapError(
            f"{archive}: images are {images.shape[1:]}, generator={config.generator} makes "
            f"{(G.img_resolution, G.img_resolution, G.img_channels)}; give images of its size, or --config.generator="
        )
    known = {name: tuple(np.unique(values).tolist()) for name, values in labels.items()}
    shape = AttributesConfig(
        labels=tuple(known.items()), resolution=images.shape[1], channels=images.shape[3], widths=tuple(config.widths)
    )
    binary = {name: BinaryAttribute.of(parts) for name, parts in config.binary.items()}
    check_binary(known, binary, str(archive))
    learned, apart = split_heldout(images, config.heldout)
    indices = np.stack([np.searchsorted(known[name], values) for name, values in labels.items()], axis=1)
    log(f"{len(learned)} training and {len(apart)} held-out images, {len(known)} labels")

    def classifier(params: Any) -> Attributes:
        return Attributes(config=shape, params=halved(params), binary=binary)

    def accuracies(params: Any) -> dict[str, float]:
        truth = {name: values[-config.heldout :] for name, values in labels.items()}
        return label_accuracies(classifier(params), apart, truth)

    params, seen = _trained(config, shape, learned, indices[: len(learned)].astype(np.int32), accuracies, log)
    accuracy = accuracies(params)
    for name, value in accuracy.items():
        log(f"{name:24s} {100 * value:5.1f} % of {len(apart)} held-out images, {len(known[name])} values")
    made: dict[str, Any] = {
        "name": config.name, "images_seen": seen, "images": len(learned), "heldout": len(apart), "accuracy": accuracy,
        "generator": None if G is None else {
            "name": G.provenance.get("name", config.generator), "sha256": G.network_sha256
        },
        "config": config.to_dict(), "licence": config.licence,
    }  # fmt: skip
    found = classifier(params).replace(provenance=made)
    save_attributes(out, found)
    return found


def _trained(
    config: ConfigDict, shape: AttributesConfig, images: np.ndarray, values: np.ndarray,
    accuracies: Callable[[Any], Mapping[str, float]], log: Log,
) -> tuple[Any, int]:  # fmt: skip
    """(params, images seen) after `config.epochs`; a line of progress after each."""
    train, most = ClassifierTraining(**config.train), Augmentation(**config.augment)
    per_epoch = len(images) // train.batch_size
    if config.epochs < 1:
        raise LsapError(f"epochs={config.epochs} is not a number of passes over the images; give 1 or more")
    if per_epoch == 0:
        raise LsapError(
            f"{len(images)} training images do not fill a batch of {train.batch_size}; lower train.batch_size"
        )
    steps = config.epochs * per_epoch
    rng = jax.random.key(config.seed)
    params = initial_params(shape, jax.random.fold_in(rng, steps))
    state = optimizer(train, steps).init(params)
    for epoch in range(config.epochs):
        order = np.random.default_rng((config.seed, epoch)).permutation(len(images))
        started, losses = time.monotonic(), []
        for place in range(per_epoch):
            chosen = order[place * train.batch_size : (place + 1) * train.batch_size]
            params, state, loss = classifier_step(
                shape, train, most, steps, params, state, jnp.asarray(images[chosen]), jnp.asarray(values[chosen]),
                jax.random.fold_in(rng, epoch * per_epoch + place),
            )  # fmt: skip
            losses.append(loss)
        mean = float(jnp.stack(losses).mean())
        rate = per_epoch * train.batch_size / (time.monotonic() - started)
        right = np.mean(list(accuracies(params).values()))
        log(f"epoch={epoch + 1}/{config.epochs} loss={mean:.4g} accuracy={right:.4f} images_per_second={rate:.4g}")
    return params, steps * train.batch_size
