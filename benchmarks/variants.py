"""Reconstruction of held-out images by variants of the inversion: one table, side by side in one run.

    python benchmarks/variants.py spaces       z, z+, f/z, f/z+
    python benchmarks/variants.py retractions  eq. 5 after the step, normalisation inside the graph, Riemannian Adam
    python benchmarks/variants.py bases        base code at 4, 8 and 16 px, all from the generator's own feature

Images are the bundled samples, or the last `--count` of an .npz pack named with `--images`. Printed per variant: mean
MSE, PSNR, SSIM and perceptual distance with the standard error of the mean, the loss at some steps, seconds per
image-step. `--picture FILE` saves targets, reconstructions, and the same codes moved by one strong random direction
in z.
"""

import argparse
import time
from pathlib import Path

import numpy as np

import lsap_jax
from lsap_jax.data import open_images
from lsap_jax.data.bundled import sample_images
from lsap_jax.pixels import to_uint8
from lsap_jax.runs.invert import Inversion
from lsap_jax.storage.pictures import grid, save_png
from lsap_jax.training.dataset import load_pack

VARIANTS: dict[str, dict[str, tuple[str, dict]]] = {
    "spaces": {name: (name, {}) for name in ("z", "z+", "f/z", "f/z+")},
    "retractions": {
        f"{space} {how}": (space, {"retraction": how})
        for space in ("z+", "f/z+")
        for how in ("project", "normalise", "riemannian")
    },
    "bases": {f"f/z+ at {r}": ("f/z+", {"base_resolution": r, "init.f": "w_avg"}) for r in (4, 8, 16)},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=VARIANTS)
    parser.add_argument("--generator", default="toonhead64")
    parser.add_argument("--images", default="", help="an .npz pack with `images`; the bundled samples by default")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument(
        "--strength", type=float, default=8.0, help="of the move in the picture; |z| is the root of z_dim"
    )
    parser.add_argument("--picture", default="")
    args = parser.parse_args()
    G = lsap_jax.load_generator(args.generator)
    images = load(args, G)
    print(f"{len(images)} images, {args.steps} steps, batch {args.batch_size}, generator {args.generator}")
    rows = [images[:8]]
    for name, (space, overrides) in VARIANTS[args.what].items():
        started = time.perf_counter()
        inv = lsap_jax.invert(
            G,
            images,
            space=space,
            steps=args.steps,
            batch_size=args.batch_size,
            **{"chunk": args.steps + 1, **overrides},
        )
        print_row(name, inv, (time.perf_counter() - started) / len(images) / args.steps)
        rows += [to_uint8(inv.images[:8]), to_uint8(moved(G, inv, args.strength)[:8])]
    if args.picture:
        save_png(
            Path(args.picture), grid(np.concatenate([row[: len(images)] for row in rows]), columns=min(8, len(images)))
        )
        print(f"{args.picture}: targets, then per variant reconstructions and moved codes")


def load(args: argparse.Namespace, G: lsap_jax.Generator) -> np.ndarray:
    """uint8 [N, R, R, C]."""
    if args.images:
        return load_pack(args.images, G.img_resolution, G.img_channels)[-args.count :]
    source = open_images(sample_images(), resolution=G.img_resolution, channels=G.img_channels)
    return np.stack([source.load(i).image for i in range(len(source))])[: args.count]


def moved(G: lsap_jax.Generator, inv: Inversion, strength: float) -> np.ndarray:
    """Images of the codes moved by one random unit direction, the same for all."""
    direction = np.random.default_rng(0).standard_normal(G.z_dim).astype(np.float32)
    direction /= np.linalg.norm(direction)
    codes = inv.space.move(inv.codes, direction, np.full(len(inv.images), strength, np.float32))
    return lsap_jax.render(G, inv.space, codes)


def print_row(name: str, inv: Inversion, seconds: float) -> None:
    """One variant: metrics with standard errors, loss over the steps."""
    parts = [f"{k} {v.mean():.4f} ± {v.std(ddof=1) / len(v) ** 0.5:.4f}" for k, v in inv.metrics.items()]
    loss = inv.curves["loss"].mean(axis=0)
    chosen = sorted({0, len(loss) // 8, len(loss) // 4, len(loss) // 2, len(loss) - 1})
    steps = ", ".join(f"{i}: {loss[i]:.3f}" for i in chosen)
    print(f"{name:22} {'  '.join(parts)}  loss at step {steps}  {seconds * 1e3:.1f} ms per image-step", flush=True)


if __name__ == "__main__":
    main()
