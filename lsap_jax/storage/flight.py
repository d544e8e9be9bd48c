"""Saves batches under way when a process is asked to stop (SIGTERM of a scheduler that preempts), and resumes them.

    flight/DIGEST/state/       Orbax: codes, optimiser state, step counters and the curves so far
    flight/DIGEST/flight.json  written last: without it the flight is ignored

The digest identifies the batch, so the process that computes it next finds its flight.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lsap_jax.errors import LsapError
from lsap_jax.storage import atomic
from lsap_jax.storage.checked_json import parsed

FLIGHTS = "flight"
Curves = list[dict[str, Any]]


class Preempted(LsapError):
    """The process was asked to stop; finished images are saved, and the batch under way where it has a flight.

    Attributes:
        outcomes: of the batch under way, in the order of its jobs, where images of it are done; None for the others.
    """

    def __init__(self, message: str, outcomes: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.outcomes = outcomes


def flight_path(run: Path, batch: Mapping[str, Any]) -> Path:
    """Folder of the flight of a batch that these JSON values describe."""
    text = json.dumps(dict(batch), sort_keys=True)
    return run / FLIGHTS / hashlib.sha256(text.encode()).hexdigest()[:16]


def save_flight(path: Path, state: Any, curves: Curves) -> None:
    """Save a batch after `len(curves)` chunks: any pytree of arrays as its state, and each chunk's curves."""
    import orbax.checkpoint as ocp  # a sixth of a second that runs without a flight do not pay

    drop_flight(path)
    atomic.make_folder(path)
    arrays = {
        "state": {f"{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))},
        "curves": {f"{i}": {name: np.asarray(a) for name, a in curve.items()} for i, curve in enumerate(curves)},
    }
    with ocp.StandardCheckpointer() as saver:
        saver.save((path / "state").resolve(), arrays)
        saver.wait_until_finished()
    atomic.write_files({path / "flight.json": json.dumps(_digests(path / "state"), indent=1).encode()})


def load_flight(path: Path, like: Any) -> tuple[Any, Curves] | None:
    """(state, curves) of `save_flight`; the state is placed on the devices of `like`, the state of a fresh start.

    None if nothing was saved, or if it is damaged or of another shape: the batch is then computed from its start.
    """
    try:
        whole = parsed((path / "flight.json").read_bytes()) == _digests(path / "state")
    except (OSError, ValueError):
        return None
    if not whole:
        return None
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as saver:
        arrays = saver.restore((path / "state").resolve())
    leaves, structure = jax.tree.flatten(like)
    saved = [arrays["state"][f"{i}"] for i in range(len(arrays["state"]))]
    if [a.shape for a in saved] != [leaf.shape for leaf in leaves]:
        return None
    placed = [jax.device_put(a, leaf.sharding) for a, leaf in zip(saved, leaves, strict=True)]
    curves = [dict(arrays["curves"][f"{i}"]) for i in range(len(arrays["curves"]))]
    return jax.tree.unflatten(structure, placed), curves


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by its relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): atomic.sha256(path.read_bytes()) for path in files}


def drop_flight(path: Path) -> None:
    """Delete the flight, if there is one."""
    (path / "flight.json").unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)
