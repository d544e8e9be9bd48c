"""The editing protocol over runs: every run's codes along the same directions, measured and kept in a folder.

quality.json       what was measured, with what; no times
measures/NAME.npz  measure -> [D, S, N], and pictures of a few images
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lsap_jax.editing.direction import Direction, described
from lsap_jax.editing.quality import Judges, Measured, genuine_logits, measure_edits
from lsap_jax.editing.series import file_name
from lsap_jax.errors import LsapError
from lsap_jax.generator import Generator
from lsap_jax.inversion import atomic
from lsap_jax.inversion.encoding import arrays_from_npz, npz_bytes
from lsap_jax.inversion.rendering import space_of
from lsap_jax.inversion.results import Record, read_code, read_image, read_manifest, read_run
from lsap_jax.metrics.identity import face_embeddings
from lsap_jax.spaces import Space

FORMAT = "lsap_jax edit quality 1"
VARIANTS = ("fair", "published")
RECORD = "quality.json"


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
    """Runs by (name, folder).

    Raises:
        LsapError: not a run folder, two runs of one name, or runs of different generators.
    """
    runs: list[Run] = []
    for name, folder in folders:
        record = read_run(folder)
        run = Run(name=name, folder=folder, G=generator(folder, record), record=record, manifest=read_manifest(folder))
        if any(run.name == other.name for other in runs):
            raise LsapError(f"{folder}: two runs are called {name!r}; rename a folder")
        if runs and record["generator"]["sha256"] != runs[0].record["generator"]["sha256"]:
            raise LsapError(f"{folder}: is of another generator than {runs[0].folder}; compare runs of one generator")
        runs.append(run)
    return runs


def common_ids(runs: Sequence[Run]) -> list[str]:
    """Images that every run has finished, sorted.

    Raises:
        LsapError: there are none.
    """
    ids = set.intersection(*(set(run.manifest) for run in runs))
    if not ids:
        raise LsapError(f"{', '.join(str(run.folder) for run in runs)}: no image is finished in all of them")
    return sorted(ids)


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
        directions: by name of the run.
        judged: what quality.json says of the judges; where it has changed, everything is measured anew.
        settings: of configs/edit_quality.py.
        teller: from the name of an entry to what is called with (edits done, edits in all).

    Returns:
        The contents of quality.json.

    Raises:
        LsapError: another folder's contents, nothing to measure, a code that has changed, or what `measure_edits`
            raises.
    """
    _refuse_foreign(out)
    ids = common_ids(runs)
    names = entry_names(runs, settings["variants"])
    for role in ("candidate", "baseline"):
        if settings[role] and settings[role] not in names:
            raise LsapError(f"{role} {settings[role]!r}: is none of what is measured, {', '.join(names)}")
    entries = []
    for run in runs:
        for variant in variants_of(run, settings["variants"]):
            name = entry_name(run, variant)
            entry = _entry(name, variant, run, directions[run.name])
            file = out / entry["file"]
            key = _key(ids, run, entry, judged, settings, judges.embedder is not None)
            if not _kept(file, key):
                found = _measure(run, ids, directions[run.name], judges, variant, settings, teller(f"edits of {name}"))
                arrays = {
                    **found.arrays,
                    "pictures": found.pictures,
                    "key": np.frombuffer(bytes.fromhex(key), np.uint8),
                }
                atomic.write_files({file: npz_bytes(arrays)})
            entries.append(entry)
    record = {
        "format": FORMAT,
        "config": dict(settings),
        "entries": entries,
        "ids": ids,
        "unfinished": {run.name: len(run.manifest) - len(ids) for run in runs if len(run.manifest) > len(ids)},
        "generator": runs[0].record["generator"],
        "genuine": _genuine(runs[0].G),
        **judged,
    }
    atomic.write_files({out / RECORD: (json.dumps(record, indent=2, allow_nan=False) + "\n").encode()})
    return record


def variants_of(run: Run, variants: Sequence[str]) -> list[str]:
    """The variants that differ for this run: z spaces have none of the asymmetries."""
    return [variant for variant in variants if variant == "fair" or run.space.detail.key == "w"]


def entry_name(run: Run, variant: str) -> str:
    """What tables call a run in a variant."""
    return run.name if variant == "fair" else f"{run.name} {variant}"


