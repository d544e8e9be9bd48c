"""The editing protocol over runs: the codes of every run are moved along the same directions, measured, and kept."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from lsap_jax.configuration import recorded
from lsap_jax.editing.direction import Direction, described
from lsap_jax.editing.named import find
from lsap_jax.editing.series import file_name
from lsap_jax.errors import LsapError
from lsap_jax.experiments.edit_quality import consistency
from lsap_jax.experiments.edit_quality.folder import GENUINE, kept_measures, write_measures, write_quality
from lsap_jax.experiments.edit_quality.quality import (
    PUBLISHED_SPACES,
    Judges,
    Measured,
    as_published,
    genuine_logits,
    measure_edits,
)
from lsap_jax.experiments.edit_quality.real_images import distances
from lsap_jax.models.generator import Generator
from lsap_jax.rendering.refinement import read_refinement
from lsap_jax.rendering.render import space_of
from lsap_jax.spaces import Space
from lsap_jax.spaces.statistics import Report, with_statistics
from lsap_jax.storage import atomic
from lsap_jax.storage.results import Record, mapping, read_code, read_image, read_manifest, read_run

FORMULAS = 1  # raised whenever a measure comes out otherwise than before
VARIANTS = ("fair", "published")


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run whose codes are edited.

    Attributes:
        name: for tables; unique.
        folder: of the run.
        G: its generator, with what its space needs.
        record, manifest: run.json and manifest.jsonl.
    """

    name: str
    folder: Path
    G: Generator
    record: Record
    manifest: Mapping[str, Record]

    @property
    def space(self) -> Space:
        return space_of(self.record, self.G)


def open_runs(folders: Sequence[tuple[str, Path]], generator: Callable[[Path, Record], Generator]) -> list[Run]:
    """Runs by (name, folder); runs that were made with the same generator share its weights.

    Args:
        generator: loads the generator of a run, given its folder and run.json.

    Raises:
        LsapError: not a run folder, two runs of one name, runs of different generators, or what `common_ids` raises.
    """
    runs: list[Run] = []
    generators: dict[str, Generator] = {}
    for name, folder in folders:
        record = read_run(folder)
        made = [record.get("generator"), mapping(record.get("config")).get("init"), record.get("classes")]
        made += [mapping(record.get("refinement")).get("weights_sha256")]
        key = json.dumps(made, sort_keys=True)
        if key not in generators:
            generators[key] = generator(folder, record)
        run = Run(name=name, folder=folder, G=generators[key], record=record, manifest=read_manifest(folder))
        if any(run.name == other.name for other in runs):
            raise LsapError(f"{folder}: two runs are called {name!r}; rename a folder")
        if runs and record["generator"]["sha256"] != runs[0].record["generator"]["sha256"]:
            raise LsapError(
                f"{folder}: was made with another generator than {runs[0].folder}; compare runs of one generator"
            )
        runs.append(run)
    common_ids(runs)  # before anything that takes time
    return runs


def common_ids(runs: Sequence[Run]) -> list[str]:
    """Images that every run has finished, sorted.

    Raises:
        LsapError: no image is finished in all runs, or an id stands for different pictures in two runs.
    """
    ids = set.intersection(*(set(run.manifest) for run in runs))
    if not ids:
        raise LsapError(f"{', '.join(str(run.folder) for run in runs)}: no image is finished in all of them")
    for id in sorted(ids):
        for run in runs[1:]:
            if not _same_target(runs[0], run, id):
                raise LsapError(
                    f"{run.folder}: {id!r} is not the same picture as in {runs[0].folder}; compare runs of the same "
                    "images"
                )
    return sorted(ids)


def common_directions(
    runs: Sequence[Run], texts: Sequence[str], counter: Callable[[str], Report | None] = lambda what: None
) -> dict[str, list[Direction]]:
    """The directions that texts name (`lsap_jax.editing.named.find`), by name of the run.

    Args:
        counter: from a direction's text to a report, called with (samples done, samples in all) where it must be found.

    Raises:
        LsapError: a direction is not there for the space of a run, or a text means other directions there.
    """
    directions = {one.name: [d for text in texts for d in find(one.G, one.space, text, counter(text))] for one in runs}
    names = {name: [d.name for d in some] for name, some in directions.items()}
    if len({tuple(n) for n in names.values()}) > 1:
        raise LsapError(f"the directions of the runs differ ({names}); name directions that all of their spaces have")
    return directions


