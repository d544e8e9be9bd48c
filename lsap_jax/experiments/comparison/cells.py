"""The second stage in a comparison: every run, and after it what each method of refinement makes of it.

A cell is a run folder of its own, made of the finished run before it, and resumed like any other.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from convert_weights import ConversionError
from lsap_jax.configuration import recorded
from lsap_jax.errors import LsapError
from lsap_jax.experiments.comparison.plan import Plan, pairs
from lsap_jax.inversion.jobs import code_shapes
from lsap_jax.models.generator import Generator
from lsap_jax.refinement.methods import REFINERS, find_method
from lsap_jax.runs.generators import attached, with_weights
from lsap_jax.runs.refine import refine_run
from lsap_jax.runs.refining import Refining, refining
from lsap_jax.runs.saving import Progress
from lsap_jax.runs.work import Summary
from lsap_jax.spaces import space_from_config
from lsap_jax.spaces.statistics import with_statistics
from lsap_jax.storage.results import read_run

ALL = "all"
THEN = " then "  # between a preset and what refines it


def with_cells(plans: Sequence[Plan], config: ConfigDict) -> list[Plan]:
    """Each plan, and after it the same refined by every method of `config.refine`, of which "all" is every one there
    is, and by those that `config.cells` has for it. Options of methods are those of `config.refine_overrides`,
    ("METHOD.OPTION", value) pairs, and files of networks those of `config.refine_weights`, ("METHOD", file) pairs.

    Raises:
        LsapError: no such method, option or preset, or two plans would share a folder.
    """
    methods = [name for one in config.refine for name in (REFINERS if one == ALL else (one,))]
    options: dict[str, dict[str, Any]] = {}
    for key, value in pairs("refine_overrides", config.refine_overrides):
        method, _, option = key.partition(".")
        if option not in find_method(method).options:
            known = ", ".join(f"{method}.{name}" for name in find_method(method).options) or "none"
            raise LsapError(f"refine_overrides: {key!r} is no option of this method; there are {known}")
        options.setdefault(method, {})[option] = value
    weights = dict(pairs("refine_weights", config.refine_weights))
    single = _single(config.cells, [plan.preset for plan in plans])
    for method in (*methods, *weights, *(method for some in single.values() for method in some)):
        find_method(method)
    files = {method: str(Path(config.encoders) / file) for method, file in weights.items()}

    def cell(plan: Plan, method: str) -> Plan:
        return replace(
            plan,
            preset=f"{plan.preset}{THEN}{method}",
            folder=f"{plan.folder}_then_{method}",
            encoder="",
            method=method,
            options=options.get(method, {}),
            weights=files.get(method, ""),
            first=plan.folder,
        )

    found = [
        one
        for plan in plans
        for one in (plan, *(cell(plan, method) for method in dict.fromkeys((*methods, *single.get(plan.preset, ())))))
    ]
    folders = [plan.folder for plan in found]
    if twice := [folder for folder in folders if folders.count(folder) > 1]:
        raise LsapError(f"refine: a preset and a refined one would share the folder {twice[0]!r}; rename the preset")
    return found


def _single(cells: Sequence[str], presets: Sequence[str]) -> dict[str, list[str]]:
    """Preset -> methods, of "PRESET then METHOD"."""
    found: dict[str, list[str]] = {}
    for cell in cells:
        preset, then, method = cell.partition(THEN)
        if not then or preset not in presets:
            raise LsapError(f"cells: {cell!r} is no PRESET then METHOD; the presets are {', '.join(presets)}")
        found.setdefault(preset, []).append(method)
    return found


def that_fit(plans: Sequence[Plan], G: Generator) -> tuple[list[Plan], list[str]]:
    """The plans without those whose method cannot refine their codes with this generator, and a line for each method or
    cell that is left out, with the reason.
    """
    unmade: set[str] = set()
    lines, kept = [], []
    for plan in plans:
        if plan.method in unmade:
            continue
        if plan.method:
            try:
                own = with_weights(G, plan.weights or None)
                how = _method(plan, own, plan.config)
            except (ConversionError, LsapError) as error:
                unmade.add(plan.method)
                lines.append(f"{plan.method} is left out: {error}")
                continue
            try:
                _check(plan, own, how)
            except LsapError as error:
                lines.append(f"{plan.preset} is left out: {error}")
                continue
        kept.append(plan)
    return kept, lines


def _check(plan: Plan, G: Generator, how: Refining) -> None:
    """Raises LsapError if the method refuses codes of the plan's space; nothing is computed."""
    G = attached(G, plan.config.init)
    space = space_from_config(plan.config, G)
    if space.needs_statistics:
        G = with_statistics(G)
    codes = {key: jax.ShapeDtypeStruct((1, *shape), jnp.float32) for key, shape in code_shapes(space, G).items()}
    side, channels = G.img_resolution, G.img_channels
    images = jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32)

    prepare = getattr(how.refiner, "prepared", None)
    on_host = {} if prepare is None else {"prepared": prepare(np.zeros((side, side, channels), np.uint8))}

    def refined(G: Generator, refiner: Any, codes: Any, images: jax.Array, rng: jax.Array, on_host: Any) -> Any:
        return refiner(G, space, codes, images, rng, None, **on_host)

    on_host = jax.tree.map(lambda a: a[None], on_host)
    jax.eval_shape(refined, G, how.refiner, codes, images, jax.random.split(jax.random.key(0), 1), on_host)


def _method(plan: Plan, G: Generator, config: ConfigDict) -> Refining:
    return refining(G, plan.method, plan.weights or None, plan.options, plan.config.seed, config)


def refine_cell(G: Generator, plan: Plan, out: Path, *, progress: Callable[[Progress], None] | None = None) -> Summary:
    """The refined run of a cell: begun, resumed, or left as it is where nothing is left to do.

    Args:
        G: the generator of the run, with the files that the preset's configuration names, and the method's networks.

    Raises:
        LsapError: see `lsap_jax.runs.refine.refine_run`; options of the method differ from those it was begun with.
    """
    first = out / plan.first
    how = _method(plan, G, recorded(read_run(first)["config"]))
    return refine_run(G, first, out / plan.folder, how, batch_size=plan.config.batch_size, progress=progress)
