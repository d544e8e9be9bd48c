"""The bundled generator and sample images, end to end: inversion in f/z+ and z+, verification, edits, and their pages.

usage: lsap-jax demo --out DIR [--steps N]

DIR is the run folder of f/z+, with its report; DIR/zplus is the run folder of z+, for comparison. DIR/edits has edits
of the first, DIR/edits_zplus those of the second; the page shows both side by side. The same command again finishes
what is missing.
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from absl.flags import FlagValues

from lsap_jax.cli import INTERRUPTED, OK, TERMINATED
from lsap_jax.cli.arguments import Arguments, choice, new_flags, number, text

if TYPE_CHECKING:
    from lsap_jax.models.generator import Generator

GENERATOR = "toonhead64"
SPACES = ("f/z+", "z+")
COLUMNS = ("mse", "psnr", "ssim")
DIRECTIONS = ("smile", "beard", "blond_hair")
STRENGTHS = (-6.0, -3.0, 0.0, 3.0, 6.0)
MOST_SHOWN = 16


def flags() -> FlagValues:
    values = new_flags()
    text(values, "out", "folder for the runs")
    number(values, "steps", "of each optimisation", 100, lower=1)
    text(values, "generator", "another generator than the bundled one", GENERATOR)
    text(values, "images", "other images than the bundled ones")
    choice(values, "spaces", ("both", "f/z+", "z+"), "which spaces", "both")
    return values


def run(args: Arguments) -> int:
    from lsap_jax.cli.invert import invert
    from lsap_jax.cli.verify import verify
    from lsap_jax.configuration import load_config, preset_name
    from lsap_jax.data import open_images
    from lsap_jax.data.bundled import sample_images
    from lsap_jax.models.generator_file import load_generator

    args.no_config()
    args.only()
    out, name = Path(args.required("out")), args.flags.generator
    images = args.flags.images or sample_images()
    G = load_generator(name)
    source = open_images(images, resolution=G.img_resolution, channels=G.img_channels)
    spaces = SPACES if args.flags.spaces == "both" else (args.flags.spaces,)
    worst, folders = 0, []
    for space in spaces:
        folders.append(out if space == spaces[0] else out / preset_name(space))
        print(f"== {len(source)} images into {space}, {args.flags.steps} steps ==")
        config = load_config(space, {"steps": args.flags.steps, "batch_size": min(16, len(source))})
        status = invert(G, source, config, folders[-1], generator_name=name)
        if status == INTERRUPTED:
            return status
        worst = max(worst, status, verify(folders[-1], name))
    print_comparison(dict(zip(spaces, folders, strict=True)))
    if worst == OK:
        worst = edit(G, folders)
    for page in (out / "report.html", out / "edits" / "report.html"):
        if page.is_file():
            print(f"open in a browser: {page.resolve()}")
    return worst


def edit(G: "Generator", folders: list[Path]) -> int:
    """Edits every run along a few directions, the first beside the second; returns the exit status."""
    from lsap_jax.cli.computing import computed
    from lsap_jax.cli.edit import summary_line
    from lsap_jax.editing.edit_run import edit_run
    from lsap_jax.editing.named import bundled_directions, find
    from lsap_jax.editing.series import along
    from lsap_jax.rendering.render import space_of
    from lsap_jax.report.edit_report import write_edit_report
    from lsap_jax.storage.results import read_manifest, read_run

    names = DIRECTIONS if bundled_directions(G) else ("random:0",)
    print(f"== edits: {', '.join(names)} ==")
    worst: int = OK
    beside: Path | None = None
    for folder in reversed(folders):
        space = space_of(read_run(folder), G)
        series = [along(G, space, one, STRENGTHS) for name in names for one in find(G, space, name)]
        out = folders[0] / ("edits" if folder == folders[0] else f"edits_{folder.name}")
        page = partial(write_edit_report, beside=beside, max_images=MOST_SHOWN)
        start = partial(edit_run, G, folder, out, series, batch_size=20)
        status = computed(start, out, len(read_manifest(folder)), page=page, line=summary_line)
        if status in (INTERRUPTED, TERMINATED):
            return status
        worst, beside = max(worst, status), out
    return worst


def print_comparison(folders: dict[str, Path]) -> None:
    """A table with the mean metrics of each space."""
    from lsap_jax.storage.results import read_manifest

    means: dict[str, Any] = {}
    for space, folder in folders.items():
        records = read_manifest(folder).values()
        means[space] = {m: np.mean([r["metrics"][m] for r in records]) for m in COLUMNS} if records else {}
    print(f"{'space':8}" + "".join(f"{m:>10}" for m in COLUMNS))
    for space, values in means.items():
        print(f"{space:8}" + "".join(f"{values.get(m, float('nan')):10.4g}" for m in COLUMNS))
