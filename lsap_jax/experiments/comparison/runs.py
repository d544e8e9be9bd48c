"""The runs of a comparison: its folder, one inversion after the other, and how long each took.

    comparison.json   what is compared: configuration, presets, ids, generator, versions; no times
    times.json        seconds per preset, over all sessions
    PRESET/           a run folder each, as `lsap-jax invert` leaves it, with its report

`write` adds the tables and the page.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from lsap_jax.configuration import filled
from lsap_jax.data import ImageError, Source
from lsap_jax.errors import LsapError
from lsap_jax.experiments.comparison.cells import refine_cell
from lsap_jax.experiments.comparison.plan import Plan, label
from lsap_jax.inversion.inverter import versions
from lsap_jax.models.generator import Generator
from lsap_jax.runs.classes import Labels, describe_classes, used_for
from lsap_jax.runs.evaluate_run import evaluate_run
from lsap_jax.runs.generators import attached, prepared, with_weights
from lsap_jax.runs.run import NamedEncoder, run
from lsap_jax.runs.saving import Progress
from lsap_jax.runs.shipping import sha256_of
from lsap_jax.runs.work import Summary
from lsap_jax.spaces.statistics import Report, with_statistics
from lsap_jax.storage import atomic, matching
from lsap_jax.storage.checked_json import sealed
from lsap_jax.storage.inside import inside
from lsap_jax.storage.metrics_table import table_bytes
from lsap_jax.storage.results import Record, mapping, read_evaluation, read_failures, read_manifest, read_run
from lsap_jax.storage.run_folder import RUNS

LAYOUT = matching.Layout("comparison.json", "lsap_jax comparison 2", "comparison")
FIELDS: matching.Fields = {"presets": list, "presets.*.preset": str, "presets.*.folder": str}
ABOUT = {
    "images": "finished in the sessions that were timed",
    "seconds": "until the last of these images was saved; compilation, loading and saving included",
    "stepping_seconds": "of the chunks of steps after the first of a batch: no compilation, no loading, no saving",
    "image_steps": "steps in these chunks times the images of a batch",
    "steps": "of one image",
    "later_images": "finished after the first ones of a session",
    "later_seconds": "from the first images saved in a session to the last: no compilation",
}


@dataclass(frozen=True, kw_only=True)
class Times:
    """How long a preset took, over all sessions; `ABOUT` says what each number is."""

    images: int = 0
    seconds: float = 0.0
    stepping_seconds: float = 0.0
    image_steps: int = 0
    steps: int = 0
    later_images: int = 0
    later_seconds: float = 0.0

    @property
    def per_image(self) -> float | None:
        """Seconds per image, compilation included; None where no image was timed."""
        return self.seconds / self.images if self.images else None

    @property
    def stepping_per_image(self) -> float | None:
        """Seconds per image of the steps alone, in a full batch; None where a batch was a single chunk of steps."""
        return self.stepping_seconds / self.image_steps * self.steps if self.image_steps else None

    @property
    def compiled_per_image(self) -> float | None:
        """Seconds per image when all is compiled: of the steps, where these were timed, else from the first batch that
        was saved to the last, loading and saving included; None where there was a single batch.
        """
        later = self.later_seconds / self.later_images if self.later_images else None
        return later if self.stepping_per_image is None else self.stepping_per_image


def describe(config: ConfigDict, plans: Sequence[Plan], source: Source, G: Generator, generator_name: str) -> Record:
    """comparison.json: what is compared, and no times."""
    import PIL
    import scipy

    settings = config.to_dict()
    settings["test"] |= {name: label(settings["test"][name]) for name in ("candidate", "baseline")}
    return {
        "format": LAYOUT.format,
        "config": settings,
        "presets": [
            {"preset": plan.preset, "folder": plan.folder, **({"first": plan.first} if plan.first else {})}
            for plan in plans
        ],
        "ids": list(source.ids),
        "generator": {"name": generator_name, "sha256": G.sha256, "img_resolution": G.img_resolution},
        "versions": {**versions(), "scipy": scipy.__version__, "pillow": PIL.__version__},
    }


@contextmanager
def comparison_folder(out: Path, record: Record) -> Iterator[None]:
    """Starts or resumes a comparison in a folder and holds its lock meanwhile. Each run in it checks for itself that it
    is resumed as it was started, so that presets and images may be added.

    Raises:
        LsapError: the folder holds something else, another process works there, or it cannot be written.
    """
    with matching.claimed(out, LAYOUT, record, matching.Rule(deciding=())):
        yield


def write_record(out: Path, record: Record) -> None:
    """Writes comparison.json: at the first start, and again when all runs are over, since only then it is true of a
    comparison that was extended.
    """
    atomic.write_files({out / LAYOUT.file: sealed(record)})


def read_comparison(out: Path) -> Record:
    """Contents of comparison.json.

    Raises:
        LsapError: it is not the folder of a comparison, or a later version's, or names a run outside the folder.
    """
    record = matching.read_record(out, LAYOUT)
    matching.check_fields(out / LAYOUT.file, record, FIELDS)
    for one in record["presets"]:
        inside(out, one["folder"])
    return record


def run_preset(
    G: Generator,
    source: Source,
    plan: Plan,
    out: Path,
    *,
    generator_name: str,
    write_report: Callable[[Path], object],
    evaluate: bool = False,
    sets: bool = False,
    progress: Callable[[Progress], None] | None = None,
    statistics: Report | None = None,
    classes: Labels | None = None,
) -> Summary:
    """The run of one preset, or its refinement: begun, resumed, or left as it is where nothing is left to do; and its
    report.

    Args:
        G: the generator, without the files that the preset's configuration names.
        write_report: writes report.html of a run folder.
        evaluate: add the columns of `lsap-jax evaluate` to its metrics.csv where they are missing.
        sets: measure the distance between the sets of reconstructions and targets, too.
        progress: called with where the run stands.
        statistics: called with (samples done, samples in all) while latent statistics are computed.
        classes: labels by id, which a conditional generator needs.

    Raises:
        LsapError: see `lsap_jax.runs.work.work`.
    """
    folder = out / plan.folder
    G = with_weights(attached(used_for(G, classes), plan.config.init, statistics), plan.weights or None)
    G = with_statistics(G, statistics) if evaluate else prepared(G, plan.config, statistics)
    encoder, told = plan.loaded(), None if classes is None else describe_classes(classes)
    summary = None if plan.method else finished(G, source, plan, folder, told, encoder)
    if summary is None:
        watch = Stopwatch(out, plan, len(source), fresh=not (folder / "run.json").exists())

        def listen(p: Progress) -> None:
            watch(p)
            if progress is not None:
                progress(p)

        options: dict[str, Any] = {"generator_name": generator_name, "classes": classes, "encoder": encoder}
        options["preset"] = plan.preset
        if plan.method:
            summary = refine_cell(G, plan, out, progress=listen)
        else:
            summary = run(G, source, plan.config, folder, progress=listen, **options)
    if evaluate and summary.done and not evaluated(folder, G, sets):
        evaluate_run(G, folder, batch_size=plan.config.batch_size, sets=sets)
    report = folder / "report.html"
    if not report.exists() or report.stat().st_mtime_ns < (folder / "metrics.csv").stat().st_mtime_ns:
        write_report(folder)
    return summary


def finished(
    G: Generator,
    source: Source,
    plan: Plan,
    folder: Path,
    classes: Mapping[str, Any] | None = None,
    encoder: NamedEncoder | None = None,
) -> Summary | None:
    """The summary of a run that has nothing left to do, read from its files without preparing the inversion.

    None otherwise, also for a run with other settings: the attempt to resume it names the difference. The batch of an
    image that could not be read is not computed again if the image still cannot be read.
    """
    if not (folder / "run.json").exists() or not (folder / "metrics.csv").exists():
        return None
    record, manifest, failures = read_run(folder), read_manifest(folder), read_failures(folder)
    if _settings(filled(record.get("config", {}))) != _settings(json.loads(json.dumps(plan.config.to_dict()))):
        return None
    if record.get("generator", {}).get("sha256") != G.sha256 or record.get("classes") != classes:
        return None
    own = None if encoder is None else sha256_of(encoder.encoder)
    if mapping(record.get("encoder")).get("sha256") != own:
        return None
    try:
        table = table_bytes(folder) or b""
    except LsapError:  # it has changed, and the run writes it again
        return None
    if table.count(b"\n") != len(manifest) + 1:  # killed before the table was updated
        return None
    missing = [i for i, name in enumerate(source.ids) if name not in manifest]
    if any(source.ids[i] not in failures or not _unreadable(source, i) for i in missing):
        return None
    done = len(source) - len(missing)
    return Summary(done=done, failed=len(missing), skipped=done, out=folder)


def evaluated(folder: Path, G: Generator, sets: bool = False) -> bool:
    """Whether metrics.csv and evaluation.json have what `evaluate_run` adds, of all images that are finished."""
    heads = (table_bytes(folder) or b"").split(b"\n", 1)[0].split(b",")
    if b"nscd" not in heads or (G.discriminator is not None and b"logit" not in heads):
        return False
    record = read_evaluation(folder)
    done = len(read_manifest(folder))
    return record.get("images") == done and (bool(record.get("set")) or not sets or done < 3)


class Stopwatch:
    """Listens to a run and keeps times.json, which is written whenever images were finished. What an interrupted batch
    took is not counted.
    """

    def __init__(self, out: Path, plan: Plan, images: int, *, fresh: bool) -> None:
        """fresh: forget the times of an earlier run of this preset."""
        self.out, self.preset = out, plan.preset
        self.batch = min(plan.config.batch_size, images)
        kept = Times() if fresh else read_times(out).get(plan.preset, Times())
        self.times = replace(kept, steps=0 if plan.method else plan.config.steps)  # refiners count images alone
        self.earlier = self.times.seconds
        self.started = self.last = time.monotonic()
        self.done: int | None = None
        self.saved: float | None = None  # when images of this session were saved last
        self.step = 0

    def __call__(self, p: Progress) -> None:
        now = time.monotonic()
        if self.done is None:
            self.done = p.done
        elif p.step > self.step and self.times.steps:  # a later chunk of a batch; the first one waits for the compiler
            self.times = replace(
                self.times,
                stepping_seconds=self.times.stepping_seconds + now - self.last,
                image_steps=self.times.image_steps + (p.step - self.step) * self.batch,
            )
        self.step, self.last = p.step, now
        if p.done > self.done:
            if self.saved is not None:
                self.times = replace(
                    self.times,
                    later_images=self.times.later_images + p.done - self.done,
                    later_seconds=self.times.later_seconds + now - self.saved,
                )
            self.saved = now
            images, seconds = self.times.images + p.done - self.done, self.earlier + now - self.started
            self.times, self.done = replace(self.times, images=images, seconds=seconds), p.done
            write_times(self.out, {**read_times(self.out), self.preset: self.times})


def read_times(out: Path) -> dict[str, Times]:
    """Times by preset, from times.json; empty if the file does not exist.

    Raises:
        LsapError: the file is damaged.
    """
    record = matching.read_beside(out, "times.json", LAYOUT)
    if record is None:
        return {}
    try:
        return {preset: Times(**values) for preset, values in record["presets"].items()}
    except (TypeError, KeyError, AttributeError):
        raise LsapError(
            f"{out / 'times.json'}: is damaged; delete it and go on without the times measured so far"
        ) from None


def write_times(out: Path, times: dict[str, Times]) -> None:
    """Writes times.json."""
    presets = {preset: asdict(one) for preset, one in times.items()}
    atomic.write_files({out / "times.json": sealed({"about": ABOUT, "presets": presets})})


def _settings(config: Record) -> Record:
    """A configuration without what may differ between the sessions of a run."""
    free = {key.removeprefix("config.") for key in RUNS.rule.free}
    return {key: value for key, value in config.items() if key not in free}


def _unreadable(source: Source, index: int) -> bool:
    try:
        source.load(index)
    except ImageError:
        return True
    return False
