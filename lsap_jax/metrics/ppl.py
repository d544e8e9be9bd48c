"""Perceptual path length: how much an image changes per step of its code (Karras et al., StyleGAN, CVPR 2019, §4.1).

A space is smooth where equal steps change the image equally little. Between two random samples, at a random point t of
the way ("full") or at its start ("end"),

    PPL = mean of d(G(t), G(t + ε)) / ε²        ε = 1e-4

in Z along the great arc between the two z (slerp), in W on the straight line between the two w. What StyleGAN's paper
leaves open is as in its authors' code; `CONVENTIONS` says so in results.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lsap_jax.errors import LsapError
from lsap_jax.losses.judges import Judge
from lsap_jax.models.generator import Generator
from lsap_jax.networks.image_by_image import images_at_once, in_groups
from lsap_jax.networks.pixel_maps import area
from lsap_jax.spaces.sphere import retract, slerp

EPSILON = 1e-4
RESOLUTION = 256
SPACES, SAMPLING = ("z", "w"), ("full", "end")
CONVENTIONS = {
    "formula": "mean of d(G(t), G(t + epsilon)) / epsilon²",
    "epsilon": EPSILON,
    "sampling": "pairs of independent z on the sphere, psi 1; full: t uniform in [0, 1), end: t = 0; in z slerp before "
    "the mapping, in w straight lines behind it; the same pairs and t for all four",
    "trimming": "distances below the 1st percentile (the next lower one) and above the 99th (the next higher one) are "
    "left out",
    "images": f"unclipped and unquantised, box averages by a whole factor above {RESOLUTION} px (a discriminator sees "
    "them whole), stored noise",
}


@partial(jax.jit, static_argnames=("space", "crop"))
def _lengths(
    G: Generator, judge: Judge, z: jax.Array, t: jax.Array, live: jax.Array, *, space: str, crop: bool
) -> jax.Array:
    """d / ε² [B] of pairs z [B, 2, z_dim] at t [B]."""

    def seen(z: jax.Array, t: jax.Array) -> Any:
        if space == "z":
            ws = G.mapping(slerp(z[:, 0], z[:, 1], t[:, None]))
        else:
            a, b = (G.map_ws(z[:, k]) for k in (0, 1))
            ws = a + t[:, None, None] * (b - a)
        images = G.synthesis(ws)
        if crop:
            unit = G.img_resolution // 8
            images = images[:, 3 * unit : 7 * unit, 2 * unit : 6 * unit]
        factor = images.shape[1] // max(RESOLUTION, judge.resolution)
        return judge.features(area(images, (images.shape[1] // factor,) * 2) if factor > 1 else images)

    def some(z: jax.Array, t: jax.Array) -> jax.Array:
        return judge.distance(seen(z, t), seen(z, t + EPSILON)) / EPSILON**2

    return in_groups(images_at_once(jax.local_devices()), live, some, z, t)  # type: ignore[no-any-return]


def path_lengths(
    G: Generator,
    judge: Judge,
    space: str,
    sampling: str,
    *,
    samples: int,
    crop: bool = False,
    seed: int = 0,
    batch_size: int = 16,
) -> np.ndarray:
    """Lengths d / ε² [samples] before trimming.

    Args:
        judge: LPIPS of VGG16 for numbers that compare with published ones.
        space: "z" or "w".
        sampling: "full" or "end".
        samples: pairs; 100,000 in StyleGAN's paper, 50,000 in the code of StyleGAN2-ADA.
        crop: look at the middle of an aligned face alone (rows 3/8 to 7/8, columns 1/4 to 3/4), as published for FFHQ.
        seed: of the pairs; the first n of more samples are the same.

    Raises:
        LsapError: a conditional generator, whose samples need labels, fewer than one sample, or a crop for a judge
            that takes whole images.
    """
    check_length(G, judge, crop)
    if samples < 1:
        raise LsapError(f"{samples} samples: path length needs 1 or more")
    z, t = _pairs(samples, G.z_dim, seed)
    t = t * np.float32(sampling == "full")
    found = []
    for start in range(0, samples, batch_size):
        part = slice(start, start + batch_size)
        missing = batch_size - len(t[part])
        padded = (np.concatenate([a[part], np.repeat(a[-1:], missing, axis=0)]) for a in (z, t))
        live = np.arange(batch_size) < batch_size - missing
        lengths = _lengths(G.bare(), judge, *padded, live, space=space, crop=crop)
        found.append(np.asarray(lengths)[: batch_size - missing])
    return np.concatenate(found)


def _pairs(samples: int, z_dim: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """z [N, 2, z_dim] on the sphere and t [N] in [0, 1)."""
    rng = np.random.default_rng(seed)
    z, t = np.zeros((samples, 2, z_dim), np.float32), np.zeros(samples, np.float32)
    for i in range(samples):
        z[i], t[i] = rng.standard_normal((2, z_dim), dtype=np.float32), rng.random(dtype=np.float32)
    return np.asarray(retract(jnp.asarray(z))), t


def trimmed_mean(lengths: np.ndarray) -> float:
    """The mean of lengths [N] between their 1st and 99th percentile, as StyleGAN's code has it."""
    low, high = np.percentile(lengths, 1, method="lower"), np.percentile(lengths, 99, method="higher")
    return float(lengths[(low <= lengths) & (lengths <= high)].mean(dtype=np.float64))


def check_length(G: Generator, judge: Judge, crop: bool) -> None:
    """Raises LsapError for a conditional generator, whose samples need labels, or a crop without LPIPS."""
    if G.c_dim:
        raise LsapError("path length is for generators without labels; this one is conditional")
    if crop and judge.name == "discriminator":
        raise LsapError("path length of a crop needs LPIPS; give its weights by --perceptual, or leave --ppl_crop out")


def perceptual_path_length(
    G: Generator, judge: Judge, *, samples: int, crop: bool = False, seed: int = 0, batch_size: int = 16
) -> dict[str, Any]:
    """PPL of Z and W: "z_full", "z_end", "w_full" and "w_end", and the conventions that pin them down.

    Raises:
        LsapError: see `path_lengths`.
    """
    options: dict[str, Any] = {"samples": samples, "crop": crop, "seed": seed, "batch_size": batch_size}
    values = {
        f"{space}_{sampling}": trimmed_mean(path_lengths(G, judge, space, sampling, **options))
        for space in SPACES
        for sampling in SAMPLING
    }
    cut = "rows 3/8 to 7/8, columns 1/4 to 3/4" if crop else "none"
    about = {"samples": samples, "seed": seed, "crop": cut, "network": judge.name, "distance": judge.description}
    return {**values, **about, **CONVENTIONS}
