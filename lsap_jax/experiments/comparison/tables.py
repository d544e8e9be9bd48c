"""The numbers of a comparison: read from its run folders, summarised and tested."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lsap_jax.errors import LsapError
from lsap_jax.experiments.comparison.runs import LAYOUT, Times, read_comparison, read_times
from lsap_jax.metrics.identity_columns import COLUMNS, SIMILARITIES
from lsap_jax.metrics.kid import few
from lsap_jax.metrics.significance import Interval, NonInferiority, bootstrap_interval, non_inferiority
from lsap_jax.storage.matching import Fields, check_fields
from lsap_jax.storage.metrics_table import read_metrics_table
from lsap_jax.storage.parts import file_of
from lsap_jax.storage.results import RUN, Record, mapping, read_evaluation, read_failures, read_manifest, read_run

FIRST = ("mse", "psnr", "ssim", "ssim01")
HIGHER_IS_BETTER = SIMILARITIES | {"psnr", "ssim", "ssim01", "ms_ssim", "face", "logit"}
NEITHER_IS_BETTER = frozenset({"nscd"})  # below the level of genuine samples, codes have collapsed towards the mean
LAYER = re.compile(r"nscd_\d+")  # columns that a table of presets has no room for
MARGINS = ("absolute", "relative")
# Numbers of all images of a run together, which evaluation.json has.
OF_SETS: Mapping[str, Callable[[Record], float | None]] = {
    "nscd_genuine": lambda evaluation: evaluation.get("nscd_of_genuine_samples"),
    "kid": lambda evaluation: mapping(evaluation.get("set")).get("kid"),
    "kid_stderr": lambda evaluation: mapping(evaluation.get("set")).get("kid_stderr"),
}
BYTES = "bytes_per_image"  # of codes and refinement, where a comparison has refined runs
FIELDS: Fields = {  # of comparison.json
    **{"ids": list, "ids.*": str, "config": dict, "config.grid": int, "config.test": dict},
    **{"config.test.candidate": str, "config.test.baseline": str, "config.test.level": float},
    **{f"config.test.{margin}": (int, float) for margin in MARGINS},
}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What one preset came to.

    Attributes:
        preset, folder: its name and its run folder's.
        first: run folder of what it refines; "" where it refines nothing.
        run: contents of run.json.
        metrics: of the finished images that are compared, by id; with what `lsap-jax evaluate` added.
        manifest: the records of these images, by id.
        described: what each metric is, by name.
        sets: number of `OF_SETS`, or `BYTES` -> its value, of those that were measured, over all images of the run.
        failed: ids of those that could not be done.
        times: None where none of its images was timed.
    """

    preset: str
    folder: str
    run: Record
    metrics: Mapping[str, Mapping[str, float]]
    manifest: Mapping[str, Record]
    described: Mapping[str, Mapping[str, Any]]
    sets: Mapping[str, float]
    failed: tuple[str, ...]
    times: Times | None
    first: str = ""


