"""Export the codes of a run, the whole run as a sharded store (and back), or the generator tuned for an image.

usage: lsap-jax export RUN --format npy|pt|npz DST [--array NAME] [--ws]
       lsap-jax export RUN --format zarr STORE
       lsap-jax export STORE --format files RUN
       lsap-jax export RUN DST --format generator --id ID

npz: an array for each name of the code (z, f, ...) with the images on the first axis, and `ids` in the same order.
pt: a dict of tensors with the same names and the list `ids`, for `torch.load(DST, weights_only=True)`; with `--array`
only the tensor, as other tools load it. npy: one array. For a single tensor or an npy, DST.ids.txt has the ids, one per
line. Every code's SHA-256 is checked. `--ws` adds the W+ codes [N, num_ws, w_dim] of these codes, after the truncation
that the run used.

zarr: codes, pictures, targets, curves, metrics and manifest as one Zarr store of some thousands of files, however many
images there are; STORE is a folder, or a URL such as gs://BUCKET/NAME or s3://BUCKET/NAME. files: a store as a run
folder again. To continue either after an interruption, run the same command again.

generator: the generator that `refine --method pti` tuned for the image ID, or with refine.shared, without --id, for all
images: a converted file, or, if DST ends in .pt or .pth, the tensors of a StyleGAN2 in NVIDIA's names, for
`G.load_state_dict(torch.load(DST, weights_only=True))`.
"""

import sys
from pathlib import Path

from absl.flags import FlagValues

from lsap_jax.cli.arguments import Arguments, choice, new_flags, switch, text
from lsap_jax.cli.runs import weights_flag
from lsap_jax.errors import LsapError

FILES = ("npy", "pt", "npz")
FORMATS = (*FILES, "zarr", "files", "generator")


def flags() -> FlagValues:
    values = new_flags()
    choice(values, "format", FORMATS, "npy, pt, npz, zarr (default: by the suffix of DST), files or generator")
    text(values, "id", "for --format generator: the image whose generator is written")
    text(values, "array", "export only this array of the code (z, f, ws)")
    switch(values, "ws", "also export the W+ codes that the codes stand for")
    text(
        values, "generator", "for --ws and --format generator: file of the generator, if it is not where run.json says"
    )
    weights_flag(values)
    return values


def run(args: Arguments) -> int:
    args.no_config()
    source, target = args.only("RUN", "DST")
    kind = args.flags.format or Path(target).suffix.removeprefix(".")
    if kind not in FORMATS or kind in ("files", "generator") and not args.flags.format:
        raise LsapError(f"{target}: the suffix is not one of {', '.join(FORMATS[:-2])}; give --format=npz")
    if kind == "generator":
        return to_generator(args, Path(source), Path(target))
    if args.flags.id is not None:
        raise LsapError(f"--id={args.flags.id}: goes with --format=generator")
    if kind in FILES:
        return to_file(args, Path(source), Path(target), kind)
    for name in ("array", "ws", "generator", "weights"):
        if args.flags[name].value:
            raise LsapError(f"--{name}: goes with {', '.join(FILES)}; a store holds the whole run as it is")
    return to_store(Path(source), target) if kind == "zarr" else to_folder(source, Path(target))


def to_store(folder: Path, target: str) -> int:
    """Writes a run folder as a store."""
    from lsap_jax.storage.to_store import write_store

    store = write_store(folder, target, tell=tell)
    shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in store.arrays.items())
    print(f"{target}: {len(store.ids)} images, {shapes}")
    return 0


def to_folder(source: str, folder: Path) -> int:
    """Writes a store as a run folder."""
    from lsap_jax.storage.from_store import write_files
    from lsap_jax.storage.store import open_store

    store = open_store(source)
    changed = write_files(store, folder, tell=tell)
    others = f"; {changed} have other bytes than before and the same pixels, as PNG is compressed here" * (changed > 0)
    print(f"{folder}: {len(store.ids)} images{others}")
    return 0


def to_generator(args: Arguments, folder: Path, target: Path) -> int:
    """Writes the generator that was tuned for an image."""
    from lsap_jax.cli.runs import generator_of
    from lsap_jax.runs.export import nvlabs_parts, shares_generator, tuned_generator
    from lsap_jax.storage.array_file import write_tensors
    from lsap_jax.storage.results import read_manifest, read_run

    if args.flags.array is not None or args.flags.ws:
        raise LsapError("--array, --ws: are of codes; leave them out with --format=generator")
    run, manifest = read_run(folder), read_manifest(folder)
    shared = shares_generator(run)
    id = min(manifest, default="") if shared and args.flags.id is None else args.required("id")
    G = generator_of(folder, run, args.flags.generator, args.flags.weights)
    tuned = tuned_generator(G, folder, id, manifest)
    if target.suffix in (".pt", ".pth"):
        write_tensors(target, nvlabs_parts(tuned))
    else:
        tuned.save(target)
    print(f"{target}: the generator tuned for {'all images' if shared else id}, {tuned.img_resolution} px")
    return 0


def tell(done: int, total: int) -> None:
    """Prints the progress, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r{done:,} of {total:,} images", end="\n" if done == total else "", file=sys.stderr, flush=True)


def to_file(args: Arguments, folder: Path, target: Path, kind: str) -> int:
    """Writes the codes of a run in one file."""
    from lsap_jax.cli.runs import generator_of, statistics_counter
    from lsap_jax.runs.export import code_parts, ws_part
    from lsap_jax.storage.array_file import write_array_file
    from lsap_jax.storage.results import read_manifest, read_run

    record, manifest = read_run(folder), read_manifest(folder)
    ids = sorted(manifest)
    if not ids:
        raise LsapError(f"{folder}: has no finished image yet; there is nothing to export")
    parts = code_parts(folder, ids, manifest)
    if args.flags.ws or args.flags.array == "ws":
        G = generator_of(folder, record, args.flags.generator, args.flags.weights)
        parts["ws"] = ws_part(folder, ids, manifest, record, G, statistics_counter())
    if args.flags.array is not None:
        if args.flags.array not in parts:
            raise LsapError(f"--array={args.flags.array}: this run has {', '.join(parts)}")
        parts = {args.flags.array: parts[args.flags.array]}
    write_array_file(kind, target, parts, ids, alone=args.flags.array is not None)
    shapes = ", ".join(f"{name} {list(part.shape)}" for name, part in parts.items())
    print(f"{target}: {len(ids)} codes, {shapes}")
    return 0
