"""The command lines that do in batch what was done on the page."""

import shlex
from collections.abc import Iterable, Sequence

from lsap_jax.live.session import Take
from lsap_jax.live.sliders import TOGETHER, Slider

RUN, EDITS = "run", "edits"
GIVEN = ("w", "w+", "z", "z+")  # spaces whose codes `lsap-jax invert --init` takes from a file
NONE = "# No command makes these codes: ID-edited.npz of the archive holds them, for lsap_jax.render."
Command = tuple[str, ...]


def embedding(file: str, generator: str, method: str, options: Iterable[str], refine: str) -> Command:
    """`lsap-jax encode` or `lsap-jax invert` of a photograph.

    Args:
        method: "encode", or a space or preset of `lsap-jax invert`.
        options: further flags.
        refine: a method of refinement, or "".
    """
    start = ["encode", f"./{file}"] if method == "encode" else ["invert", f"./{file}", "--space", method]
    refining = ["--refine", refine] if refine else []
    return ("lsap-jax", *start, "--generator", generator, *options, *refining, "--out", RUN)


def from_codes(take: Take, generator: str) -> Command:
    """`lsap-jax invert` of no steps, from the saved picture and codes of a take."""
    start = ["--space", take.space.name, "--init", f"{take.id}.npz", "--steps", "0", "--config.keep=last"]
    return ("lsap-jax", "invert", f"{take.id}.png", "--generator", generator, *start, "--out", RUN)


def editing(run: str, sliders: Sequence[Slider]) -> Command | None:
    """`lsap-jax edit` of a run; None where all sliders are at 0."""
    moving = [one for one in sliders if one.strength != 0]
    if not moving:
        return None
    one, more = moving[0], len(moving) > 1
    name, strength = (f"{TOGETHER}.safetensors", 1.0) if more else (one.direction.name, one.strength)
    layers = [] if more or one.layers is None else ["--layers", str(one.layers)]
    return ("lsap-jax", "edit", run, "--direction", name, f"--strengths={strength!r}", *layers, "--out", EDITS)


def written(take: Take, sliders: Sequence[Slider]) -> str:
    """The commands that make what is shown, as lines for a shell."""
    if not take.run:
        return NONE
    edit = editing(take.run, sliders)
    return "\n".join(map(shlex.join, [*take.commands, *([] if edit is None else [edit])]))