@dataclass(frozen=True, kw_only=True)
class Test:
    """One non-inferiority test; `margin` is "absolute" or "relative", the number is in `outcome`."""

    metric: str
    margin: str
    higher_is_better: bool
    means: tuple[float, float]
    outcome: NonInferiority

    def passed(self, level: float) -> bool:
        """Whether both p values are below the level."""
        return self.outcome.p_t < level and self.outcome.p_wilcoxon < level


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All numbers of a comparison.

    Attributes:
        record: contents of comparison.json.
        entries: in the order of the presets.
        ids: of all images, in order.
        common: ids that every preset finished (presets without a single image left aside); every mean and every test is
            over these, as far as all presets that have the metric have it of them.
        metrics: names, in order.
        distance: the metric that is a perceptual distance, if there is one.
        intervals: by preset and metric.
        tests: in the order of the metrics; if it is empty, `untested` says why.
    """

    record: Record
    entries: tuple[Entry, ...]
    ids: tuple[str, ...]
    common: tuple[str, ...]
    metrics: tuple[str, ...]
    distance: str | None
    intervals: Mapping[tuple[str, str], Interval]
    tests: tuple[Test, ...]
    untested: str


def read_all(out: Path, begun: bool = False) -> Comparison:
    """A comparison as its folder has it.

    Args:
        begun: leave out runs that have not begun, instead of refusing a comparison that lacks some.

    Raises:
        LsapError: not a comparison, a run is missing or damaged, or an id stands for different images in two runs.
    """
    record = read_comparison(out)
    check_fields(out / LAYOUT.file, record, FIELDS)
    ids, times = tuple(record["ids"]), read_times(out)
    entries = tuple(
        replace(_entry(out, one["preset"], one["folder"], ids, times), first=one.get("first", ""))
        for one in record["presets"]
        if not begun or (out / one["folder"] / RUN.file).is_file()
    )
    if any("refinement" in entry.run for entry in entries):
        entries = tuple(replace(entry, sets={**entry.sets, **_stored(out, entry)}) for entry in entries)
    some = [entry for entry in entries if entry.manifest]
    common = tuple(id for id in ids if some and all(id in entry.manifest for entry in some))
    _refuse_other_inputs(out, some, common)
    metrics = _metric_names(some)
    intervals = {}
    for metric in metrics:
        having = [entry for entry in some if any(metric in entry.metrics[id] for id in common)]
        # Identity needs a face in the picture: a method that loses the hard faces must not be averaged over the others.
        shared = [id for id in common if all(metric in entry.metrics[id] for entry in having)]
        for entry in having if shared else ():
            values = np.array([entry.metrics[id][metric] for id in shared])
            intervals[entry.preset, metric] = bootstrap_interval(values)
    tests, untested = _tests(record["config"]["test"], entries, common, metrics)
    return Comparison(
        record=record,
        entries=entries,
        ids=ids,
        common=common,
        metrics=metrics,
        distance=_distance(some, metrics),
        intervals=intervals,
        tests=tests,
        untested=untested,
    )


def ranking(comparison: Comparison, metric: str = "mse") -> list[Entry]:
    """Presets that have the metric, the best mean first."""
    sign = -1 if metric in HIGHER_IS_BETTER else 1
    found = [entry for entry in comparison.entries if (entry.preset, metric) in comparison.intervals]
    return sorted(found, key=lambda entry: sign * comparison.intervals[entry.preset, metric].mean)


def best(comparison: Comparison, metric: str) -> set[str]:
    """Presets with the best mean of a metric; none where some preset lacks it or there is nothing to choose from."""
    order = ranking(comparison, metric)
    means = [comparison.intervals[entry.preset, metric].mean for entry in order]
    rivals = [entry for entry in comparison.entries if entry.manifest]
    if metric in NEITHER_IS_BETTER or len(order) < max(len(rivals), 2) or math.isnan(means[0]):
        return set()
    return {entry.preset for entry, mean in zip(order, means, strict=True) if mean == means[0]}


def set_names(comparison: Comparison) -> list[str]:
    """The numbers of `OF_SETS`, and `BYTES`, that some run has."""
    return [name for name in (*OF_SETS, BYTES) if any(name in entry.sets for entry in comparison.entries)]


def kid_note(entry: Entry) -> str:
    """What is said beside the KID of a run; "" where it has none, or enough images."""
    return few(len(entry.manifest)) if "kid" in entry.sets else ""


def published_metrics(source: Mapping[str, Any]) -> list[str]:
    """What a published table has numbers of; `columns` of the source are columns whose numbers are not known."""
    rows = mapping(source.get("rows")).values()
    return list(dict.fromkeys([*(source.get("columns") or ()), *(metric for row in rows for metric in row)]))


def published_means(comparison: Comparison, metric: str) -> dict[str, float]:
    """Published means of a metric by preset, from the first source that has the preset; not those of sources that say
    they are `elsewhere`, of another generator.
    """
    found: dict[str, float] = {}
    for source in mapping(comparison.record["config"].get("published")).values():
        for preset, values in mapping(source.get("rows")).items():
            if metric in values and not source.get("elsewhere"):
                found.setdefault(preset, float(np.mean(values[metric])))
    return found


def _entry(out: Path, preset: str, folder: str, ids: Sequence[str], times: Mapping[str, Times]) -> Entry:
    run, manifest, failures = (read(out / folder) for read in (read_run, read_manifest, read_failures))
    added, evaluation = read_metrics_table(out / folder), read_evaluation(out / folder)
    sets = {name: value for name, of in OF_SETS.items() if isinstance(value := of(evaluation), int | float)}
    return Entry(
        preset=preset,
        folder=folder,
        run=run,
        metrics={id: {**added.get(id, {}), **manifest[id]["metrics"]} for id in ids if id in manifest},
        manifest={id: manifest[id] for id in ids if id in manifest},
        described={**mapping(evaluation.get("metrics")), **mapping(run.get("metrics"))},
        sets=sets,
        failed=tuple(id for id in ids if id in failures),
        times=times.get(preset),
    )


def _stored(out: Path, entry: Entry) -> dict[str, float]:
    """Mean size of the files that hold an image's codes and refinement."""
    files = [
        out / entry.folder / file_of(id, part)
        for id, record in entry.manifest.items()
        for part in ("codes", "refined")
        if part in record["sha256"]
    ]
    return {BYTES: sum(file.stat().st_size for file in files) / len(entry.manifest)} if files else {}


