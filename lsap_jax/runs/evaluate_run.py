"""`lsap-jax evaluate`: the metrics of a run, image by image and resumable, and then those of its images as a set.

While images are measured, RUN/evaluation/DIGEST is a folder of results with the metrics of each image and the features
that sets are compared by; DIGEST identifies the images and what is measured. When all images are there, metrics.csv
gets the columns, evaluation.json is written, and the folder is deleted.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lsap_jax.configuration import recorded
from lsap_jax.errors import LsapError
from lsap_jax.inversion.inverter import StepReport, versions
from lsap_jax.inversion.jobs import batches_of
from lsap_jax.inversion.settings import minimised
from lsap_jax.losses.judges import Judge, make_judges
from lsap_jax.metrics.fid import inception_features_of
from lsap_jax.metrics.identity import IdentityMeter
from lsap_jax.metrics.identity_columns import describe_identities, measure_identities, summarise_identities
from lsap_jax.metrics.kid import random_features_of
from lsap_jax.metrics.ppl import check_length, perceptual_path_length
from lsap_jax.models.generator import Generator
from lsap_jax.models.inception import Inception
from lsap_jax.networks.image_by_image import images_at_once, in_groups
from lsap_jax.rendering.devices import merge, over_devices, padded_size, replicate, shard
from lsap_jax.rendering.refinement import Refinement, by_signature, check
from lsap_jax.rendering.render import space_of
from lsap_jax.runs.evaluation import compare_features, describe_metrics, genuine_nscd, measurer
from lsap_jax.runs.finished import FinishedItem, FinishedJob, codes_of, finished_images, pictured_job, pictures_of
from lsap_jax.runs.shipping import sha256_of
from lsap_jax.runs.work import Place, Summary, work
from lsap_jax.runs.worker import Brief, Outcome, Result, Stop, never
from lsap_jax.spaces import Space
from lsap_jax.spaces.statistics import with_statistics
from lsap_jax.storage.atomic import InUse, held, lock_folder, sha256, write_files
from lsap_jax.storage.checked_json import sealed
from lsap_jax.storage.matching import Layout, Rule
from lsap_jax.storage.metrics_table import metrics_csv, read_metrics_table, write_table
from lsap_jax.storage.results import (
    EVALUATION,
    Record,
    mapping,
    read_arrays,
    read_code,
    read_failures,
    read_manifest,
    read_run,
)
from lsap_jax.storage.run_folder import Kind, RunFolder

FOLDER = "evaluation"
SETS = ("targets", "images")  # parts of a run whose sets are compared
EVALUATIONS = Kind(Layout("settings.json", "lsap_jax evaluation 2", "evaluation"), Rule(("measured",)))


class EvaluationWorker(Brief):
    """Measures finished images (`FinishedJob`): an outcome has metrics and, where sets are compared, "features"."""

    def __init__(
        self,
        G: Generator,
        space: Space,
        distances: Sequence[Judge],
        inception: Inception | None,
        sets: bool,
        batch_size: int,
        described: Mapping[str, Any],
        devices: Sequence[jax.Device] | None = None,
        identity: IdentityMeter | None = None,
    ) -> None:
        """
        Args:
            G: with its statistics.
            described: what the folder records beside the devices.
            identity: compares the faces of targets and saved pictures, on the first device.
        """
        self.arguments = (G, space, tuple(distances), inception, sets, batch_size, described)
        self.identity = identity
        self.G, self.described, self.size = G, described, batch_size
        self.devices = list(devices or jax.local_devices())
        self.batch_size = padded_size(batch_size, self.devices)
        self._measure = measurer(G, space, tuple(distances), batch_size, self.devices)
        self._features = _set_features(inception, self.batch_size, self.devices) if sets else None

    def batches(self, count: int) -> Iterator[range]:
        return batches_of(count, self.size)

    def describe(self) -> dict[str, Any]:
        devices = [str(device) for device in self.devices]
        return {**self.described, "batch_size": self.batch_size, "devices": devices, "versions": versions()}

    def __call__(
        self,
        jobs: Sequence[FinishedJob | None],
        report: StepReport | None = None,
        flight: Path | None = None,
        stop: Stop = never,
    ) -> list[Outcome]:
        live = [job for job in jobs if job is not None]
        codes = codes_of(live)
        targets = np.stack([job.image for job in live])

        def measured(own: Refinement | None, codes: Any, targets: np.ndarray) -> dict[str, np.ndarray]:
            if own is not None:
                check(self.G, own)
            return self._measure(codes, own, targets)

        found = by_signature(measured, [job.refinement for job in live], codes, targets)
        features: dict[str, np.ndarray] = {}
        if self._features is not None:
            features = {"targets": self._features(targets), "images": self._features(pictures_of(live))}
        faces: dict[str, np.ndarray] = {}
        if self.identity is not None:
            faces = measure_identities(self.identity, targets, pictures_of(live), self.batch_size)
        outcomes = iter(
            Result(
                parts={"features": {name: a[i] for name, a in features.items()}},
                metrics={name: float(a[i]) for name, a in found.items()}
                | {name: float(a[i]) for name, a in faces.items() if not np.isnan(a[i])},
            )
            for i in range(len(live))
        )
        return [None if job is None else next(outcomes) for job in jobs]

    def shipment(self) -> Callable[[], "EvaluationWorker"]:
        return partial(EvaluationWorker, *self.arguments, identity=self.identity)


def _set_features(
    inception: Inception | None, size: int, devices: Sequence[jax.Device]
) -> Callable[[np.ndarray], np.ndarray]:
    """Features [N, d] of up to `size` uint8 images [N, R, R, C]."""
    params = None if inception is None else inception.params
    copies, compute = replicate(params, devices), _compiled(tuple(devices))

    def features(images: np.ndarray) -> np.ndarray:
        padded = np.concatenate([images, np.repeat(images[-1:], size - len(images), axis=0)])
        inputs = shard((padded, np.arange(size) < len(images)), len(devices))
        return merge(compute(copies, *inputs))[: len(images)]  # type: ignore[no-any-return]

    return features


@lru_cache(maxsize=4)
def _compiled(devices: tuple[jax.Device, ...]) -> Callable[..., Any]:
    def some(params: Any, images: jax.Array, live: jax.Array) -> jax.Array:
        def of(images: jax.Array) -> jax.Array:
            if params is not None:
                return inception_features_of(params, images)  # type: ignore[no-any-return]
            return random_features_of(images.astype(jnp.float32) / 127.5 - 1)

        return in_groups(images_at_once(devices), live, of, images)  # type: ignore[no-any-return]

    return over_devices(some, devices)


def evaluate_run(
    G: Generator,
    folder: Path,
    distances: Sequence[Judge] = (),
    inception: Inception | None = None,
    batch_size: int = 16,
    sets: bool = True,
    ppl: int = 0,
    ppl_crop: bool = False,
    identity: IdentityMeter | None = None,
    **options: Any,
) -> Summary:
    """`evaluate` of a run folder: adds columns to its metrics.csv, and writes evaluation.json when all images are
    measured: {"images", "space", "means", "nscd_of_genuine_samples", "set", "ppl", "metrics", "identity"}; see
    `lsap_jax.storage.results.read_evaluation`. The level of genuine samples is left out where NSCD is (`evaluate`), and
    the summary of identities where none are measured.

    Args:
        G: the generator of the run.
        distances: perceptual distances to measure beside the one that was minimised.
        sets: compare the set of reconstructions with that of the targets, too.
        ppl: samples of perceptual path length, which is of the generator alone; 0 leaves it out.
        ppl_crop: see `path_lengths`.
        identity: compares the faces of targets and reconstructions, too; images without a face have no such metric.
        options: of `lsap_jax.runs.work.work`: shard, engine, progress, ....

    Returns:
        a `Summary` of this share; evaluation.json is there if it is `whole` and nothing is `left`.

    Raises:
        LsapError: the folder is not a run folder, none of its images is finished, a result has changed, or path length
            lacks a network that compares images.
    """
    run, manifest = read_run(folder), read_manifest(folder)
    if not manifest:
        raise LsapError(f"{folder}: has no finished image yet; run its `lsap-jax invert` command again")
    space = space_of(run, G)
    if not G.c_dim or space.has_class:
        G = with_statistics(G)
    minimised = [one.judge for one in make_judges(recorded(run["config"]), G).values() if one.judge is not None]
    named = {judge.name for judge in distances}
    judges = [*(judge for judge in minimised if judge.name not in named), *distances]
    judge = _judge_of_length(judges) if ppl else None
    if judge is not None:
        check_length(G, judge, ppl_crop)
    measured = {
        "generator": G.sha256,
        "distances": {judge.name: sha256_of(judge) for judge in judges},
        "logit": G.discriminator is not None,
        "features": None if not sets else "random" if inception is None else vars(inception.record),
        "run": sha256(
            json.dumps([run["config"], {id: manifest[id]["sha256"] for id in manifest}], sort_keys=True).encode()
        ),
        **({} if identity is None else {"identity": identity.described}),
    }
    out = folder / FOLDER / sha256(json.dumps(measured, sort_keys=True).encode())[:16]

    def make(devices: Sequence[jax.Device] | None) -> EvaluationWorker:
        described = {"measured": measured}
        return EvaluationWorker(G, space, judges, inception, sets, batch_size, described, devices, identity)

    def conclude(out: Path) -> None:
        if manifest.keys() <= read_manifest(out).keys():
            length = (
                perceptual_path_length(G, judge, samples=ppl, crop=ppl_crop, batch_size=batch_size) if judge else {}
            )
            _conclude(G, space, judges, inception, length, identity, folder, run, out)

    parts = ("codes", "targets", "images", "refined")
    source = finished_images(folder, manifest, G, parts=parts, deciding=parts)
    place = Place(partial(RunFolder.open, kind=EVALUATIONS))
    summary = work(make, source, out, job=pictured_job, save=_save, place=place, **{**options, "conclude": conclude})
    if failures := read_failures(out):
        raise LsapError(next(iter(failures.values()))["reason"])
    if summary.whole and not summary.left:
        _drop(folder / FOLDER)
    return summary


def _drop(folder: Path) -> None:
    """Deletes what evaluations have left, except those of other processes at work."""
    for one in folder.glob("*/"):
        with suppress(InUse, LsapError):
            locks = lock_folder(one)
            shutil.rmtree(one, ignore_errors=True)
            for lock in locks:
                os.close(lock)
    with suppress(OSError):
        folder.rmdir()


def _save(folder: RunFolder, item: FinishedItem, result: Result) -> None:
    folder.write(item.id, metrics=result.metrics, input_sha256=item.sha256, **result.parts)


def _conclude(
    G: Generator,
    space: Space,
    judges: Sequence[Judge],
    inception: Inception | None,
    ppl: Mapping[str, Any],
    identity: IdentityMeter | None,
    folder: Path,
    run: Record,
    out: Path,
) -> None:
    """Writes metrics.csv and evaluation.json of a run whose images are all measured in `out`."""
    manifest, done = read_manifest(folder), read_manifest(out)
    ids = [id for id in sorted(manifest) if id in done]
    names = dict.fromkeys(name for id in ids for name in done[id]["metrics"])
    found = {name: np.array([done[id]["metrics"].get(name, np.nan) for id in ids], np.float32) for name in names}
    faces = {} if identity is None else describe_identities(identity)
    c = np.stack([read_code(folder, id, manifest=manifest)["c"] for id in ids]) if space.has_class else None
    compared: dict[str, Any] = {}
    if all("features" in done[id]["sha256"] for id in ids):
        features = [read_arrays(out, id, "features", manifest=done) for id in ids]
        targets, images = (np.stack([one[part] for one in features]) for part in SETS)
        compared = compare_features(G, inception, targets, images, c)
    record = {
        "images": len(ids),
        "space": space.name,
        "means": {metric: float(np.mean(v[np.isfinite(v)])) for metric, v in found.items() if np.isfinite(v).any()},
        **({"nscd_of_genuine_samples": float(genuine_nscd(G, space, c).mean())} if "nscd" in found else {}),
        "set": compared,
        "ppl": dict(ppl),
        "metrics": _described(run, describe_metrics(G, space, judges, identity)),
        **({} if identity is None else {"identity": summarise_identities(identity, found)}),
    }
    with held(folder):
        earlier = read_metrics_table(folder)
        kept = {id: {name: v for name, v in earlier.get(id, {}).items() if name not in faces} for id in manifest}
        rows = {id: kept[id] | manifest[id]["metrics"] for id in manifest}
        for id in ids:
            rows[id] |= {name: v for name, v in done[id]["metrics"].items() if name not in manifest[id]["metrics"]}
        write_table(folder, metrics_csv(rows))
        write_files({folder / EVALUATION: sealed(record)})


def _judge_of_length(distances: Sequence[Judge]) -> Judge:
    """What path length is measured by: LPIPS-VGG where it is among the distances, else the first of them."""
    named = {judge.name: judge for judge in distances}
    judge = named.get("lpips_vgg") or next(iter(distances), None)
    if judge is None:
        raise LsapError("path length needs a network that compares images; give LPIPS weights by --perceptual")
    return judge


def _described(run: Record, described: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The descriptions, with whether each metric was also the loss."""
    also = {name for name, record in mapping(run.get("metrics")).items() if mapping(record).get("also_loss")}
    also |= {"nscd"} & minimised(recorded(run["config"])).keys()
    return {name: {**record, "also_loss": name in also} for name, record in described.items()}
