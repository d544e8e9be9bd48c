"""Differentiable augmentation of what the discriminator sees, against overfitting on small sets.

The transformations are those of DiffAugment (Zhao et al., NeurIPS 2020): colour, translation, cutout. Each is applied
to an image with probability p, which ADA's heuristic steers (Karras et al., NeurIPS 2020, §3.1), so that nothing leaks
while p stays below about 0.8.
"""

import jax
import jax.numpy as jnp


def augment(images: jax.Array, rng: jax.Array, p: jax.Array) -> jax.Array:
    """Augmented copies of images [B, H, W, C] in [-1, 1]; each transformation of each image with probability p."""
    for i, transformation in enumerate((_brightness, _saturation, _contrast, _translation, _cutout)):
        chance_rng, own_rng = jax.random.split(jax.random.fold_in(rng, i))
        chosen = jax.random.bernoulli(chance_rng, p, (images.shape[0], 1, 1, 1))
        images = jnp.where(chosen, transformation(images, own_rng), images)
    return images


def _uniform(rng: jax.Array, batch: int, low: float, high: float) -> jax.Array:
    return jax.random.uniform(rng, (batch, 1, 1, 1), minval=low, maxval=high)


def _brightness(x: jax.Array, rng: jax.Array) -> jax.Array:
    return x + _uniform(rng, x.shape[0], -0.5, 0.5)


def _saturation(x: jax.Array, rng: jax.Array) -> jax.Array:
    grey = x.mean(axis=-1, keepdims=True)
    return grey + (x - grey) * _uniform(rng, x.shape[0], 0.0, 2.0)


def _contrast(x: jax.Array, rng: jax.Array) -> jax.Array:
    mean = x.mean(axis=(1, 2, 3), keepdims=True)
    return mean + (x - mean) * _uniform(rng, x.shape[0], 0.5, 1.5)


def _translation(x: jax.Array, rng: jax.Array) -> jax.Array:
    """Shift by up to an eighth of the image; zeros come in."""
    b, h, w, c = x.shape
    reach = h // 8
    shifts = jax.random.randint(rng, (b, 2), 0, 2 * reach + 1)
    padded = jnp.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    return jax.vmap(lambda image, s: jax.lax.dynamic_slice(image, (s[0], s[1], 0), (h, w, c)))(padded, shifts)


def _cutout(x: jax.Array, rng: jax.Array) -> jax.Array:
    """Zero a square of half the side."""
    b, h, w, _ = x.shape
    centre = jax.random.randint(rng, (b, 2), 0, h)
    rows = jnp.abs(jnp.arange(h)[None, :] - centre[:, :1]) < h // 4
    columns = jnp.abs(jnp.arange(w)[None, :] - centre[:, 1:]) < w // 4
    hole = rows[:, :, None, None] & columns[:, None, :, None]
    return jnp.where(hole, 0.0, x)


def adapt(p: jax.Array, real_logits: jax.Array, *, target: float, images_to_one: float) -> jax.Array:
    """ADA's step: p grows where the mean sign of D(real) is above `target`, else it shrinks, by batch / images_to_one.

    It stays within [0, 0.8].
    """
    sign = jnp.sign(jnp.sign(real_logits).mean() - target)
    return jnp.clip(p + sign * (real_logits.shape[0] / images_to_one), 0.0, 0.8)
