"""Inversions and encodings as runs: the worker of both, and their description in run.json."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from lsap_jax.data import Item, Source
from lsap_jax.encoding.attach import with_encoder
from lsap_jax.inversion.inverter import Inverter, StepReport, versions
from lsap_jax.inversion.jobs import Inverted, Job, even_size
from lsap_jax.inversion.memory import explained
from lsap_jax.inversion.settings import minimised
from lsap_jax.losses.judges import column
from lsap_jax.metrics.distortion import METRICS
from lsap_jax.models.classes import ByClass
from lsap_jax.models.encoder import Encoder
from lsap_jax.models.generator import Generator
from lsap_jax.models.latent_statistics import LatentStatistics
from lsap_jax.runs.classes import Labels, describe_classes, used_for, with_labels
from lsap_jax.runs.flow import flow
from lsap_jax.runs.refining import Refining, RefiningWorker
from lsap_jax.runs.shipping import Shipment, packed, sha256_of
from lsap_jax.runs.work import Summary, job_of, work
from lsap_jax.runs.worker import Failed, Flow, Outcome, Result, Stop, Worker, never
from lsap_jax.spaces.statistics import to_arrays, with_class_means
from lsap_jax.storage.weights_file import digest

NOT_FINITE = Failed("the loss was not finite at any step")


Start = Mapping[str, Mapping[str, np.ndarray]]


class NamedEncoder(NamedTuple):
    """An encoder, and the name of its source."""

    name: str
    encoder: Encoder


def run(
    G: Generator,
    source: Source,
    config: ConfigDict,
    out: str | Path,
    *,
    generator_name: str,
    preset: str | None = None,
    start: Start | None = None,
    classes: Labels | None = None,
    encoder: NamedEncoder | None = None,
    how: Refining | None = None,
    masked: bool = False,
    **options: Any,
) -> Summary:
    """Inverts every image of a source into the run folder `out`, or finishes the run that is there. With a
    configuration of 0 steps that starts from an encoder, it encodes them.

    Args:
        generator_name: name or path to record.
        preset: name of the configuration before anything of it was changed, to record.
        start: codes by id to begin from.
        classes: labels by id, for every image, of a conditional generator; None is no class.
        encoder: used instead of the generator's own.
        how: how to refine the codes, too; pictures and metrics are then those of the refined images.
        masked: whether images may have masks, which are for `how`, or without it for the loss.
        options: of `lsap_jax.runs.work.work`.

    Raises:
        Preempted: `stop` returned true.
        LsapError: the folder belongs to another run, a result or an input has changed, the disk is full, ….
    """
    config = config.copy_and_resolve_references()
    config.batch_size = even_size(config.batch_size, len(source))

    about: dict[str, Any] = {"generator_name": generator_name, "started": bool(start), "encoder": encoder}
    about |= {"preset": preset, "masked": masked and how is None}
    if classes is not None:
        G, about["classes"] = used_for(G, classes), describe_classes(classes)
        start = with_labels(start or {}, classes)

    def make(devices: Sequence[jax.Device] | None) -> Worker:
        first = InversionWorker(G, config, devices, **about)
        if how is None:
            return first
        return RefiningWorker(G, first.inverter.space, config, how, devices, first=first, masked=masked)

    def job(item: Item) -> Job:
        return replace(job_of(item), start=(start or {}).get(item.id))

    return work(make, source, out, job=job, **options)


class InversionWorker:
    """An `Inverter` as a `Worker`. With 0 steps it is the worker of an encoder."""

    def __init__(
        self,
        G: Generator,
        config: ConfigDict,
        devices: Sequence[jax.Device] | None = None,
        *,
        generator_name: str = "",
        preset: str | None = None,
        started: bool = False,
        encoder: NamedEncoder | None = None,
        classes: Mapping[str, Any] | None = None,
        masked: bool = False,
    ) -> None:
        """`classes` is their entry of run.json, `preset` as of `run`; for `masked` see `Inverter`.

        Raises:
            LsapError: configuration, generator and encoder do not fit together.
        """
        G = with_class_means(G)
        self.G, self.generator_name, self.started, self.encoder = G, generator_name, started, encoder
        self.preset, self.classes = preset, classes
        G = G if encoder is None else with_encoder(G, encoder.encoder)
        self.inverter = Inverter(G, config, devices, masked=masked)

    @property
    def devices(self) -> Sequence[jax.Device]:
        return self.inverter.devices

    @property
    def batch_size(self) -> int:
        return self.inverter.batch_size

    def batches(self, count: int) -> Iterator[range]:
        return self.inverter.batches(count)

    def describe(self) -> dict[str, Any]:
        described = describe(self.G, self.inverter, self.generator_name, self.started)
        if self.preset is not None:
            described = {"preset": self.preset, **described}
        if self.encoder is not None:
            described["encoder"] = {"name": self.encoder.name, "sha256": sha256_of(self.encoder.encoder)}
        if self.classes is not None:
            described["classes"] = dict(self.classes)
        if self.inverter.layout.masked:
            described["masked"] = True
        return described

    def __call__(
        self,
        jobs: Sequence[Job | None],
        report: StepReport | None = None,
        flight: Path | None = None,
        stop: Stop = never,
    ) -> list[Outcome]:
        found = self.inverter(jobs, report, flight, stop)
        return [None if job is None else outcome(one) for job, one in zip(jobs, found, strict=True)]

    def flight_of(self, run: Path, jobs: Sequence[Job | None]) -> Path:
        return self.inverter.flight_of(run, jobs)

    @property
    def flow(self) -> Flow | None:
        return self._flow if self.inverter.config.converge.patience else None

    def _flow(self, jobs: Iterable[Job], report: StepReport, stop: Stop, /) -> Iterator[tuple[Job, Outcome]]:
        return ((job, outcome(found)) for job, found in flow(self.inverter, jobs, report, stop))

    def shipment(self) -> Shipment:
        G = self.G
        if (statistics := self.inverter.statistics) is not None:
            G = G.with_part("statistics", statistics)
        files = {key: file for judged in self.inverter.judges.values() for key, file in judged.files.items()}
        encoder = self.encoder and self.encoder._replace(encoder=jax.tree.map(np.asarray, self.encoder.encoder))
        return Shipment(
            cargo=packed(G, self.inverter.config, files), make=partial(_worker, encoder, self.inverter.layout.masked)
        )

    def explained(self, error: Exception) -> Exception:
        return explained(error, self.inverter)


def _worker(encoder: NamedEncoder | None, masked: bool, G: Generator, config: ConfigDict) -> InversionWorker:
    return InversionWorker(G, config, encoder=encoder, masked=masked)


def outcome(found: Inverted | None) -> Result | Failed:
    """An image's inversion as an outcome; None is one without a single finite step."""
    if found is None:
        return NOT_FINITE
    parts = {"codes": found.codes, "images": found.image, "curves": found.curve}
    return Result(parts=parts, metrics=found.metrics, flags=found.flags)


