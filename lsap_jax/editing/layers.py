"""Layer ranges: which rows of the style input, and which styles, an edit touches."""

from collections.abc import Iterable

import numpy as np

from lsap_jax.errors import LsapError
from lsap_jax.models.generator import Generator
from lsap_jax.spaces import Space

Layers = str | int | Iterable[int] | None

# StyleGAN (Karras et al., CVPR 2019, section 3.1): coarse is 4 and 8 px, middle 16 and 32 px, fine 64 px and up.
RANGES = {"coarse": (0, 4), "middle": (4, 8), "fine": (8, None)}


def layer_rows(layers: Layers, num_ws: int) -> tuple[int, ...]:
    """Rows of ws, in order.

    Args:
        layers: None or "all"; names "coarse" (rows 0 to 3), "middle" (4 to 7), "fine" (8 and up); numbers "5" and
            ranges "4-7", both ends included; several of these with commas; or the numbers themselves.
        num_ws: of the generator.

    Raises:
        LsapError: no such name or row, or none is left.
    """
    if layers is None or layers == "all":
        return tuple(range(num_ws))
    if isinstance(layers, int):
        found = {layers}
    elif isinstance(layers, str):
        found = {row for part in layers.split(",") for row in _rows_of(part.strip().lower(), num_ws)}
    else:
        found = {int(row) for row in layers}
    if wrong := sorted(row for row in found if not 0 <= row < num_ws):
        raise LsapError(f"layers {layers!r}: this generator has rows 0 to {num_ws - 1}, not {wrong[0]}")
    if not found:
        raise LsapError(f"layers {layers!r}: names no row of this generator, which has rows 0 to {num_ws - 1}")
    return tuple(sorted(found))


def _rows_of(part: str, num_ws: int) -> range:
    if part in RANGES:
        first, end = RANGES[part]
        if first >= num_ws:
            raise LsapError(f"layers {part!r} start at row {first}; this generator has rows 0 to {num_ws - 1}")
        return range(first, min(end or num_ws, num_ws))
    low, dash, high = part.partition("-")
    high = high if dash else low
    if not (low.isdecimal() and high.isdecimal()):
        raise LsapError(f"layers {part!r}: write all, coarse, middle, fine, a row as 5, or rows as 4-7")
    return range(int(low), int(high) + 1)


def layer_mask(G: Generator, space: Space, layers: Layers, f_resolution: int = 0) -> np.ndarray:
    """bool, [num_ws, 1] for a code per row, [Σ C] for styles, [1] for one code per image: what an edit may change.

    Args:
        layers: as in `layer_rows`; of styles, those that read these rows.
        f_resolution: of the base code; layers before it do not reach the image.

    Raises:
        LsapError: a range of rows where one code serves all of them, or only layers that f replaces.
    """
    rows = layer_rows(layers, G.num_ws)
    if not set(rows) & {layer.row for layer in G.config.live_layers(f_resolution)}:
        raise LsapError(f"layers {layers!r} come before the base code at {f_resolution} px: no pixel would change")
    found = space.reached(G, rows)
    if found is None:
        raise LsapError(
            f"layers {layers!r}: a code of space {space.name} serves all layers; repeat it over the rows and edit it "
            f"in {space.name}+"
        )
    return found


def ranges_of(G: Generator, space: Space, f_resolution: int = 0, among: Iterable[str] = ("all", *RANGES)) -> list[str]:
    """The ranges of layers that codes of a space can be moved in; one code for all layers has "all" alone."""
    found = []
    for layers in among:
        try:
            layer_mask(G, space, layers, f_resolution)
            found.append(layers)
        except LsapError:
            continue
    return found
