"""How many steps F/Z+ needs: variants of start, rate and schedule, each at several lengths, beside the paper's setting.

    python benchmarks/frontier.py --images avatars_64.npz [--count 24] [--steps 150 300] [--variants NAME ...]
    python benchmarks/frontier.py --images avatars_64.npz --reference RUN    beside a finished run of these images

A schedule ends where the steps end, so every length is a run of its own. Printed per variant and length: mean loss (the
weighted total that all of them minimise), MSE, SSIM and perceptual distance of the kept codes with 95 % bootstrap
intervals, on how many images the loss is no higher than the reference's, the mean ratio of the losses, and seconds per
image.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from pairs import interval

import lsap_jax
from lsap_jax.storage.results import read_arrays, read_manifest
from lsap_jax.training.dataset import load_pack

FAST = {"optimizer.schedule": "cosine"}
VARIANTS: dict[str, dict] = {
    "paper": {},
    "ramp": {"optimizer.schedule": "ramp", "optimizer.lr": 0.05},
    "cosine": {**FAST, "optimizer.lr": 0.05},
    "cosine .1": {**FAST, "optimizer.lr": 0.1},
    "cosine, f .02": {**FAST, "optimizer.lr": 0.05, "optimizer.lr_f": 0.02},
    "riemannian": {**FAST, "optimizer.lr": 0.05, "retraction": "riemannian"},
    "50 steps in w": {"init.w_steps": 50},
    "w_avg": {"init.detail": "w_avg"},
    "w_avg, cosine": {**FAST, "optimizer.lr": 0.05, "init.detail": "w_avg"},
    "w_avg, cosine, f .02": {**FAST, "optimizer.lr": 0.05, "optimizer.lr_f": 0.02, "init.detail": "w_avg"},
    "encoder": {"init.detail": "encoder"},
    "encoder, cosine .02": {**FAST, "optimizer.lr": 0.02, "init.detail": "encoder"},
    "encoder, cosine": {**FAST, "optimizer.lr": 0.05, "init.detail": "encoder"},
    "encoder, cosine, f .02": {**FAST, "optimizer.lr": 0.05, "optimizer.lr_f": 0.02, "init.detail": "encoder"},
}
METRICS = ("mse", "ssim", "discriminator_distance")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", default="toonhead64")
    parser.add_argument("--images", required=True, help="an .npz pack with `images`, of which the last are taken")
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--steps", type=int, nargs="+", default=[150, 300])
    parser.add_argument("--batch_size", type=int, default=24)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--reference", default="", help="a run of f/z+ on these images, by benchmarks/heldout.py")
    args = parser.parse_args()
    G = lsap_jax.load_generator(args.generator)
    images, ids = heldout(args, G)
    reference = losses_of(Path(args.reference), ids) if args.reference else None
    if reference is not None:
        print(f"{args.reference}: loss {interval(reference)}")
    print(f"| variant | steps | loss | {' | '.join(METRICS)} | no higher | ratio | s per image |")
    print(f"|---|---|---|{'---|' * len(METRICS)}---|---|---|")
    for name in args.variants:
        for steps in args.steps:
            started = time.perf_counter()
            found = lsap_jax.invert(
                G, images, "f/z+", steps=steps, ids=ids, batch_size=args.batch_size, **VARIANTS[name]
            )
            seconds = (time.perf_counter() - started) / len(images)
            loss = found.curves["loss"].min(axis=1)
            against = ["", ""]
            if reference is not None:
                against = [f"{(loss <= reference).sum()} of {len(loss)}", f"{(loss / reference).mean():.3f}"]
            cells = [interval(loss), *(interval(found.metrics[m]) for m in METRICS), *against, f"{seconds:.2f}"]
            print(f"| {name} | {steps} | {' | '.join(cells)} |", flush=True)


def heldout(args: argparse.Namespace, G: lsap_jax.Generator) -> tuple[np.ndarray, list[str]]:
    """Evenly spread images of the last 200 with the ids that `benchmarks/heldout.py` gives them."""
    pack = load_pack(args.images, G.img_resolution, G.img_channels)
    if args.reference:
        ids = sorted(read_manifest(args.reference))
        ids = [ids[i] for i in np.linspace(0, len(ids) - 1, min(args.count, len(ids))).round().astype(int)]
        return pack[[int(id) for id in ids]], ids
    indices = np.linspace(len(pack) - 200, len(pack) - 1, args.count).round().astype(int)
    return pack[indices], [f"{i:06d}" for i in indices]


def losses_of(run: Path, ids: list[str]) -> np.ndarray:
    """Least loss of each image of a run."""
    manifest = read_manifest(run)
    return np.array([read_arrays(run, id, "curves", manifest=manifest)["loss"].min() for id in ids])


if __name__ == "__main__":
    main()