def describe(G: Generator, inverter: Inverter, generator_name: str, started: bool) -> dict[str, Any]:
    """run.json: everything that decides the results, and no times."""
    config = inverter.config
    loss = minimised(config)
    metrics: dict[str, dict[str, Any]] = {
        name: {**METRICS[name].description, "network": None, "also_loss": name == "mse" and name in loss}
        for name in ("mse", "psnr", "ssim")
    }
    judges = {name: made.judge for name, made in inverter.judges.items() if made.judge is not None}
    for name, judge in judges.items():
        metrics[column(judge)] = {
            "range": "[-1, 1], clipped",
            "quantisation": "none",
            "formula": judge.description,
            "network": judge.name,
            "also_loss": name in loss,
        }
    plain = config.to_dict()
    f_start = "encoder" if "basecode" in inverter.layout.seen_by else "w_avg"
    return {
        "config": plain,
        "space": inverter.space.name,
        "base_resolution": inverter.space.base_resolution if inverter.space.has_base else None,
        "f_start": f_start if inverter.space.has_base else None,
        "steps": config.steps,
        "seed": config.seed,
        "batch_size": inverter.batch_size,
        "devices": [str(device) for device in inverter.devices],
        "versions": versions(),
        "generator": {"name": generator_name, "sha256": G.sha256, "img_resolution": G.img_resolution},
        **{name: dict(made.record) for name, made in inverter.judges.items()},
        "metrics": metrics,
        "start": "given codes" if started else None,
        "statistics": None if inverter.statistics is None else describe_statistics(inverter.statistics),
    }


def describe_statistics(statistics: LatentStatistics | ByClass) -> dict[str, Any]:
    """What results record about latent statistics; where there are several classes, they have a first axis for them."""
    statistics = statistics.values if isinstance(statistics, ByClass) else statistics
    counts = {"samples": statistics.samples, "anchor_samples": statistics.anchor_samples}
    return {**counts, "sha256": digest(to_arrays(statistics))}
