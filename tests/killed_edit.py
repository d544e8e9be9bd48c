"""An edit without a generator's computations, and the process that dies in the middle of one.

    python killed_edit.py METHOD N RUN OUT

kills itself with SIGKILL at its N-th call of a method of RunFolder, so that the place does not depend on the machine.
"""

import itertools
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lsap_jax.editing import edit_run, edit_worker
from lsap_jax.editing.series import Series
from lsap_jax.models.generator_file import load_generator
from lsap_jax.runs.work import Summary
from lsap_jax.storage.run_folder import RunFolder

STRENGTHS = (-1.0, 0.0, 1.0)


def edit(run: Path, out: Path) -> Summary:
    """Six pictures at a time: groups of two images, each put, which stages its files and then writes its line."""
    series = Series(
        name="up",
        labels=tuple(f"{s:g}" for s in STRENGTHS),
        places=STRENGTHS,
        at=lambda strength, codes: {**codes, "z": codes["z"] + np.float32(strength)},
        untouched=1,
        record={"sha256": "", "strengths": STRENGTHS},
    )
    edit_worker.renderer = lambda *_: drawn
    return edit_run.edit_run(load_generator(run.parent / "g.safetensors"), run, out, [series], batch_size=6)


def drawn(codes: Mapping[str, np.ndarray], refinement: None) -> np.ndarray:
    """z [N, 6, 16] as pictures [N, 16, 16, 3]."""
    z = codes["z"]
    return np.repeat(np.tanh(z[:, 0, :, None, None] + z[:, None, 1, :, None]), 3, axis=-1)


def fatal(method: str, place: int) -> None:
    """Lets the call of that number end the process."""
    calls, whole = itertools.count(1), getattr(RunFolder, method)

    def call(*args: object) -> object:
        if next(calls) == place:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(*args)

    setattr(RunFolder, method, call)


if __name__ == "__main__":
    fatal(sys.argv[1], int(sys.argv[2]))
    edit(Path(sys.argv[3]), Path(sys.argv[4]))
