"""The bundled generator and sample images, end to end: f/z+, z+ and StyleRes, verification, edits, and their pages.

usage: lsap-jax demo --out DIR [--steps N]

DIR/index.html shows the results and links to every page. DIR is the run folder of f/z+, with its report; for
comparison, DIR/zplus is that of z+, and DIR/styleres that of the encoder's codes with StyleRes' residuals, which take
no steps. DIR/edits has edits of the first, DIR/edits_zplus and DIR/edits_styleres those of the others; pages show two
of them side by side. Run the same command again to finish what is missing.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from absl.flags import FlagValues

from lsap_jax.cli import INTERRUPTED, OK, TERMINATED
from lsap_jax.cli.arguments import Arguments, choice, new_flags, number, text

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from lsap_jax.models.generator import Generator
    from lsap_jax.runs.refining import Refining

GENERATOR = "toonhead64"
SPACES = ("f/z+", "z+")
ONE_PASS = "styleres"  # method of refinement after the encoder, where the generator comes with both
STEPS = 60
# What `edit-quality` finds that f/z+ changes in most images (100, 79 and 100 % at 4), and then what z+ does (100, 75
# and 94 %): a base code holds shapes.
DIRECTIONS = ("blond_hair", "dark_skin", "warm_background", "open_mouth", "closed_eyes", "beard")
SHOWN = ("blond_hair", "dark_skin", "beard")  # in the picture of faces
STRENGTHS = (-3.0, -1.5, 0.0, 1.5, 3.0)
MOST_SHOWN = 16


def flags() -> FlagValues:
    values = new_flags()
    text(values, "out", "folder for the runs")
    number(values, "steps", "steps of each optimisation", STEPS, lower=1)
    text(values, "generator", "generator to use instead of the bundled one", GENERATOR)
    text(values, "images", "images to use instead of the bundled ones")
    choice(values, "spaces", ("both", "f/z+", "z+"), "which spaces; both also runs StyleRes", "both")
    return values


def run(args: Arguments) -> int:
    from lsap_jax.cli.invert import invert
    from lsap_jax.cli.verify import verify
    from lsap_jax.configuration import load_config, preset_name
    from lsap_jax.data import open_images
    from lsap_jax.data.bundled import sample_images
    from lsap_jax.models.generator_file import load_generator
    from lsap_jax.runs.refining import refining

    args.no_config()
    args.only()
    out, name = Path(args.required("out")), args.flags.generator
    images = args.flags.images or sample_images()
    G = load_generator(name)
    source = open_images(images, resolution=G.img_resolution, channels=G.img_channels)
    size = {"batch_size": min(16, len(source))}
    spaces = SPACES if args.flags.spaces == "both" else (args.flags.spaces,)
    stages: list[tuple[str, ConfigDict, Refining | None]] = [
        (space, load_config(space, {"steps": args.flags.steps, "init.detail": "near", **size}), None)
        for space in spaces
    ]
    if spaces == SPACES and G.encoder is not None and ONE_PASS in G.parts:
        config = load_config("encode", size)
        stages.append((ONE_PASS, config, refining(G, ONE_PASS, None, {}, config.seed, config)))
    worst, runs = 0, dict[str, Path]()
    for title, config, how in stages:
        folder = runs[title] = out if not runs else out / preset_name(title)
        print(f"== {len(source)} images into {title}, {config.steps} steps ==")
        status = invert(G, source, config, folder, generator_name=name, how=how)
        if status == INTERRUPTED:
            return status
        worst = max(worst, status, verify(folder, name))
    print_comparison(runs)
    if worst == OK:
        worst = edit(G, list(runs.values()))
    if worst == OK:
        print(f"open in a browser: {write_page(out, runs)}")
    return worst


def write_page(out: Path, runs: Mapping[str, Path]) -> Path:
    """The page that leads to all others, of a demo that is finished."""
    from lsap_jax.editing.edit_record import read_edit
    from lsap_jax.report.demo_page import write_demo_page

    pages = {f"Inversion, {space}": folder.relative_to(out) / "report.html" for space, folder in runs.items()}
    pages["Edits"] = Path("edits", "report.html")
    if ONE_PASS in runs:
        pages[f"Edits, {ONE_PASS}"] = edits_of(Path(), runs[ONE_PASS]) / "report.html"
    best = ONE_PASS if ONE_PASS in runs else next(iter(runs))
    edits = edits_of(out, runs[best])
    series = read_edit(edits)["series"]
    shown = {one["name"]: one["labels"] for one in series if one["name"] in SHOWN or len(series) == 1}
    addresses = {title: page.as_posix() for title, page in pages.items()}
    return write_demo_page(out, runs, best, edits, shown, addresses).resolve()


def edits_of(out: Path, run: Path) -> Path:
    """The folder of a run's edits."""
    return out / ("edits" if run == out else f"edits_{run.name}")


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
        out = edits_of(folders[0], folder)
        page = partial(write_edit_report, beside=beside, max_images=MOST_SHOWN)
        start = partial(edit_run, G, folder, out, series, batch_size=20)
        status = computed(start, out, len(read_manifest(folder)), page=page, line=summary_line)
        if status in (INTERRUPTED, TERMINATED):
            return status
        worst, beside = max(worst, status), out
    return worst


def print_comparison(runs: Mapping[str, Path]) -> None:
    """A table with the mean metrics of each space."""
    from lsap_jax.report.demo_page import METRICS, means

    print(f"{'run':8}" + "".join(f"{metric:>10}" for metric in METRICS))
    for space, folder in runs.items():
        print(f"{space:8}" + "".join(f"{value:10.4g}" for value in means(folder)))
