"""The smallest encoder and refiner as rows of their tables, and a process that dies while it computes with them.

    python colour.py N ARGUMENTS ...

runs a command of lsap-jax that kills itself with SIGKILL when it saves its N-th image.
"""

import itertools
import os
import signal
import sys

import pytest

from lsap_jax.cli import main
from lsap_jax.models import registry
from lsap_jax.networks.parameters import LEAVES
from lsap_jax.refinement.methods import REFINERS, Method
from lsap_jax.storage.run_folder import RunFolder
from lsap_jax.testing import ColourConfig, ColourEncoder, ColourRefiner, colour_shapes

KIND = registry.Kind(
    name=ColourEncoder.kind,
    what="a colour encoder",
    remedy="choose its file",
    config=registry.of(ColourConfig),
    shapes=colour_shapes,
    holder=registry.holding(ColourEncoder),
    layout=LEAVES,
    encodes=True,
)
METHOD = Method(make=lambda G, weights, share: ColourRefiner(share=share), options={"share": 1.0})


def add_rows(patch: pytest.MonkeyPatch) -> None:
    """Registers both."""
    patch.setitem(registry.KINDS, KIND.name, KIND)
    patch.setitem(REFINERS, "colour", METHOD)


def die_at(place: int) -> None:
    """Lets the process end before it saves its image of that number."""
    calls, whole = itertools.count(1), RunFolder.put

    def put(*args: object) -> None:
        if next(calls) == place:
            os.kill(os.getpid(), signal.SIGKILL)
        whole(*args)  # type: ignore[arg-type]

    RunFolder.put = put  # type: ignore[method-assign,assignment]


if __name__ == "__main__":
    add_rows(pytest.MonkeyPatch())
    die_at(int(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
