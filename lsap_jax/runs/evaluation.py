"""Metrics of codes against their targets, as arrays: per image, and of the set of reconstructions as a whole."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lsap_jax.errors import LsapError
from lsap_jax.losses.alignment import genuine_level, mean_nscd, sn_layers
from lsap_jax.losses.judges import Judge, column
from lsap_jax.losses.terms import nscd_of
from lsap_jax.metrics.distortion import METRICS
from lsap_jax.metrics.fid import fid, inception_features
from lsap_jax.metrics.identity import IdentityMeter, meter_of
from lsap_jax.metrics.identity_columns import describe_identities, measure_identities
from lsap_jax.metrics.kid import Whitening, feature_description, fit_whitening, kid, random_features
from lsap_jax.models.classes import ByClass
from lsap_jax.models.generator import Generator
from lsap_jax.models.inception import Inception
from lsap_jax.models.perceptual import from_discriminator
from lsap_jax.pixels import to_float
from lsap_jax.rendering.refinement import Refinement, check
from lsap_jax.rendering.render import decode, fitted, per_batch, render, synthesise
from lsap_jax.spaces import Space, parse_space
from lsap_jax.spaces.statistics import with_statistics

WHITENING_SAMPLES = 1024
LOGIT_FORMULA = (
    "the discriminator's logit of the reconstruction alone (minibatch-stddev group 1); higher is more natural"
)
NSCD_FORMULA = (
    "1 - <s_l / |s_l|, mu_l>, s_l the styles of layer l, mu_l the mean unit style of {samples:,} samples (psi 1, W, "
    "not normalised again); mean over the layers {layers}"
)


def evaluate(
    G: Generator,
    space: str | Space,
    codes: Mapping[str, np.ndarray],
    images: np.ndarray,
    perceptual: Sequence[Judge] | None = None,
    batch_size: int = 16,
    *,
    refinement: Refinement | None = None,
    identity: IdentityMeter | str | Path | None = None,
) -> dict[str, np.ndarray]:
    """Every metric of codes against the images they stand for.

    Args:
        space: a name, or the Space of a run with its truncation.
        codes: by name, first axis N, as `invert` returns them.
        images: targets [N, R, R, C] at the generator's resolution, uint8 or float in [-1, 1].
        perceptual: distances to measure; the discriminator's by default, where the generator has one.
        batch_size: images at once; the last batch is padded.
        refinement: of the same N images.
        identity: a face network for photographs of faces: "dlib" (bundled), or a file (`load_meter`).

    Returns:
        name -> [N]: mse, psnr, ssim, ssim01, ms_ssim on the clipped, unquantised reconstructions (SSIM from 11 px on),
        the perceptual distances, the discriminator's logit of each reconstruction alone, nscd and nscd_00, nscd_01, ...
        of the layers of S^N that the image is made from. NSCD compares codes of a conditional generator with samples of
        their class, and is left out for codes without one. With `identity` also its columns
        (`lsap_jax.metrics.identity_columns`), NaN where no face is found.

    Raises:
        LsapError: the space is unknown, the codes are of another space, the images have another shape, the refinement
            is of other images or of another generator, or there is no such face network.
    """
    images, meter = np.asarray(images), meter_of(identity)
    G, space, codes = fitted(G, space, codes)
    shape = (len(next(iter(codes.values()))), G.img_resolution, G.img_resolution, G.img_channels)
    if images.shape != shape:
        raise LsapError(f"these codes need targets of shape {list(shape)}, got {list(images.shape)}")
    if refinement is not None:
        check(G, refinement, len(images))
    if perceptual is None:
        perceptual = [from_discriminator(G)] if G.discriminator is not None else []
    if not len(images):
        return {}
    measure = measurer(G, space, tuple(perceptual), batch_size, jax.local_devices()[:1])
    found = measure(codes, refinement, images)
    if meter is not None:
        found |= measure_identities(meter, images, render(G, space, codes, batch_size, refinement=refinement))
    return found  # type: ignore[no-any-return]


def measurer(
    G: Generator, space: Space, judges: tuple[Judge, ...], batch_size: int, devices: Sequence[jax.Device]
) -> Callable[..., dict[str, np.ndarray]]:
    """`evaluate` of any number of images, on these devices: a function of (codes, refinement, targets)."""
    G = with_statistics(G) if not G.c_dim or space.has_class else G
    if not _has_logit(G, space):
        G = G.without("discriminator")
    measure = per_batch(_measure, G, space, batch_size, devices, beside=judges)

    def measured(
        codes: Mapping[str, np.ndarray], refinement: Refinement | None, targets: np.ndarray
    ) -> dict[str, np.ndarray]:
        floats = targets if targets.dtype != np.uint8 else to_float(targets)
        return measure(codes, refinement, np.asarray(floats, np.float32))  # type: ignore[no-any-return]

    return measured


def _measure(
    networks: tuple[Generator, tuple[Judge, ...]],
    space: Space,
    codes: dict[str, jax.Array],
    refinement: Refinement | None,
    targets: jax.Array,
) -> dict[str, jax.Array]:
    G, judges = networks
    decoded = decode(G, space, codes, refinement)
    images = jnp.clip(synthesise(G, decoded, refinement), -1, 1)
    side = min(targets.shape[1:3])
    found = {name: m.value(images, targets) for name, m in METRICS.items() if side >= m.least}
    found |= {column(p): p.distance(p.features(images), p.features(targets)) for p in judges}
    if G.discriminator is not None:
        found["logit"] = G.discriminator.alone(images, decoded.c)
    return found if G.statistics is None else found | mean_nscd(nscd_of(G, decoded))


def _has_logit(G: Generator, space: Space) -> bool:
    """Whether there is a discriminator, and the class that a conditional one asks for."""
    return G.discriminator is not None and (not G.c_dim or space.has_class)


def describe_metrics(
    G: Generator, space: Space, perceptual: Sequence[Judge], identity: IdentityMeter | None = None
) -> dict[str, dict[str, Any]]:
    """Name of a metric of `evaluate` -> range, resolution, quantisation, formula and network, for results."""
    common = {"range": "[-1, 1], clipped", "quantisation": "none"}
    found: dict[str, dict[str, Any]] = {
        **{name: {**metric.description, "network": None} for name, metric in METRICS.items()},
        **{column(p): {**common, "formula": p.description, "network": p.name} for p in perceptual},
        **({"logit": {**common, "formula": LOGIT_FORMULA, "network": None}} if _has_logit(G, space) else {}),
        **({} if identity is None else describe_identities(identity)),
    }
    if G.c_dim and not space.has_class:
        return found
    statistics = with_statistics(G).statistics
    first = statistics.values if isinstance(statistics, ByClass) else statistics
    layers = ", ".join(sn_layers(G.config, space.base_resolution))
    formula = NSCD_FORMULA.format(samples=first.anchor_samples, layers=layers)
    return found | {"nscd": {"formula": formula + "; of the image's class" * space.has_class, "network": None}}


def genuine_nscd(G: Generator, space: Space, c: np.ndarray | None = None) -> np.ndarray:
    """NSCD that the generator's own samples have on average, over the layers that this space's images are made from:
    one number, or [N] for labels c [N, c_dim] of several classes.
    """
    G = with_statistics(G).given(None if c is None else jnp.asarray(c))
    assert G.statistics is not None
    return np.asarray(genuine_level(G.config, G.statistics.anchors, space.base_resolution).mean(axis=0))[()]


def compare_sets(
    G: Generator,
    targets: np.ndarray,
    images: np.ndarray,
    inception: Inception | None,
    c: np.ndarray | None = None,
) -> dict[str, Any]:
    """Distance between the set of reconstructions and the set of their targets, uint8 [N, R, R, C] both; see
    `compare_features`.
    """
    if len(images) < 3:
        return {}
    if inception is not None:
        return compare_features(G, inception, *(inception_features(inception, x) for x in (targets, images)))
    return compare_features(G, None, random_features(targets), random_features(images), c)


def compare_features(
    G: Generator,
    inception: Inception | None,
    targets: np.ndarray,
    images: np.ndarray,
    c: np.ndarray | None = None,
) -> dict[str, Any]:
    """Distance between two sets by their features [N, d], which are Inception's where `inception` is given, else
    random ones (`lsap_jax.metrics.kid.random_features`).

    Args:
        c: labels [N, c_dim] of a conditional generator, whose samples have these in turn.

    Returns:
        {"kid", "kid_stderr", "features"} in random-conv features whitened on samples of the generator, which are in
        neither set; with Inception weights in Inception's features, and with {"fid", "fid_note"}. Empty for fewer than
        3 images, and for images of a conditional generator without labels, unless there are Inception weights.
    """
    if len(images) < 3 or inception is None and G.c_dim and c is None:
        return {}
    if inception is not None:
        distance, kernel = fid(images, targets), kid(images, targets)
        record = {"fid": distance.value, "fid_note": distance.note, "features": vars(inception.record)}
        return {**record, "kid": kernel.value, "kid_stderr": kernel.stderr}
    own = b"" if c is None else np.asarray(c).tobytes()
    whitening = _whitening(_Samples(WHITENING_SAMPLES, G.sha256, own, G.without("discriminator"), c))
    kernel = kid(whitening(images), whitening(targets))
    return {"kid": kernel.value, "kid_stderr": kernel.stderr, "features": _whitened_description()}


def features_of_sets(
    G: Generator, inception: Inception | None
) -> tuple[Callable[[np.ndarray], np.ndarray], str | dict[str, Any]]:
    """A function of uint8 images [N, R, R, C] to the features [N, d] that sets are compared in, and what these are:
    Inception's, or random ones whitened on samples of the generator, of the classes that it is used for.
    """
    if inception is not None:
        return partial(inception_features, inception), dict(vars(inception.record))
    c = None if G.labels is None else np.asarray(G.labels)
    own = b"" if c is None else c.tobytes()
    whitening = _whitening(_Samples(WHITENING_SAMPLES, G.sha256, own, G.without("discriminator"), c))
    return lambda images: whitening(random_features(images)), _whitened_description()


def _whitened_description() -> str:
    return feature_description().replace("real images", f"{WHITENING_SAMPLES} samples of the generator")


@dataclass(frozen=True)
class _Samples:
    """Samples of a generator; equal ones have the same weights and labels."""

    count: int
    sha256: str
    labels: bytes
    G: Generator = field(compare=False)
    c: np.ndarray | None = field(compare=False)


@lru_cache(maxsize=1)
def _whitening(of: _Samples) -> Whitening:
    """The runs of a comparison share it."""
    G, c = of.G, of.c
    z = np.random.default_rng(0).standard_normal((of.count, G.z_dim), dtype=np.float32)
    samples = {"z": _on_sphere(z)} | ({} if c is None else {"c": np.resize(c, (len(z), G.c_dim))})
    return fit_whitening(random_features(render(G, "z", samples)))


def _on_sphere(z: np.ndarray) -> np.ndarray:
    return np.asarray(parse_space("z").retract({"z": jnp.asarray(z)})["z"])
