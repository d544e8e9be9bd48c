"""A mapper of StyleCLIP, `mapper/pretrained/*.pt`: networks that make a step of editing from the code.

There is one for each range of rows, coarse, medium and fine, unless its options leave it out. Beside them the file may
hold the generator that they were trained with, under `decoder`, which is not read.
"""

import re
from collections.abc import Mapping
from typing import Any

from convert_weights.checkpoint import Checkpoint, Part, Unfit, together
from convert_weights.match import Rule, fill, match
from convert_weights.places import inside, labelled
from convert_weights.structure import Structure
from convert_weights.stylegan2 import dim
from convert_weights.trunks import Shapes

KIND = "styleclip_mapper"
WHAT = "StyleCLIP's mapper"
LEVELS = ("course", "medium", "fine")  # as their files spell them
LAYERS = 4
DECODER = "the generator that it was trained with"
FIRST = re.compile(rf"(|.*[/.])({'|'.join(LEVELS)})_mapping\.mapping\.1\.weight")
RULES: list[Rule] = [
    (r"decoder\..*", None, DECODER),
    (rf"({'|'.join(LEVELS)})_mapping\.mapping\.\d{{1,2}}\.(weight|bias)", lambda m: m[0], ""),
]


def is_mapper(s: Structure) -> bool:
    """Whether the file holds a mapper with levels."""
    return any(map(FIRST.fullmatch, s.everything))


def mapper_file(s: Structure) -> Checkpoint:
    """The mapper of a file as a checkpoint.

    Raises:
        Unfit: there are several, or one has other layers or tensors of other shapes.
    """
    places = list(dict.fromkeys(m[1] for name in s.everything if (m := FIRST.fullmatch(name))))
    if len(places) > 1:
        raise Unfit(f"{WHAT}: the file holds {len(places)} of them; save one alone")
    found, ignored = match(inside(s.everything, places[0]), RULES, WHAT)
    config = _config({name: one.shape for name, one in found.items()})
    part = Part(kind=KIND, config=config, arrays=fill(found, mapper_shapes(config), WHAT))
    rest = dict.fromkeys(labelled(s.entries, places), "not part of the mapper")
    return Checkpoint(format=f"StyleCLIP mapper, in {s.placed}", parts=together(part), ignored=rest | ignored)


def _config(shapes: Shapes) -> dict[str, Any]:
    levels = [level for level in LEVELS if f"{level}_mapping.mapping.1.weight" in shapes]
    return {"w_dim": dim(shapes, f"{levels[0]}_mapping.mapping.1.weight", 0), "levels": levels}


def mapper_shapes(config: Mapping[str, Any]) -> Shapes:
    """Every tensor of a mapper with this config: name -> shape."""
    w = config["w_dim"]
    shapes: Shapes = {}
    for level in config["levels"]:
        for k in range(1, LAYERS + 1):
            name = f"{level}_mapping.mapping.{k}"
            shapes |= {f"{name}.weight": (w, w), f"{name}.bias": (w,)}
    return shapes
