"""`lsap_jax.invert` and `lsap_jax.encode`: arrays in, codes out, in the batches of a run and without its folder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from lsap_jax.configuration import load_config
from lsap_jax.data import from_arrays
from lsap_jax.data.masks import masks_from_arrays
from lsap_jax.encoding.attach import fit_of, with_encoder
from lsap_jax.errors import LsapError
from lsap_jax.inversion.inverter import Inverter
from lsap_jax.inversion.jobs import Inverted, Job, even_size
from lsap_jax.models.encoder import Encoder
from lsap_jax.models.generator import Generator
from lsap_jax.runs.classes import labels_by_id, used_for, with_labels
from lsap_jax.runs.flow import flow
from lsap_jax.spaces import Space


@dataclass(frozen=True, kw_only=True)
class Inversion:
    """Results of `invert`, first axis N throughout.

    Attributes:
        space: pass it to `render` with the codes.
        ids: of the images.
        codes: "z", "w", "s" or "p" by the space; in F spaces "f"; "noise" where noise maps are optimised; the
            labels "c" [N, c_dim] where classes were given.
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
    c: Any = None,
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
        batch_size: the most images at once, over all local devices; batches are even, and padded to the devices.
        masks: [N, H, W] in [0, 1]; weight the pixel and perceptual terms.
        progress: called after every chunk with (step of the batch, steps, mean loss).
        c: classes of a conditional generator: a number for all images or one for each, or label vectors [c_dim] or
            [N, c_dim]. z spaces need it, and so do random starts and terms that compare with samples.
        overrides: dotted configuration keys, e.g. **{"loss.base": 5.0}.

    Returns:
        An `Inversion`.

    Raises:
        LsapError: unknown space or key, images, masks or classes of a wrong shape, a class that is missing or unknown,
            or an image without a single finite step.
    """
    shorthands = {"steps": steps, "seed": seed, "batch_size": batch_size}
    config = load_config(space, {**{k: v for k, v in shorthands.items() if v is not None}, **overrides})
    return _inverted(G, config, images, ids, masks, progress, c)


def encode(
    G: Generator,
    E: Encoder | None,
    images: np.ndarray,
    seed: int = 0,
    ids: Sequence[str] | None = None,
    batch_size: int | None = None,
    c: Any = None,
    **overrides: Any,
) -> Inversion:
    """Latent codes by one pass of an encoder, the mean latent added; no step is taken.

    Args:
        G: the generator.
        E: the encoder (`lsap_jax.load_encoder`); None is the latent encoder that comes with G.
        images: as for `invert`.
        seed: decides parts of a code that the encoder does not give, if there are any.
        ids: unique names, the index as text by default.
        batch_size: the most images at once, over all local devices; batches are even, and padded to the devices.
        c: classes of a conditional generator, as for `invert`.
        overrides: dotted configuration keys of the preset `encode`, e.g. space="w".

    Returns:
        An `Inversion`, whose curves have one entry.

    Raises:
        LsapError: G has no encoder, E makes ws of another generator, or as `invert`.
    """
    E = G.encoder if E is None else E
    own = {} if E is None else {"space": E.codes, "fit": fit_of(E, "crop")}
    sizes = {"seed": seed} if batch_size is None else {"seed": seed, "batch_size": batch_size}
    config = load_config("encode", {**own, **sizes, **overrides})
    return _inverted(G if E is None else with_encoder(G, E), config, images, ids, c=c)


def _inverted(
    G: Generator,
    config: ConfigDict,
    images: np.ndarray,
    ids: Sequence[str] | None,
    masks: np.ndarray | None = None,
    progress: Callable[[int, int, float], None] | None = None,
    c: Any = None,
) -> Inversion:
    """The common part of `invert` and `encode`."""
    if config.align:
        raise LsapError("align=True: is for files; align arrays by `lsap_jax.faces.detect` and `lsap_jax.faces.align`")
    source = from_arrays(np.asarray(images), ids, resolution=G.img_resolution, channels=G.img_channels, fit=config.fit)
    config.batch_size = even_size(config.batch_size, len(source))
    labels = {} if c is None else labels_by_id(G.c_dim, c, source.ids)
    start = with_labels({}, labels)
    inverter = Inverter(used_for(G, labels), config, masked=masks is not None)
    mask_of = masks_from_arrays(masks, np.shape(images), G.img_resolution, config.fit)
    jobs = (
        Job(id=id, image=source.load(i).image, mask=mask_of(i), start=start.get(id)) for i, id in enumerate(source.ids)
    )
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
        perceptual=dict(inverter.judges["perceptual"].record),
    )


def _padded(curve: dict[str, np.ndarray], length: int) -> dict[str, np.ndarray]:
    """A curve that ended early, with NaN after its end."""
    return {name: np.pad(v, (0, length - len(v)), constant_values=np.nan) for name, v in curve.items()}


def _stack(parts: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    return {key: np.stack([part[key] for part in parts]) for key in parts[0]}