def measure_runs(
    out: Path,
    runs: Sequence[Run],
    directions: Mapping[str, Sequence[Direction]],
    judges: Judges,
    judged: Mapping[str, Any],
    settings: Mapping[str, Any],
    teller: Callable[[str], Callable[[int, int], None]] = lambda name: lambda done, total: None,
) -> Record:
    """Measures the edits of every run in every variant, or finishes the folder that is there.

    Args:
        out: whose lock the caller holds (`writing`).
        directions: by name of the run.
        judged: description of the judges for quality.json; if it has changed, everything is measured again.
        settings: of configs/edit_quality.py.
        teller: from the name of an entry to what is called with (edits done, edits in all).

    Returns:
        The contents of quality.json.

    Raises:
        LsapError: nothing to measure, two things of one name, different pictures of one id, a code that has changed,
            or what `measure_edits` raises.
    """
    ids = common_ids(runs)
    names = entry_names(runs, settings["variants"])
    for role in ("candidate", "baseline"):
        if settings[role] and settings[role] not in names:
            raise LsapError(f"{role} {settings[role]!r}: is not among what is measured: {', '.join(names)}")
    plan = [(run, variant) for run in runs for variant in variants_of(run, settings["variants"])]
    entries = [_entry(run, variant, directions[run.name]) for run, variant in plan]
    _refuse_alike("entries", names)
    _refuse_alike("files of measures", (entry["file"].casefold() for entry in entries))  # A is a to some file systems
    for run in runs:
        _refuse_alike("directions", (one.name for one in directions[run.name]))
    for (run, variant), entry in zip(plan, entries, strict=True):
        file = out / entry["file"]
        lec = _has_lec(run, variant, settings)
        cycle = lec and consistency.refined_again(run.record, settings["lec_steps"])
        again = {"lec": run.record.get("encoder")} if lec else {}
        again |= {"cycle": run.record.get("refinement")} if cycle else {}
        entry["key"] = _key(ids, run, entry, judged, settings, judges.identity is not None, again)
        kept = kept_measures(file, entry["key"])
        shown, tell = ids[: settings["shown"]], teller(f"edits of {entry['name']}")
        if kept is None:
            found = _measure(run, ids, directions[run.name], judges, variant, settings, tell, lec, cycle)
            arrays = {**found.arrays, "pictures": found.pictures}
        elif kept["pictures"].shape[2] < len(shown):
            sides = replace(judges, identity=None, real=None)
            found = _measure(run, shown, directions[run.name], sides, variant, settings, tell)
            arrays = {**kept, "pictures": found.pictures}
        else:
            continue
        write_measures(file, arrays, entry["key"])
    record = {
        "config": dict(settings),
        "entries": entries,
        "ids": ids,
        "unfinished": {run.name: len(run.manifest) - len(ids) for run in runs if len(run.manifest) > len(ids)},
        "generator": runs[0].record["generator"],
        "genuine": _genuine(out, runs[0]),
        **judged,
    }
    return write_quality(out, record)


def variants_of(run: Run, variants: Sequence[str]) -> list[str]:
    """The variants that differ for this run: only w+ and f/w+ have the asymmetries."""
    return [variant for variant in variants if variant == "fair" or run.space.name in PUBLISHED_SPACES]


def entry_name(run: Run, variant: str) -> str:
    """What tables call a run in a variant."""
    return run.name if variant == "fair" else f"{run.name} {variant}"


def entry_names(runs: Sequence[Run], variants: Sequence[str]) -> list[str]:
    """Names of all that is measured.

    Raises:
        LsapError: nothing is left to measure.
    """
    names = [entry_name(run, variant) for run in runs for variant in variants_of(run, variants)]
    if not names:
        raise LsapError(f"variants {', '.join(variants)}: only {' and '.join(PUBLISHED_SPACES)} have these; add fair")
    return names


def _entry(run: Run, variant: str, directions: Sequence[Direction]) -> Record:
    edited = as_published(run.G, run.space)
    truncation = {"psi": edited.truncation_psi, "rows": edited.truncation_cutoff}
    return {
        "name": entry_name(run, variant),
        "variant": variant,
        **({"truncation": truncation} if variant == "published" else {}),
        "run": run.name,
        "space": run.space.name,
        "prior": recorded(run.record["config"]).loss.pn > 0,
        "directions": [described(d) for d in directions],
        "file": f"measures/{file_name(run.name)}.{variant}.npz",
    }


