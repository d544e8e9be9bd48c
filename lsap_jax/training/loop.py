"""The loop of a training: steps, snapshots, checkpoints, and a log that a resumed run continues."""

import json
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from lsap_jax.storage import atomic
from lsap_jax.training.curves import PICTURE, picture

Log = Callable[[str], None]
Logs = dict[str, jax.Array]
State = TypeVar("State")

LOG = "log.jsonl"
TOLD, KEPT = 60.0, 600.0  # seconds between lines of progress, and between checkpoints where snapshots are rarer

say: Log = partial(print, flush=True)  # a training that is watched through a file or a pipe is seen to go on


def resumable(
    out: Path,
    state: State,
    advance: Callable[[State, int], tuple[State, Logs]],
    snapshot: Callable[[State, int, dict[str, float]], None],
    images: tuple[int, int, int],
    log: Log,
    stop_after: float | None = None,
) -> tuple[State, int]:
    """Steps until so many images were seen, or from the newest checkpoint in `out` on.

    Args:
        out: gets `checkpoints/`, at every snapshot and every ten minutes; its log loses what was written after the
            newest checkpoint.
        state: before the first step, placed on its devices, to which a checkpoint is restored.
        advance: (state, number of the step from 0) to (state, logs); it may use up the state.
        snapshot: called with (state, images seen, mean logs since the one before, or since the training went on).
        images: in all, between snapshots, and in a step.
        log: takes a line of progress, every minute.
        stop_after: seconds after which it ends with a checkpoint, however far it is.

    Returns:
        (the state at the end, images seen).
    """
    deadline = time.monotonic() + stop_after if stop_after else math.inf
    total, every, size = images
    steps, every = max(total // size, 1), max(every // size, 1)
    with ocp.CheckpointManager(out / "checkpoints", options=ocp.CheckpointManagerOptions(max_to_keep=2)) as manager:
        begun = manager.latest_step() or 0
        if begun:
            state = manager.restore(begun, args=ocp.args.StandardRestore(state))
            log(f"going on from {begun * size} images")
        forget(out, begun * size)
        seen = max(begun, steps)
        for means, newest, step in run(advance, state, begun, steps, every, size, deadline, log):
            state, seen = newest, step
            if means is not None:
                snapshot(state, step * size, means)
            manager.save(step, args=ocp.args.StandardSave(state))
            manager.wait_until_finished()
    return state, seen * size


def run(
    advance: Callable[[State, int], tuple[State, Logs]],
    state: State,
    step: int,
    total: int,
    every: int,
    size: int,
    deadline: float,
    log: Log,
) -> Iterator[tuple[dict[str, float] | None, State, int]]:
    """Steps from `step` to `total`, or to `deadline`; yields (mean logs, state, step) after `every` and at the end, and
    (None, state, step) between them when a checkpoint is due.
    """
    sums: Any = None
    started, since, late = time.monotonic(), step, False
    told = kept = started
    counted = step
    while step < total and not late:
        state, logs = advance(state, step)
        step += 1
        # Waits for the step before: the device is never idle, and the time is that of steps done, not only asked for.
        jax.block_until_ready(sums)
        sums = logs if sums is None else _added(sums, logs)
        now = time.monotonic()
        late = now > deadline
        if now - told > TOLD and step < total:
            log(progress(step * size, total * size, (step - counted) * size / (now - told)))
            told, counted = now, step
        if step % every == 0 or step == total or late:
            means = {k: float(v) / (step - since) for k, v in sums.items()}
            means["images_per_second"] = (step - since) * size / (time.monotonic() - started)
            yield means, state, step
            sums, since = None, step
            started = kept = time.monotonic()
        elif now - kept > KEPT:
            yield None, state, step
            kept = time.monotonic()


def progress(seen: int, total: int, rate: float) -> str:
    """Where a training stands that sees so many images a second, and the time left without that of snapshots."""
    minutes = max(round((total - seen) / rate / 60), 1)
    return f"{seen:,} of {total:,} images, {rate:.3g} a second, {minutes} min left"


# One call for all terms: small networks take little longer for a step than a device for a few calls.
@partial(jax.jit, donate_argnums=0)
def _added(sums: Logs, logs: Logs) -> Logs:
    return jax.tree.map(jnp.add, sums, logs)


def lines(out: Path) -> list[dict[str, float]]:
    """The whole lines of a training's log."""
    text = (out / LOG).read_text("utf-8") if (out / LOG).is_file() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def note(out: Path, line: dict[str, float], log: Log) -> None:
    """A line in the log, the picture of its curves (`curves.picture`), and a line of progress."""
    with open(out / LOG, "a", encoding="utf-8") as file:
        file.write(json.dumps({k: round(v, 6) for k, v in line.items()}) + "\n")
    draw(out)
    log(" ".join(f"{k}={v:.4g}" for k, v in line.items()))


def draw(out: Path) -> None:
    """The picture of the log's curves, drawn anew."""
    atomic.write_files({out / PICTURE: picture(lines(out)).encode()})


def forget(out: Path, images: int) -> None:
    """Take out of the log what a killed run wrote after its newest checkpoint, which it computes again."""
    kept = "".join(json.dumps(line) + "\n" for line in lines(out) if line["images"] <= images)
    if (out / LOG).is_file():
        atomic.write_files({out / LOG: kept.encode()})
