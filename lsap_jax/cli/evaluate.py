"""More metrics of a run: those of each image as columns of metrics.csv, those of the whole set in evaluation.json.

usage: lsap-jax evaluate RUN [--generator G] [--perceptual FILE,FILE ...] [--inception FILE] [--identity dlib|FILE]
                         [--ppl SAMPLES] [--engine local|ray]

It adds ssim01, ms_ssim, LSAP's NSCD (mean and by layer), and the perceptual distances of the given files of LPIPS
weights, which `lsap-jax convert` wrote (vgg, alex, squeeze). Beside NSCD it prints the level of genuine samples of the
generator: codes below it have collapsed towards the mean, which is not better. KID, and with --inception (converted
Inception weights) FID, compare the set of reconstructions with the set of targets. --identity compares the faces of
photographs with those of their reconstructions, by dlib's ResNet (bundled, 128 dimensions, CC0) or by a face network in
a file; the columns name the network, and images without a face are counted and left out. --ppl measures the generator's
perceptual path length in Z and W. `lsap-jax report RUN` then shows the new columns. Images of a conditional generator
are compared with samples of their class. Run it again when it was interrupted, or after a run was resumed: it does
only what is missing. --shard and --engine are as for `lsap-jax invert`; the shard that finds all images measured
compares the sets.

Exit status: 0 all done, 2 unusable arguments or a damaged result, 130 after Ctrl-C, 143 after SIGTERM.
"""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl.flags import FlagValues

from lsap_jax.cli.arguments import Arguments, new_flags, number, switch, text
from lsap_jax.cli.computing import choose_engine, choose_shard, computed, engine_flags, take_over_threads
from lsap_jax.cli.runs import identity_flag, weights_flag

if TYPE_CHECKING:
    from lsap_jax.runs.work import Summary


METRICS = "metrics.csv and evaluation.json"


def flags() -> FlagValues:
    values = new_flags()
    text(values, "generator", "file of the generator, if it is not where run.json says")
    weights_flag(values)
    text(values, "perceptual", "LPIPS weights that `lsap-jax convert` wrote; separate several by commas")
    text(values, "inception", "Inception weights for FID that `lsap-jax convert` wrote")
    identity_flag(values)
    number(values, "ppl", "pairs of samples for path length (published: 50,000 and more); 0 leaves it out", 0, lower=0)
    switch(values, "ppl_crop", "measure path length on the middle of aligned faces, as published for FFHQ; needs LPIPS")
    number(values, "batch_size", "images at a time, over all devices", 16, lower=1)
    engine_flags(values)
    return values


def run(args: Arguments) -> int:
    args.no_config()
    (name,) = args.only("RUN")
    folder, values = Path(name), args.flags
    take_over_threads(folder)
    engine: dict[str, Any] = {**choose_engine(args), "shard": choose_shard(args)}
    from lsap_jax.cli.runs import generator_of, meter, with_shown_statistics
    from lsap_jax.models.network_file import load
    from lsap_jax.runs.evaluate_run import FOLDER, evaluate_run
    from lsap_jax.storage.results import read_manifest, read_run

    network = load(values.inception, "inception") if values.inception else None
    distances = [load(name, "lpips") for name in (values.perceptual or "").split(",") if name]
    identity = meter(values.identity)
    G = generator_of(folder, read_run(folder), values.generator, values.weights)
    if G.c_dim and G.labels is None:
        print(f"{folder}: no class was given for its images, so NSCD and KID are left out", file=sys.stderr)
    else:
        G = with_shown_statistics(G)
    options = {"ppl": values.ppl, "ppl_crop": values.ppl_crop, "identity": identity, **engine}
    start = partial(evaluate_run, G, folder, distances, network, values.batch_size, **options)

    def measured(out: Path) -> list[str]:
        return [id for one in out.glob("*/") for id in read_manifest(one)]

    images = len(read_manifest(folder))
    return computed(start, folder / FOLDER, images, line=partial(outcome, name), finished=measured, last=METRICS)


def outcome(folder: str, found: "Summary") -> str:
    """What is printed: the metrics, once they are there."""
    from lsap_jax.storage.results import read_evaluation

    if not found.whole or found.left:
        return f"{found.done} images measured; {METRICS} come when all are"
    return summary(folder, read_evaluation(Path(folder)))


def summary(folder: str, record: dict[str, Any]) -> str:
    """What is printed: a line per metric, the genuine level beside NSCD, and the set's distances."""
    from lsap_jax.metrics.kid import few

    lines = [f"{record['images']} images of {folder}, space {record['space']}; means:"]
    faces = record.get("identity")
    for name, value in record["means"].items():
        if name.startswith("nscd_"):
            continue
        beside = f"   genuine samples: {record['nscd_of_genuine_samples']:.4g}" if name == "nscd" else ""
        if faces is not None and (ends := faces["intervals"].get(name)):
            beside = f"   [{ends[0]:.3g}, {ends[1]:.3g}]"
        marked = "   (also minimised)" if record["metrics"].get(name, {}).get("also_loss") else ""
        lines.append(f"  {name:24} {value:10.4g}{beside}{marked}")
    layers = [f"{value:.3g}" for name, value in record["means"].items() if name.startswith("nscd_")]
    if layers:
        lines.append(f"  nscd by layer: {' '.join(layers)}")
    if faces is not None:
        lines.append(f"  identity: {faces_compared(faces)}")
    whole = record["set"]
    if "fid" in whole:
        lines.append(f"  fid {whole['fid']:.4g} {whole['fid_note']}".rstrip())
    if "kid" in whole:
        where = whole["features"] if isinstance(whole["features"], str) else whole["features"]["network"]
        lines.append(f"  kid {whole['kid']:.4g} ± {whole['kid_stderr']:.2g} in {where}")
        lines += [f"      {note}"] if (note := few(record["images"])) else []
    if path := record["ppl"]:
        values = ", ".join(f"{name} {path[name]:.4g}" for name in ("z_full", "z_end", "w_full", "w_end"))
        lines.append(f"  ppl {values} by {path['network']}, {path['samples']} samples")
    return "\n".join(lines)


def faces_compared(faces: dict[str, Any]) -> str:
    """What identities are measured of and by, and what they lack."""
    from lsap_jax.networks.dlib_resnet import SAME_PERSON

    same = ""
    if "same_person" in faces:
        same = f"distance below {SAME_PERSON}, one person by dlib's documentation: {faces['same_person']}; "
    return (
        f"{faces['compared']} images compared by {faces['network']}; {same}"
        f"targets without a face: {faces['targets_without_face']}; "
        f"reconstructions without one: {faces['reconstructions_without_face']}"
    )