def _measure(
    run: Run,
    ids: Sequence[str],
    directions: Sequence[Direction],
    judges: Judges,
    variant: str,
    settings: Mapping[str, Any],
    tell: Callable[[int, int], None],
    lec: bool = False,
    cycle: bool = False,
) -> Measured:
    """`measure_edits`, one batch of images after the other, since the codes of all of them may not fit into memory."""
    G, size, edits = with_statistics(run.G), settings["batch_size"], len(directions) * len(settings["strengths"])
    inverter = consistency.inverter_of(run.G, run.record, size) if lec else None
    refiner = consistency.refiner_of(run.G, run.space, run.record, size) if cycle else None
    parts = []
    for start in range(0, len(ids), size):
        some = ids[start : start + size]
        codes = [read_code(run.folder, id, manifest=run.manifest) for id in some]
        c = np.stack([code["c"] for code in codes]) if run.space.has_class else None
        parts.append(
            measure_edits(
                G,
                run.space,
                {key: np.stack([code[key] for code in codes]) for key in run.space.keys},
                directions,
                settings["strengths"],
                judges,
                refinements=[read_refinement(run.folder, id, run.manifest) for id in some],
                faces=_faces(run, some, judges),
                toggle=settings["toggle"],
                published=variant == "published",
                again=None if inverter is None else consistency.again_by(inverter, some, c),
                refined=consistency.refined_by(refiner, some) if cycle else None,
                batch_size=size,
                shown=max(settings["shown"] - start, 0),
                tell=partial(_tell_of_all, tell, start * edits, len(ids) * edits),
            )
        )
    arrays = {name: np.concatenate([part.arrays[name] for part in parts], axis=2) for name in parts[0].arrays}
    return Measured(
        arrays=distances(arrays, judges.real, [one.name for one in directions]),
        pictures=np.concatenate([part.pictures for part in parts], axis=2),
    )


def _has_lec(run: Run, variant: str, settings: Mapping[str, Any]) -> bool:
    """Whether pictures are inverted again; the published scripts' edits cannot be taken back."""
    return variant == "fair" and consistency.comes_again(run.record, run.space, settings["lec_steps"])


def _tell_of_all(tell: Callable[[int, int], None], before: int, total: int, done: int, of: int) -> None:
    tell(before + done, total)


def _faces(run: Run, ids: Sequence[str], judges: Judges) -> np.ndarray | None:
    """[N, D] embeddings of the targets, NaN where there is no face."""
    if judges.identity is None:
        return None
    return judges.identity.faces([read_image(run.folder, id, "targets", manifest=run.manifest) for id in ids])


def _same_target(a: Run, b: Run, id: str) -> bool:
    """Whether an id's targets have the same pixels; equal ones may be compressed otherwise."""
    digest, other_digest = (run.manifest[id]["sha256"].get("targets") for run in (a, b))
    if digest is not None and digest == other_digest:
        return True
    one, other = (read_image(run.folder, id, "targets", manifest=run.manifest) for run in (a, b))
    return np.array_equal(one, other)


def _key(
    ids: Sequence[str],
    run: Run,
    entry: Record,
    judged: Mapping[str, Any],
    settings: Mapping[str, Any],
    with_targets: bool,
    again: Mapping[str, Any] = MappingProxyType({}),
) -> str:
    """SHA-256 of all that the measures depend on; they do not depend on how many images have pictures. `again` is what
    inverts pictures again, empty where nothing does.
    """
    parts = ("codes", "targets", "refined") if with_targets else ("codes", "refined")
    digests = [run.manifest[id]["sha256"] for id in ids]
    codes = [one[part] for one in digests for part in parts if part != "refined" or part in one]
    kept = {**{name: settings[name] for name in ("strengths", "toggle")}, **again}
    made = [run.record["generator"]["sha256"], run.record["config"]]
    return _sha256([FORMULAS, ids, codes, made, entry, dict(judged), kept])


def _sha256(parts: Sequence[Any]) -> str:
    return atomic.sha256(json.dumps(parts, sort_keys=True).encode())


def _genuine(out: Path, run: Run) -> dict[str, float]:
    """Scores of the generator's own samples: mean and deviation of the logit; NSCD is given relative to theirs."""
    if run.G.discriminator is None:
        return {"nscd": 0.0}
    made = [run.record["generator"]["sha256"], *run.record.get("classes", {}).values()]
    file, key = out / GENUINE, _sha256([FORMULAS, *made])
    kept = kept_measures(file, key)
    if kept is None:
        kept = {"logits": genuine_logits(run.G)}
        write_measures(file, kept, key)
    return {"nscd": 0.0, "logit": float(kept["logits"].mean()), "logit_deviation": float(kept["logits"].std())}


def _refuse_alike(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise LsapError(f"two {what} are called {name!r}; give each a name of its own")
        seen.add(name)
