"""`lsap_jax.invert`: arrays in, codes out; the same batches as a run folder's, without the folder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lsap_jax.configuration import load_config
from lsap_jax.data import from_arrays
from lsap_jax.errors import LsapError
from lsap_jax.inversion.inverter import Inverted, Inverter, Job
from lsap_jax.models.generator import Generator
from lsap_jax.runs.flow import flow
from lsap_jax.spaces import Space


@dataclass(frozen=True, kw_only=True)
class Inversion:
    """Results of `invert`, first axis N throughout.

    Attributes:
        space: pass it to `render` with the codes.
        ids: of the images.
        codes: "z", "w", "s" or "p" by the space; in F spaces "f"; "noise" where noise maps are optimised.
        images: float32 [N, R, R, C], clipped to [-1, 1], rendered from the codes.
        metrics: name -> [N]; on the clipped, unquantised images.
        curves: loss term -> [N, steps + 1], from the start to the final codes.
        flags: per image, e.g. a loss that was not finite; empty where all went well.
        perceptual: which perceptual distance was minimised and measured.
    """

    space: Space
    ids: tuple[str, ...]
    codes: dict[str, np.ndarray]
    images: np.ndarray
    metrics: dict[str, np.ndarray]
    curves: dict[str, np.ndarray]
    flags: tuple[tuple[str, ...], ...]
    perceptual: dict[str, Any]


def invert(
    G: Generator,
    images: np.ndarray,
    space: str = "f/z+",
    steps: int | None = None,
    seed: int = 0,
    ids: Sequence[str] | None = None,
    batch_size: int | None = None,
    masks: np.ndarray | None = None,
    progress: Callable[[int, int, float], None] | None = None,
    **overrides: Any,
) -> Inversion:
    """Latent codes whose images are closest to the given ones.

    Args:
        G: the generator.
        images: [N, H, W, C], uint8 or float in [-1, 1] (rounded to 256 levels); cropped and resized to the
            generator's resolution.
        space: z, z+, w, w+, s, p, pn, pn+, f/z, f/z+, f/w, f/w+, f/s, or a preset such as "f/z+:code" or "bdinvert".
        steps: of the optimisation; the preset's 1200 by default.
        seed: with the ids, it decides the random starts.
        ids: unique names, the index as text by default.
        batch_size: images at once over all local devices, padded to a multiple of them.
        masks: [N, H, W] in [0, 1]; weight the pixel and perceptual terms.
        progress: called after every chunk with (step of the batch, steps, mean loss).
        overrides: dotted configuration keys, e.g. **{"loss.base": 5.0}.

    Returns:
        An `Inversion`.

    Raises:
        LsapError: unknown space or key, images or masks of a wrong shape, or an image without a single finite step.
    """
    shorthands = {"steps": steps, "seed": seed, "batch_size": batch_size}
    config = load_config(space, {**{k: v for k, v in shorthands.items() if v is not None}, **overrides})
    if config.align:
        raise LsapError("align=True: is for files; align arrays by `lsap_jax.faces.detect` and `lsap_jax.faces.align`")
    source = from_arrays(np.asarray(images), ids, resolution=G.img_resolution, channels=G.img_channels, fit=config.fit)
    config.batch_size = min(config.batch_size, len(source))
    inverter = Inverter(G, config, masked=masks is not None)
    mask_of = _masks(masks, np.shape(images), G.img_resolution, config.fit)
    jobs = (Job(id=id, image=source.load(i).image, mask=mask_of(i)) for i, id in enumerate(source.ids))
    found: dict[str, Inverted] = {}
    for job, result in flow(inverter, jobs, progress):
        if result is None:
            raise LsapError(f"image {job.id}: the loss was not finite at any step; look at the image and the generator")
        found[job.id] = result
    results = [found[id] for id in source.ids]
    return Inversion(
        space=inverter.space,
        ids=source.ids,
        codes=_stack([r.codes for r in results]),
        images=np.stack([r.image for r in results]),
        metrics=_stack([r.metrics for r in results]),
        curves=_stack([_padded(r.curve, config.steps + 1) for r in results]),
        flags=tuple(r.flags for r in results),
        perceptual=inverter.perceptual_record,
    )


def _padded(curve: dict[str, np.ndarray], length: int) -> dict[str, np.ndarray]:
    """NaN after the end of a curve that ended early."""
    return {name: np.pad(v, (0, length - len(v)), constant_values=np.nan) for name, v in curve.items()}


def _stack(parts: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    return {key: np.stack([part[key] for part in parts]) for key in parts[0]}


def _masks(
    masks: np.ndarray | None, shape: tuple[int, ...], resolution: int, fit: str
) -> Callable[[int], np.ndarray | None]:
    """Index -> mask [R, R], cropped and resized as the images are."""
    if masks is None:
        return lambda i: None
    masks = np.asarray(masks, np.float32)
    if masks.shape != shape[:3]:
        raise LsapError(f"masks of shape {masks.shape} do not belong to images of shape {shape}; they need {shape[:3]}")
    if not (masks.min() >= 0 and masks.max() <= 1):
        raise LsapError(f"masks lie in [0, 1]; these range from {masks.min():g} to {masks.max():g}")
    source = from_arrays(masks[..., None] * 2 - 1, None, resolution=resolution, channels=1, fit=fit)
    return lambda i: source.load(i).image[..., 0].astype(np.float32) / 255
