"""From a photograph to codes: the ways that the page offers, each that of a command."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lsap_jax.configuration import load_config
from lsap_jax.encoding.attach import fit_of
from lsap_jax.errors import LsapError
from lsap_jax.live import commands
from lsap_jax.live.bench import Bench
from lsap_jax.live.session import Photo, Take
from lsap_jax.models.generator import Generator
from lsap_jax.refinement.methods import make_refiner
from lsap_jax.runs.invert import Inversion, encode, invert
from lsap_jax.runs.refine import refine

ENCODE = "encode"
# Space or preset of `lsap-jax invert` -> what it is called, in the order offered.
WAYS = {
    "f/z+:fast": "F/Z+ fast",
    "f/z+": "F/Z+",
    "w+": "W+",
    "z+": "Z+",
    "w": "W",
    "s": "StyleSpace",
    "idinvert": "IDInvert",
}
REFINING = ("styleres", "hfgi", "hyperstyle", "pti")  # those that nobody has to wait minutes for
CROP = "crop"
MOST_STEPS = 10_000

Say = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way to codes.

    Attributes:
        name: "encode", or what `lsap-jax invert --space` takes.
        label: for people.
        steps: usual number; 0 where none are taken.
    """

    name: str
    label: str
    steps: int


def ways(G: Generator) -> list[Way]:
    """The ways that a generator has, the quickest first."""
    found = [] if G.encoder is None else [Way(name=ENCODE, label=f"Encoder ({G.encoder.codes.upper()})", steps=0)]
    for name, label in WAYS.items():
        config = load_config(name)
        needs_encoder = config.init.detail in ("encoder", "near")
        if (needs_encoder and G.encoder is None) or (config.space.startswith("f/") and not G.config.entries):
            continue
        found.append(Way(name=name, label=label, steps=config.steps))
    return found


def refiners(G: Generator) -> list[str]:
    """The quick methods of refinement, of networks those that come with a generator."""
    found = []
    for name in REFINING:
        try:
            make_refiner(name, G)
        except LsapError:
            continue
        found.append(name)
    return found


def fit(G: Generator) -> str:
    """How photographs are fitted to a generator."""
    return fit_of(G.encoder, CROP)


def chunk(G: Generator) -> int:
    """Steps between two reports: a fraction of a second on two cores, and others have their turn in between."""
    return max(1, min(10, 640 // G.img_resolution))


def embed(bench: Bench, generator: str, photo: Photo, key: str, way: Way, steps: int, refining: str, say: Say) -> Take:
    """The take of a photograph; `say` is told of each chunk of steps, and may raise to stop.

    Args:
        generator: its name in commands.
        key: of the take.
        refining: a method of refinement, or "".

    Raises:
        LsapError: the way or the method does not fit the generator or the photograph.
    """
    G, images, ids = bench.G, photo.image[None], [photo.id]
    options = (["--align"] if photo.aligned else []) + ([] if fit(G) == CROP else [f"--config.fit={fit(G)}"])
    if way.name == ENCODE:
        say({"phase": "encoding"})
        inv: Inversion = encode(G, None, images, ids=ids)
    else:
        say({"phase": "inverting", "step": 0, "steps": steps})
        options += ["--steps", str(steps), f"--config.chunk={chunk(G)}"]
        inv = invert(G, images, way.name, steps, ids=ids, progress=_reporting(say), fit=fit(G), chunk=chunk(G))
    codes, metrics, refinement = inv.codes, inv.metrics, None
    if refining:
        say({"phase": f"refining by {refining}"})
        refined = refine(G, inv, images, refining)
        codes, metrics, refinement = refined.codes, refined.metrics, refined.refinement
    say({"phase": "making the sliders ready"})
    bench.warm(inv.space, codes, refinement)
    return Take(
        key=key,
        id=photo.id,
        label=way.label + (f" + {refining}" if refining else ""),
        space=inv.space,
        codes=codes,
        refinement=refinement,
        picture=bench.picture(inv.space, codes, refinement),
        target=photo.image,
        photo=photo.key,
        metrics=_plain(metrics),
        run=commands.RUN,
        commands=(commands.embedding(photo.file, generator, way.name, options, refining),),
    )


def _reporting(say: Say) -> Callable[[int, int, float], None]:
    def progress(step: int, steps: int, loss: float) -> None:
        say({"phase": "inverting", "step": step, "steps": steps, "loss": loss if np.isfinite(loss) else None})

    return progress


def _plain(metrics: dict[str, np.ndarray]) -> dict[str, float]:
    """Metrics of the one image that JSON can hold."""
    return {name: float(values[0]) for name, values in metrics.items() if np.isfinite(values[0])}
