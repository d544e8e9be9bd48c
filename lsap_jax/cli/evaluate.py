"""More metrics of a run: of every image as columns of metrics.csv, of the whole set in evaluation.json.

usage: lsap-jax evaluate RUN [--generator G] [--perceptual FILE,FILE ...] [--inception FILE]

Added are ssim01, ms_ssim, NSCD of LSAP (mean and by layer), and the perceptual distances of the files named, LPIPS
weights that `lsap-jax convert` wrote (vgg, alex, squeeze). Printed beside NSCD is the level that genuine samples of the
generator have: codes below it have collapsed towards the mean, which is not better. The set of reconstructions is
compared with the set of targets by KID, and with --inception (converted Inception weights) by FID. `lsap-jax report
RUN` then shows the new columns. A run that was resumed needs this again.
"""

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from absl.flags import FlagValues

from lsap_jax.cli.arguments import Arguments, new_flags, number, text
from lsap_jax.errors import LsapError

if TYPE_CHECKING:
    from lsap_jax.inversion.results import Record


def flags() -> FlagValues:
    values = new_flags()
    text(values, "generator", "where the generator is, if not where run.json says")
    text(values, "perceptual", "LPIPS weights that `lsap-jax convert` wrote; several are separated by commas")
    text(values, "inception", "Inception weights of FID that `lsap-jax convert` wrote")
    number(values, "batch_size", "images at a time", 16, lower=1)
    return values


def run(args: Arguments) -> int:
    args.no_config()
    (folder,) = args.only("RUN")
    values = args.flags
    weights = [name for name in (values.perceptual or "").split(",") if name]
    record = evaluate_run(Path(folder), values.generator, weights, values.inception, values.batch_size)
    print(summary(folder, record))
    return 0


def evaluate_run(
    folder: Path, generator: str | None, weights: list[str], inception: str | None, batch_size: int
) -> dict[str, Any]:
    """Writes metrics.csv and evaluation.json of a run; returns what the latter holds.

    Raises:
        LsapError: not a run folder, nothing finished in it, a result has changed, or another generator.
    """
    from ml_collections import ConfigDict

    from lsap_jax.cli.runs import generator_of, with_shown_statistics
    from lsap_jax.inversion import evaluation
    from lsap_jax.inversion.atomic import write_files
    from lsap_jax.inversion.encoding import metrics_csv
    from lsap_jax.inversion.objective import make_perceptual
    from lsap_jax.inversion.rendering import space_of
    from lsap_jax.inversion.results import read_code, read_image, read_manifest, read_run
    from lsap_jax.losses.lpips_file import load_lpips
    from lsap_jax.metrics.fid import load_inception

    run, manifest = read_run(folder), read_manifest(folder)
    ids = sorted(manifest)
    if not ids:
        raise LsapError(f"{folder}: has no finished image yet; run its `lsap-jax invert` command again")
    network = load_inception(inception) if inception else None
    distances = [load_lpips(path) for path in weights]
    G = with_shown_statistics(generator_of(folder, run, generator))
    space = space_of(run, G)
    minimised = make_perceptual(ConfigDict(run["config"]), G)[0]
    if minimised is not None and minimised.name not in {p.name for p in distances}:
        distances.insert(0, minimised)
    codes = [read_code(folder, name, manifest=manifest) for name in ids]
    stacked = {key: np.stack([code[key] for code in codes]) for key in space.keys}
    targets, images = (
        np.stack([read_image(folder, name, part, manifest=manifest) for name in ids]) for part in ("targets", "images")
    )
    found = evaluation.evaluate(G, space, stacked, targets, distances, batch_size)
    rows = _rows(folder, manifest)
    for i, name in enumerate(ids):
        rows[name] |= {metric: float(v[i]) for metric, v in found.items() if metric not in manifest[name]["metrics"]}
    record = {
        "images": len(ids),
        "space": space.name,
        "means": {metric: float(np.mean(v[np.isfinite(v)])) for metric, v in found.items() if np.isfinite(v).any()},
        "nscd_of_genuine_samples": evaluation.genuine_nscd(G, space),
        "set": evaluation.compare_sets(G, targets, images, network),
        "metrics": _described(run, evaluation.describe_metrics(G, space, distances)),
    }
    data = (json.dumps(record, indent=2, allow_nan=False) + "\n").encode()
    write_files({folder / "metrics.csv": metrics_csv(rows), folder / "evaluation.json": data})
    return record


def _rows(folder: Path, manifest: dict[str, "Record"]) -> dict[str, dict[str, float]]:
    """Rows of metrics.csv as they are, those of the manifest always its own."""
    table = folder / "metrics.csv"
    text = table.read_text("utf-8") if table.exists() else ""
    kept = {line.pop("id"): line for line in csv.DictReader(io.StringIO(text, newline=""))}
    earlier = {name: {k: float(v) for k, v in kept.get(name, {}).items() if v} for name in manifest}
    return {name: earlier[name] | manifest[name]["metrics"] for name in manifest}


def _described(run: dict[str, Any], described: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The descriptions, with whether each metric was also the loss."""
    weights = run["config"]["loss"]
    measured = run.get("metrics", {})
    also = {name for name, record in measured.items() if record.get("also_loss")}
    also |= {name for name in ("nscd",) if weights.get(name, 0) > 0}
    return {name: {**record, "also_loss": name in also} for name, record in described.items()}


def summary(folder: str, record: dict[str, Any]) -> str:
    """What is printed: a line per metric, the genuine level beside NSCD, and the set's distances."""
    lines = [f"{record['images']} images of {folder}, space {record['space']}; means:"]
    for name, value in record["means"].items():
        if name.startswith("nscd_"):
            continue
        beside = f"   genuine samples: {record['nscd_of_genuine_samples']:.4g}" if name == "nscd" else ""
        marked = "   (also minimised)" if record["metrics"].get(name, {}).get("also_loss") else ""
        lines.append(f"  {name:24} {value:10.4g}{beside}{marked}")
    layers = [f"{value:.3g}" for name, value in record["means"].items() if name.startswith("nscd_")]
    lines.append(f"  nscd by layer: {' '.join(layers)}")
    whole = record["set"]
    if "fid" in whole:
        lines.append(f"  fid {whole['fid']:.4g} {whole['fid_note']}".rstrip())
    if "kid" in whole:
        where = whole["features"] if isinstance(whole["features"], str) else whole["features"]["network"]
        lines.append(f"  kid {whole['kid']:.4g} ± {whole['kid_stderr']:.2g} in {where}")
    return "\n".join(lines)
