"""Metrics of codes against their targets: per image, and of the set of reconstructions as a whole."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lsap_jax.configuration import recorded
from lsap_jax.errors import LsapError
from lsap_jax.losses.alignment import genuine_level, mean_nscd, sn_layers
from lsap_jax.losses.judges import Judge, column, make_judges
from lsap_jax.losses.terms import nscd_of
from lsap_jax.metrics.distortion import METRICS
from lsap_jax.metrics.fid import fid, inception_features
from lsap_jax.metrics.kid import feature_description, fit_whitening, kid, random_features
from lsap_jax.metrics.ppl import perceptual_path_length
from lsap_jax.models.classes import ByClass
from lsap_jax.models.generator import Generator
from lsap_jax.models.inception import Inception
from lsap_jax.models.perceptual import from_discriminator
from lsap_jax.networks.image_by_image import images_at_once, in_groups
from lsap_jax.pixels import to_float
from lsap_jax.rendering.refinement import Refinement, by_signature, check, read_refinement
from lsap_jax.rendering.render import fitted, render, space_of, synthesise
from lsap_jax.rendering.transforms import parts
from lsap_jax.spaces import Space, parse_space
from lsap_jax.spaces.statistics import with_statistics
from lsap_jax.storage.atomic import write_files
from lsap_jax.storage.checked_json import sealed
from lsap_jax.storage.metrics_table import metrics_csv, read_metrics_table, write_table
from lsap_jax.storage.results import Record, mapping, read_code, read_image, read_manifest, read_run

WHITENING_SAMPLES = 1024
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
) -> dict[str, np.ndarray]:
    """Every metric of codes against the images they stand for.

    Args:
        space: a name, or the Space of a run with its truncation.
        codes: by name, first axis N, as `invert` returns them.
        images: targets [N, R, R, C] at the generator's resolution, uint8 or float in [-1, 1].
        perceptual: distances to measure; the discriminator's by default, where the generator has one.
        batch_size: images at once; the last batch is padded.
        refinement: of the same N images.

    Returns:
        name -> [N]: mse, psnr, ssim, ssim01, ms_ssim on the clipped, unquantised reconstructions (SSIM from 11 px on),
        the perceptual distances, nscd and nscd_00, nscd_01, ... of the layers of S^N that the image is made from. NSCD
        compares codes of a conditional generator with samples of their class, and is left out for codes without one.

    Raises:
        LsapError: the space is unknown, the codes are of another space, the images have another shape, or the
            refinement is of other images or of another generator.
    """
    images = np.asarray(images)
    G, space, codes = fitted(G, space, codes)
    shape = (len(next(iter(codes.values()))), G.img_resolution, G.img_resolution, G.img_channels)
    if images.shape != shape:
        raise LsapError(f"these codes need targets of shape {list(shape)}, got {list(images.shape)}")
    if refinement is not None:
        check(G, refinement, len(images))
    if perceptual is None:
        perceptual = [from_discriminator(G)] if G.discriminator is not None else []
    if not G.c_dim or space.has_class:
        G = with_statistics(G)
    bare = G.bare("statistics", *parts())
    rows = []
    for i in range(0, len(images), batch_size):
        part = slice(i, i + batch_size)
        missing = batch_size - len(images[part])
        target = images[part] if images.dtype != np.uint8 else to_float(images[part])
        padded = {k: _padded(a[part], missing) for k, a in codes.items()}
        own = jax.tree.map(lambda a, p=part, n=missing: _padded(np.asarray(a[p]), n), refinement)
        live = np.arange(batch_size) < batch_size - missing
        target = _padded(np.asarray(target, np.float32), missing)
        found = _measure(bare, space, tuple(perceptual), padded, own, target, live)
        rows.append({name: np.asarray(value)[: batch_size - missing] for name, value in found.items()})
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]} if rows else {}


def _padded(a: np.ndarray, missing: int) -> np.ndarray:
    return np.concatenate([a, np.repeat(a[-1:], missing, axis=0)])


@jax.jit(static_argnums=1)
def _measure(
    G: Generator,
    space: Space,
    perceptual: tuple[Judge, ...],
    codes: dict[str, jax.Array],
    refinement: Refinement | None,
    targets: jax.Array,
    live: jax.Array,
) -> dict[str, jax.Array]:
    def some(codes: dict[str, jax.Array], refinement: Refinement | None, targets: jax.Array) -> dict[str, jax.Array]:
        decoded = space.decode(G, codes)
        images = jnp.clip(synthesise(G, decoded, refinement), -1, 1)
        side = min(targets.shape[1:3])
        found = {name: m.value(images, targets) for name, m in METRICS.items() if side >= m.least}
        found |= {column(p): p.distance(p.features(images), p.features(targets)) for p in perceptual}
        return found if G.statistics is None else found | mean_nscd(nscd_of(G, decoded))

    return in_groups(images_at_once(jax.local_devices()), live, some, codes, refinement, targets)  # type: ignore[no-any-return]


def describe_metrics(G: Generator, space: Space, perceptual: Sequence[Judge]) -> dict[str, dict[str, Any]]:
    """Name of a metric of `evaluate` -> range, resolution, quantisation, formula and network, for results."""
    common = {"range": "[-1, 1], clipped", "quantisation": "none"}
    found: dict[str, dict[str, Any]] = {
        **{name: {**metric.description, "network": None} for name, metric in METRICS.items()},
        **{column(p): {**common, "formula": p.description, "network": p.name} for p in perceptual},
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
    """Distance between the set of reconstructions and the set of their targets, uint8 [N, R, R, C] both.

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
        a, b = (inception_features(inception, x) for x in (images, targets))
        distance, kernel = fid(a, b), kid(a, b)
        record = {"fid": distance.value, "fid_note": distance.note, "features": vars(inception.record)}
        return {**record, "kid": kernel.value, "kid_stderr": kernel.stderr}
    z = np.random.default_rng(0).standard_normal((WHITENING_SAMPLES, G.z_dim), dtype=np.float32)
    samples = {"z": _on_sphere(z)} | ({} if c is None else {"c": np.resize(c, (len(z), G.c_dim))})
    whitening = fit_whitening(random_features(render(G, "z", samples)))
    kernel = kid(*(whitening(random_features(x)) for x in (images, targets)))
    name = feature_description().replace("real images", f"{WHITENING_SAMPLES} samples of the generator")
    return {"kid": kernel.value, "kid_stderr": kernel.stderr, "features": name}


