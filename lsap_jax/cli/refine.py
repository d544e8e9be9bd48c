"""Refine the images of a run beyond what its codes can represent, into another run folder.

usage: lsap-jax refine RUN --method NAME [--weights FILE] [--masks FOLDER] [--config.refine.KEY=value ...]
                       [--batch_size N] [--seed N] --out DIR

DIR is a run folder that also has refined/ID.npz: changes of the generator's weights, or of its features, for each
image. Targets and codes are those of RUN (sam moves the codes); pictures and metrics are of the refined images.
`verify`, `edit`, `evaluate`, `report` and `export` take DIR like any run. Run the same command again to finish an
interrupted one.

--config.refine.KEY=value sets an option of the method. run.json records the options, and FILE by its path and the
SHA-256 of its tensors; if pictures need the networks in it, the commands above load it again.

FOLDER/ID.png, if there is one, says how much each pixel of the image ID counts: a grey square picture of any size,
black for not at all, white for fully. Images without one are refined as a whole. The method dhr refines whole images;
its masks come from a parser and say which pixels may be in the generator's domain (docs/dhr.md).

Exit status: 0 all done, 1 some images failed (failures.jsonl says why), 2 unusable arguments, 130 after Ctrl-C, 143
after SIGTERM.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Any

from absl.flags import FlagValues

from lsap_jax.cli.arguments import Arguments, new_flags, number, text
from lsap_jax.cli.computing import choose_engine, choose_method, choose_shard, computed, engine_flags, take_over_threads


def flags() -> FlagValues:
    values = new_flags()
    text(values, "method", "name of the method of result refinement")
    text(values, "weights", "file of the method's networks (default: those that come with the generator)")
    text(values, "masks", "folder of masks, ID.png: grey, 0 to 255 as 0 to 1 (default: every pixel counts)")
    text(values, "out", "folder of the refined run")
    number(values, "batch_size", "images at a time, over all devices (default: as in RUN)", lower=1)
    number(values, "seed", "seed of the method's random numbers", 0)
    text(values, "generator", "file of the generator, if it is not where run.json says")
    engine_flags(values)
    return values


def run(args: Arguments) -> int:
    args.required("method")
    args, chosen = choose_method(args, "method")  # before anything is loaded
    assert chosen is not None
    args.no_config()
    (name,) = args.only("RUN")
    folder, out, values = Path(name), Path(args.required("out")), args.flags
    take_over_threads(out)
    engine: dict[str, Any] = {**choose_engine(args), "shard": choose_shard(args)}
    from lsap_jax.cli.runs import generator_of
    from lsap_jax.configuration import recorded
    from lsap_jax.data.masks import mask_files
    from lsap_jax.report.run_report import write_run_report
    from lsap_jax.runs.generators import with_weights
    from lsap_jax.runs.refine import refine_run
    from lsap_jax.runs.refining import refining
    from lsap_jax.storage.results import read_failures, read_manifest, read_run

    record, manifest = read_run(folder), read_manifest(folder)
    if failures := read_failures(folder):
        print(f"{len(failures)} images of {folder} have no code and are left out", file=sys.stderr)
    masks = None if values.masks is None else mask_files(values.masks, sorted(manifest))
    if masks is not None and (bare := len(manifest) - len(masks)):
        print(f"{bare} of {len(manifest)} images have no mask in {values.masks}: refined without one", file=sys.stderr)
    G = with_weights(generator_of(folder, record, values.generator), values.weights)
    how = refining(G, chosen.method, values.weights, chosen.options, values.seed, recorded(record.get("config")))
    start = partial(refine_run, G, folder, out, how, batch_size=values.batch_size, masks=masks, **engine)
    return computed(start, out, len(manifest), page=write_run_report)