def _refuse_other_inputs(out: Path, entries: Sequence[Entry], ids: Sequence[str]) -> None:
    for entry in entries:
        for id in ids:
            if not _same_picture(entry, entries[0], id):
                raise LsapError(
                    f"{out}: {id!r} is not the same picture in {entries[0].folder} and {entry.folder}, so they cannot "
                    "be compared; delete the folder that saw the wrong one and run the same command again"
                )


def _same_picture(a: Entry, b: Entry, id: str) -> bool:
    """Whether an id was made of the same input in both; that of a refined run is another run's code, so its targets
    are compared.
    """
    one, other = a.manifest[id], b.manifest[id]
    if "refinement" in {**a.run, **b.run}:
        return bool(one["sha256"].get("targets") == other["sha256"].get("targets"))
    return bool(one["input_sha256"] == other["input_sha256"])


def _metric_names(entries: Sequence[Entry]) -> tuple[str, ...]:
    found = {name: None for entry in entries for values in entry.metrics.values() for name in values}
    names = [name for name in found if not LAYER.fullmatch(name)]
    return tuple([*(name for name in FIRST if name in names), *(name for name in names if name not in FIRST)])


def _distance(entries: Sequence[Entry], metrics: Sequence[str]) -> str | None:
    """The first distance of pictures that a run computes with a network."""
    described = {name: about for entry in entries for name, about in entry.described.items()}
    pictured = (name for name in metrics if name not in COLUMNS)
    return next((name for name in pictured if mapping(described.get(name)).get("network")), None)


def _tests(
    settings: Mapping[str, Any], entries: Sequence[Entry], common: Sequence[str], metrics: Sequence[str]
) -> tuple[tuple[Test, ...], str]:
    """The tests, and a sentence that says why there are none ("" if there are some)."""
    by_name = {entry.preset: entry for entry in entries}
    names = settings["candidate"], settings["baseline"]
    absent = [name for name in names if name not in by_name]
    if absent:
        return (), f"no tests of {names[0]} against {names[1]}: {' and '.join(absent)} not among the presets"
    candidate, baseline = (by_name[name].metrics for name in names)
    tests = []
    for metric in (metric for metric in metrics if metric not in NEITHER_IS_BETTER):
        pairs = [
            (candidate[id].get(metric, math.nan), baseline[id].get(metric, math.nan))
            for id in common
            if id in candidate and id in baseline
        ]
        finite = np.array([pair for pair in pairs if np.isfinite(pair).all()])
        if not len(finite):
            continue
        higher, means = metric in HIGHER_IS_BETTER, (float(finite[:, 0].mean()), float(finite[:, 1].mean()))
        margins = (settings["absolute"], settings["relative"] * abs(means[1]))
        for kind, margin in zip(MARGINS, margins, strict=True):
            outcome = non_inferiority(finite[:, 0], finite[:, 1], margin, higher_is_better=higher)
            tests.append(Test(metric=metric, margin=kind, higher_is_better=higher, means=means, outcome=outcome))
    return tuple(tests), "" if tests else f"no tests of {names[0]} against {names[1]}: they share no finished image"