def _on_sphere(z: np.ndarray) -> np.ndarray:
    return np.asarray(parse_space("z").retract({"z": jnp.asarray(z)})["z"])


def evaluate_run(
    G: Generator,
    folder: Path,
    distances: Sequence[Judge] = (),
    inception: Inception | None = None,
    batch_size: int = 16,
    sets: bool = True,
    ppl: int = 0,
    ppl_crop: bool = False,
) -> dict[str, Any]:
    """`evaluate` of a run folder: adds columns to its metrics.csv, and writes evaluation.json.

    Args:
        G: the generator of the run.
        distances: perceptual distances to measure beside the one that was minimised.
        sets: compare the set of reconstructions with that of the targets, too.
        ppl: samples of perceptual path length, which is of the generator alone; 0 leaves it out.
        ppl_crop: see `path_lengths`.

    Returns:
        What evaluation.json holds: {"images", "space", "means", "nscd_of_genuine_samples", "set", "ppl", "metrics"};
        the level of genuine samples is left out where NSCD is (`evaluate`).

    Raises:
        LsapError: the folder is not a run folder, none of its images is finished, a result has changed, or path length
            lacks a network that compares images.
    """
    run, manifest = read_run(folder), read_manifest(folder)
    ids = sorted(manifest)
    if not ids:
        raise LsapError(f"{folder}: has no finished image yet; run its `lsap-jax invert` command again")
    space = space_of(run, G)
    if not G.c_dim or space.has_class:
        G = with_statistics(G)
    minimised = [one.judge for one in make_judges(recorded(run["config"]), G).values() if one.judge is not None]
    named = {judge.name for judge in distances}
    distances = [*(judge for judge in minimised if judge.name not in named), *distances]
    codes = [read_code(folder, name, manifest=manifest) for name in ids]
    stacked = {key: np.stack([code[key] for code in codes]) for key in space.keys}
    targets, images = (
        np.stack([read_image(folder, name, part, manifest=manifest) for name in ids]) for part in ("targets", "images")
    )
    refined = [read_refinement(folder, name, manifest) for name in ids]

    def measured(own: Refinement | None, codes: dict[str, np.ndarray], targets: np.ndarray) -> dict[str, np.ndarray]:
        return evaluate(G, space, codes, targets, distances, batch_size, refinement=own)

    found = by_signature(measured, refined, stacked, targets)
    c = stacked.get("c")
    earlier = read_metrics_table(folder)
    rows = {name: earlier.get(name, {}) | manifest[name]["metrics"] for name in manifest}
    for i, name in enumerate(ids):
        rows[name] |= {metric: float(v[i]) for metric, v in found.items() if metric not in manifest[name]["metrics"]}
    record = {
        "images": len(ids),
        "space": space.name,
        "means": {metric: float(np.mean(v[np.isfinite(v)])) for metric, v in found.items() if np.isfinite(v).any()},
        **({"nscd_of_genuine_samples": float(genuine_nscd(G, space, c).mean())} if "nscd" in found else {}),
        "set": compare_sets(G, targets, images, inception, c) if sets else {},
        "ppl": _path_length(G, distances, ppl, ppl_crop, batch_size) if ppl else {},
        "metrics": _described(run, describe_metrics(G, space, distances)),
    }
    write_table(folder, metrics_csv(rows))
    write_files({folder / "evaluation.json": sealed(record)})
    return record


def _path_length(G: Generator, distances: Sequence[Judge], samples: int, crop: bool, batch_size: int) -> dict[str, Any]:
    """PPL by LPIPS-VGG where it is among the distances, else by the first of them."""
    named = {judge.name: judge for judge in distances}
    judge = named.get("lpips_vgg") or next(iter(distances), None)
    if judge is None:
        raise LsapError("path length needs a network that compares images; give LPIPS weights by --perceptual")
    return perceptual_path_length(G, judge, samples=samples, crop=crop, batch_size=batch_size)


def _described(run: Record, described: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The descriptions, with whether each metric was also the loss."""
    also = {name for name, record in mapping(run.get("metrics")).items() if mapping(record).get("also_loss")}
    also |= {name for name in ("nscd",) if recorded(run["config"]).loss[name] > 0}
    return {name: {**record, "also_loss": name in also} for name, record in described.items()}
