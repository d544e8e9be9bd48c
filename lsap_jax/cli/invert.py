"""Images to latent codes.

usage: lsap-jax invert IMAGES ... --generator G --space f/z+ --out DIR [--config NAME|FILE] [--config.key=value ...]
                       [--encoder FILE] [--refine METHOD] [--align] [--engine local|ray] [--class K|FILE.csv]

IMAGES is a folder (searched recursively), a glob, files, @FILE (a list of them), or tfds:NAME/SPLIT. G is a bundled
name, a converted file, or an official checkpoint. DIR gets codes, pictures, curves, metrics.csv and report.html. Run
the same command again to finish an interrupted run. A conditional generator needs the class of the images: in z spaces
always, in others for random starts, class means and comparisons with samples.

Exit status: 0 all done, 1 some images failed (failures.jsonl says why), 2 unusable arguments, 130 after Ctrl-C, 143
after SIGTERM, which saves the current batch at the end of its chunk of steps.
"""

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from absl.flags import FlagValues

from lsap_jax.cli.arguments import Arguments, choice, configuration, literal, new_flags, number, switch, text
from lsap_jax.cli.classes import EACH, chosen_classes, class_flag
from lsap_jax.cli.computing import (
    AUTO,
    Chosen,
    choose_engine,
    choose_method,
    choose_shard,
    computed,
    engine_flags,
    refine_flag,
    second_stage,
    take_over_threads,
    without_method,
)
from lsap_jax.errors import LsapError

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from lsap_jax.data import Source
    from lsap_jax.models.generator import Generator
    from lsap_jax.runs.refining import Refining
    from lsap_jax.runs.run import NamedEncoder

EXACT = 1e-4  # rounding alone


def flags() -> FlagValues:
    values = new_flags()
    text(values, "generator", "a bundled name, a converted file or an official checkpoint")
    text(
        values,
        "space",
        "z, z+, w, w+, s, p, pn, pn+, f/z, f/z+, f/w, f/w+, f/s, or a preset such as f/z+:code (default: that of "
        "--config, else f/z+)",
    )
    text(values, "out", "folder of the run")
    text(values, "config", "name or file of a configuration (default: that of --space)")
    number(values, "steps", "short for --config.steps")
    text(
        values,
        "batch_size",
        "short for --config.batch_size, over all devices; auto takes the largest that fits into their memory",
    )
    number(values, "seed", "short for --config.seed")
    switch(values, "align", "short for --config.align: cut each picture to its face, as `lsap-jax align` does")
    class_flag(values, EACH.format("image"))
    engine_flags(values)
    text(
        values,
        "init",
        "codes to start from: a file (.npy, .npz, .pt) in the order of the ids or by image, a folder with a file or a "
        "folder per id, or a run",
    )
    choice(
        values,
        "init_kind",
        ("auto", "z", "w"),
        "kind of the codes of --init; auto goes by the name of the array or file",
        "auto",
    )
    text(values, "perceptual", "LPIPS weights that `lsap-jax convert` wrote")
    text(values, "basecode", "base-code encoder to use instead of the generator's own")
    text(values, "encoder", "encoder to start from, instead of the generator's own: a converted file or a checkpoint")
    refine_flag(values)
    text(
        values,
        "context",
        "for --masks without --refine: a picture, or a folder with ID.png, into which the inside of each mask is put "
        "(IDInvert's semantic diffusion)",
    )
    text(values, "pnorm", "BDInvert's folder pnorm/NAME, to use instead of the generator's own statistics of P_N")
    return values


def run(args: Arguments) -> int:
    args.some("images")
    config = choose_config(without_method(args))
    args, method = choose_method(args, preset=second_stage(config))
    encoder = named_encoder(args.flags.encoder) if args.flags.encoder else None
    if encoder is not None:
        config.init.detail = "encoder"
    return embed(args, config, encoder, method, args.flags.config or args.flags.space or "f/z+")


