"""The command lines that do in batch what was done on the page."""

import shlex
from collections.abc import Iterable, Sequence

from lsap_jax.editing.direction import Direction
from lsap_jax.editing.listing import layers_text
from lsap_jax.editing.series import file_name
from lsap_jax.live.session import Take
from lsap_jax.live.sliders import Slider, combined, is_known
from lsap_jax.models.generator import Generator
from lsap_jax.spaces.space import NAMES

UNEDITED = "-unedited"  # files of the archive; ID alone may be the photograph's name
RUN, EDITS = "run", "edits"
GIVEN = ("w", "w+", "z", "z+")  # spaces whose codes `lsap-jax invert --init` takes from a file
NONE = "# No command makes these codes: ID-edited.npz of the archive holds them, for lsap_jax.render."
Command = tuple[str, ...]


def embedding(file: str, generator: str, method: str, options: Iterable[str], refine: str) -> Command:
    """`lsap-jax encode` or `lsap-jax invert` of a photograph.

    Args:
        method: "encode", or a space, a preset of one, or a configuration of `lsap-jax invert`.
        options: further flags.
        refine: a method of refinement, or "".
    """
    named = "--space" if method.partition(":")[0] in NAMES else "--config"
    start = ["encode", f"./{file}"] if method == "encode" else ["invert", f"./{file}", named, method]
    refining = ["--refine", refine] if refine else []
    return ("lsap-jax", *start, "--generator", generator, *options, *refining, "--out", RUN)


def from_codes(take: Take, generator: str) -> Command:
    """`lsap-jax invert` of no steps, from the saved picture and codes of a take."""
    name = f"./{take.id}{UNEDITED}"
    start = ["--space", take.space.name, "--init", f"{name}.npz", "--steps", "0"]
    return ("lsap-jax", "invert", f"{name}.png", "--generator", generator, *start, "--out", RUN)


def editing(G: Generator, run: str, move: tuple[Direction, float]) -> Command:
    """`lsap-jax edit` of a run, along a direction by name or by the file of the archive."""
    direction, strength = move
    known = is_known(G, direction)
    name = direction.name if known else file_of(direction)
    layers = ["--layers", layers_text(direction)] if known and direction.layers is not None else []
    strengths = f"--strengths={repr(strength).removesuffix('.0')}"
    return ("lsap-jax", "edit", run, "--direction", name, *layers, strengths, "--out", EDITS)


def file_of(direction: Direction) -> str:
    """The file of a direction in the archive."""
    return f"{file_name(direction.name)}.safetensors"


def written(G: Generator, take: Take, sliders: Sequence[Slider]) -> str:
    """The commands that make what is shown, as lines for a shell."""
    if not take.run:
        return NONE
    move = combined(G, take.space, sliders)
    edits = [] if move is None else [editing(G, take.run, move)]
    return "\n".join(map(shlex.join, [*take.commands, *edits]))