def entry_names(runs: Sequence[Run], variants: Sequence[str]) -> list[str]:
    """Names of all that is measured.

    Raises:
        LsapError: nothing is.
    """
    names = [entry_name(run, variant) for run in runs for variant in variants_of(run, variants)]
    if not names:
        raise LsapError(f"variants {', '.join(variants)}: z spaces have none of these; add fair")
    return names


def read_quality(out: str | Path) -> Record:
    """Contents of quality.json.

    Raises:
        LsapError: it is none.
    """
    file = Path(out) / RECORD
    try:
        record = json.loads(file.read_bytes())
    except OSError as error:
        raise LsapError(f"{file}: cannot be read ({error.strerror}); is this a folder of edit-quality?") from None
    except ValueError:
        raise LsapError(f"{file}: is damaged; run its `lsap-jax edit-quality` command again") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise LsapError(f"{file}: is not of format {FORMAT!r}")
    return record


def read_measures(out: str | Path, entry: Record) -> dict[str, np.ndarray]:
    """Measure -> [D, S, N] of an entry of quality.json, and "pictures".

    Raises:
        LsapError: the file is missing or damaged.
    """
    file = Path(out) / entry["file"]
    try:
        return {name: a for name, a in arrays_from_npz(file.read_bytes()).items() if name != "key"}
    except (OSError, ValueError) as error:
        raise LsapError(f"{file}: cannot be read ({error}); delete it and run the command again") from None


def _entry(name: str, variant: str, run: Run, directions: Sequence[Direction]) -> Record:
    return {
        "name": name,
        "variant": variant,
        "run": run.name,
        "space": run.space.name,
        "prior": float(run.record["config"]["loss"].get("pn", 0)) > 0,
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
) -> Measured:
    codes = [read_code(run.folder, id, manifest=run.manifest) for id in ids]
    return measure_edits(
        run.G,
        run.space,
        {key: np.stack([code[key] for code in codes]) for key in run.space.keys},
        directions,
        settings["strengths"],
        judges,
        faces=_faces(run, ids, judges, settings["batch_size"]),
        toggle=settings["toggle"],
        published=variant == "published",
        batch_size=settings["batch_size"],
        shown=settings["shown"],
        tell=tell,
    )


def _faces(run: Run, ids: Sequence[str], judges: Judges, batch_size: int) -> np.ndarray | None:
    """[N, 512] embeddings of the targets, NaN where there is no face."""
    if judges.embedder is None:
        return None
    found = []
    for start in range(0, len(ids), batch_size):
        some = [read_image(run.folder, id, "targets", manifest=run.manifest) for id in ids[start : start + batch_size]]
        found.append(face_embeddings(judges.embedder, judges.detector, some)[0])
    return np.concatenate(found)


def _key(
    ids: Sequence[str],
    run: Run,
    entry: Record,
    judged: Mapping[str, Any],
    settings: Mapping[str, Any],
    with_targets: bool,
) -> str:
    """SHA-256 of all that the measures depend on."""
    parts = ("codes", "targets") if with_targets else ("codes",)
    codes = [run.manifest[id]["sha256"][part] for id in ids for part in parts]
    kept = {name: settings[name] for name in ("strengths", "toggle", "shown", "detect")}
    return atomic.sha256(
        json.dumps([ids, codes, run.record["config"], entry, dict(judged), kept], sort_keys=True).encode()
    )


def _kept(file: Path, key: str) -> bool:
    """Whether the file holds what would be measured."""
    try:
        return arrays_from_npz(file.read_bytes())["key"].tobytes().hex() == key
    except (OSError, KeyError, ValueError):
        return False


def _genuine(G: Generator) -> dict[str, float]:
    """What the generator's own samples score: mean and deviation of the logit; NSCD is told as what exceeds theirs."""
    found = {"nscd": 0.0}
    if G.discriminator is not None:
        logits = genuine_logits(G)
        found |= {"logit": float(logits.mean()), "logit_deviation": float(logits.std())}
    return found


def _refuse_foreign(out: Path) -> None:
    names = {p.name for p in out.iterdir() if not atomic.is_temporary(p.name)} if out.is_dir() else set()
    if out.exists() and not out.is_dir():
        raise LsapError(f"{out}: is a file; choose a folder")
    if names and not names & {RECORD, "measures"}:
        raise LsapError(f"{out}: holds {sorted(names)[0]!r} but no {RECORD}; choose another folder")