def embed(
    args: Arguments, config: "ConfigDict", encoder: "NamedEncoder | None", method: Chosen | None, preset: str
) -> int:
    """Images of the command line to codes by a configuration, for `invert` and `encode`; returns the exit status.

    Args:
        preset: what the configuration was before anything of it was changed.
    """
    out, name = Path(args.required("out")), args.required("generator")
    take_over_threads(out)
    context = args.flags.context if "context" in args.flags else None
    if context and (method is not None or not args.flags.masks):
        raise LsapError(f"--context={context}: needs --masks, and is for inversions without --refine")
    if args.flags.masks and method is None and not config.steps:
        raise LsapError(f"--masks={args.flags.masks}: is for --refine or for steps, and there is neither")
    engine, shard = choose_engine(args), choose_shard(args)
    from lsap_jax.cli.runs import attached, images_of, prepared
    from lsap_jax.data.context import on_context
    from lsap_jax.data.masks import mask_files, with_masks
    from lsap_jax.encoding.attach import fit_of
    from lsap_jax.models.generator_file import load_generator
    from lsap_jax.runs.classes import used_for
    from lsap_jax.runs.refining import refining

    G = load_generator(name)
    if config.init.detail in ("encoder", "near") and "fit" not in args.config:
        config.fit = fit_of(encoder.encoder if encoder else G.encoder, config.fit)
    source = images_of(args, G, config.fit, config.align)
    classes = chosen_classes(args, G, source.ids)
    G = prepared(attached(used_for(G, classes), config.init), config)
    tell_of_base(G, config, name)
    how = None if method is None else refining(G, method.method, None, method.options, config.seed, config)
    if args.flags.batch_size == AUTO:
        count = -(-len(source) // (shard.count if shard else 1))
        config.batch_size = fitting_batch(G, config, encoder, out, count, how)
        print(f"batch size {config.batch_size}", file=sys.stderr)
    options: dict[str, Any] = {"generator_name": name, "shard": shard, "encoder": encoder, "classes": classes, **engine}
    options |= {"how": how, "preset": Path(preset).name if preset.endswith(".py") else preset}
    if "init" in args.flags and args.flags.init:
        options["start"] = starts(args, G, source, config, classes)
    if args.flags.masks:
        masks = mask_files(args.flags.masks, source.ids)
        done = "refined" if method is not None else "inverted"
        source = on_context(source, masks, context) if context else with_masks(source, masks, done)
        options |= {"masked": True, "recheck": method is None}
    return invert(G, source, config, out, **options)


def tell_of_base(G: "Generator", config: "ConfigDict", name: str) -> None:
    """Says on stderr that f will not begin at the image, where no encoder of this base code has come with G."""
    from lsap_jax.spaces import space_from_config
    from lsap_jax.spaces.feature import uses_encoder

    space = space_from_config(config, G)
    if space.has_base and config.init.f == "auto" and not uses_encoder(G, space.base_resolution, "auto"):
        print(
            f"{name} has no encoder of base codes of {space.base_resolution} px: f begins at the features of the mean "
            "w; name an encoder with --basecode, or put it into the file with `lsap-jax convert --add_basecode`",
            file=sys.stderr,
        )


def invert(G: "Generator", source: "Source", config: "ConfigDict", out: Path, **options: Any) -> int:
    """Runs with progress, writes the report, prints the summary; returns the exit status.

    Args:
        options: of `lsap_jax.runs.run.run`.
    """
    from lsap_jax.report.run_report import write_run_report
    from lsap_jax.runs.run import run as run_inversion

    start = partial(run_inversion, G, source, config, out, **options)
    return computed(start, out, len(source), page=write_run_report)


def named_encoder(path: str) -> "NamedEncoder":
    """The encoder in a file."""
    from lsap_jax.models.network_file import load_encoder
    from lsap_jax.runs.run import NamedEncoder

    return NamedEncoder(path, load_encoder(path))


def choose_config(args: Arguments) -> "ConfigDict":
    """The configuration of `--config` or `--space`, with shorthands and the files named beside it.

    Raises:
        LsapError: a preset and a configuration at once, an unknown space, key or file.
    """
    space = args.flags.space
    shorthands: dict[str, Any] = {name: args.flags[name].value for name in ("steps", "seed")}
    if args.flags.batch_size != AUTO:
        shorthands["batch_size"] = args.flags.batch_size and literal("batch_size", args.flags.batch_size, 1)
    shorthands["perceptual.weights"] = args.flags.perceptual
    shorthands["align"] = args.flags.align if args.flags["align"].present else None
    if args.flags.config is not None and space is not None:
        if ":" in space:
            raise LsapError(f"--space={space} is a preset; give either --space or --config")
        shorthands["space"] = space
    elif space is not None:
        from lsap_jax.spaces import parse_space

        parse_space(space)  # the message for an unknown space lists the spaces, not the configurations
    config = configuration(args, space or "f/z+", shorthands, key="space")
    for name in ("basecode", "pnorm"):
        if args.flags[name].value:
            config.init[name] = args.flags[name].value
    return config


def fitting_batch(
    G: "Generator",
    config: "ConfigDict",
    encoder: "NamedEncoder | None",
    out: Path,
    images: int,
    how: "Refining | None" = None,
) -> int:
    """The batch size that a run in `out` was begun with, so that its batches stay the same; else the largest whose
    steps fit, and whose refinement does.
    """
    from lsap_jax.configuration import recorded
    from lsap_jax.inversion.memory import largest_batch
    from lsap_jax.runs.refining import RefiningWorker
    from lsap_jax.runs.run import InversionWorker
    from lsap_jax.storage.results import read_run

    if (out / "run.json").is_file():
        return int(recorded(read_run(out).get("config")).batch_size)
    inverter = InversionWorker(G, config, encoder=encoder).inverter
    if how is None:
        return largest_batch(inverter, images)
    return largest_batch(inverter, images, RefiningWorker(G, inverter.space, config, how).program)


def starts(
    args: Arguments,
    G: "Generator",
    source: "Source",
    config: "ConfigDict",
    classes: "Mapping[str, np.ndarray] | None" = None,
) -> dict[str, dict[str, np.ndarray]]:
    """Codes of `--init` by id; their digest goes into the configuration, so that a resumed run starts from the same."""
    from lsap_jax.inversion.start import read_start, starting_codes
    from lsap_jax.rendering.render import space_of
    from lsap_jax.spaces import space_from_config
    from lsap_jax.storage.results import read_run
    from lsap_jax.storage.weights_file import digest

    space = space_from_config(config, G)
    kind, given = read_start(args.flags.init, source.ids, args.flags.init_kind)
    found_in = space_of(read_run(args.flags.init), G) if kind == "run" else None
    start, residuals = starting_codes(G, space, kind, given, found_in, classes)
    config.init.codes = digest({f"{id}/{key}": a for id, code in given.items() for key, a in code.items()})
    if len(start) < len(source):
        print(
            f"{len(source) - len(start)} of {len(source)} images have no code in {args.flags.init} and start as usual",
            file=sys.stderr,
        )
    if residuals is not None and residuals.max() > EXACT:
        print(
            f"the codes are fitted by {space.name}: |ws - ws given| / |ws given - w_avg| is {residuals.mean():.3g} on "
            f"average, {residuals.max():.3g} at most",
            file=sys.stderr,
        )
    return start
