"""What LSAP's alignment costs and gains: W+ optimisation over a sweep of the weight of NSCD, on held-out images.

    python benchmarks/alignment.py [--images PACK.npz] [--count 24] [--steps 200] [--space w+] [--weights 0 0.05 ...]
                                   [--plot docs/alignment.svg]

Images are the bundled samples, or the last `--count` of an .npz pack. Printed per weight: mean and standard error of
MSE, perceptual distance and NSCD, and how often a strong random move along a direction in W leaves the discriminator's
logit above that of the median genuine sample, as a second look at the same codes.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from variants import load

import lsap_jax
from lsap_jax.report.page import escape
from lsap_jax.runs.evaluation import evaluate, genuine_nscd

WEIGHTS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
SAMPLES = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", default="toonhead64")
    parser.add_argument("--images", default="", help="an .npz pack with `images`; the bundled samples by default")
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch_size", type=int, default=24)
    parser.add_argument("--space", default="w+")
    parser.add_argument("--weights", type=float, nargs="+", default=WEIGHTS)
    parser.add_argument("--rate", type=float, default=0.01, help="learning rate")
    parser.add_argument("--strength", type=float, default=0.5, help="of the move, in units of the spread of w")
    parser.add_argument("--plot", default="", help="an .svg with MSE and perceptual distance against NSCD")
    args = parser.parse_args()
    G = lsap_jax.with_statistics(lsap_jax.load_generator(args.generator))
    images = load(args, G)
    level = genuine_nscd(G, lsap_jax.parse_space(args.space))
    median = np.median(logits(G, sampled(G)))
    print(f"{len(images)} images, {args.space}, {args.steps} steps at {args.rate}; NSCD of genuine samples {level:.4f}")
    print("| weight | MSE | perceptual distance | NSCD | moved codes above the median genuine logit |")
    print("|---|---|---|---|---|")
    rows = []
    for weight in args.weights:
        options = {"loss.nscd": weight, "optimizer.lr": args.rate, "chunk": args.steps + 1}
        options |= {"steps": args.steps, "batch_size": args.batch_size}
        inv = lsap_jax.invert(G, images, space=args.space, **options)
        found = evaluate(G, inv.space, inv.codes, images, batch_size=args.batch_size)
        name = next(k for k in found if k.endswith("distance") or k.startswith("lpips"))
        above = float((logits(G, moved(G, inv, args.strength)) > median).mean())
        values = [found[k] for k in ("mse", name, "nscd")]
        cells = " | ".join(f"{v.mean():.4f} ± {v.std(ddof=1) / len(v) ** 0.5:.4f}" for v in values)
        print(f"| {weight:g} | {cells} | {above:.2f} |", flush=True)
        rows.append((weight, *(float(v.mean()) for v in values)))
    if args.plot:
        Path(args.plot).write_text(plot(rows, level, name), encoding="utf-8")


def sampled(G: lsap_jax.Generator) -> np.ndarray:
    """Images of `SAMPLES` z."""
    z = np.asarray(
        lsap_jax.parse_space("z").retract({"z": jax.random.normal(jax.random.key(1), (SAMPLES, G.z_dim))})["z"]
    )
    return lsap_jax.render(G, "z", {"z": z}, batch_size=32)


def moved(G: lsap_jax.Generator, inv: lsap_jax.Inversion, strength: float) -> np.ndarray:
    """Images of the codes moved by eight random unit directions of W, each both ways."""
    assert G.statistics is not None
    step = strength * float(G.statistics.w_spread)
    found = []
    for direction in np.random.default_rng(0).standard_normal((8, G.w_dim)).astype(np.float32):
        for sign in (-step, step):
            unit = direction / np.linalg.norm(direction)
            codes = inv.space.move(inv.codes, unit, np.full(len(inv.images), sign, np.float32))
            found.append(lsap_jax.render(G, inv.space, codes, batch_size=len(inv.images)))
    return np.concatenate(found)


def logits(G: lsap_jax.Generator, images: np.ndarray) -> np.ndarray:
    """The discriminator's logit of every image by itself: the minibatch layer sees groups of one."""
    D = G.discriminator
    assert D is not None, "this benchmark needs a generator with its discriminator"
    one = jax.jit(lambda D, images: jax.lax.map(lambda image: D(image[None])[0, 0], images))
    return np.asarray(one(D, jnp.asarray(images)))


def plot(rows: list[tuple[float, ...]], level: float, name: str) -> str:
    """MSE and perceptual distance against NSCD, a point per weight, as SVG."""
    width, height, left, bottom, top = 720, 330, 62, 48, 34
    panel = 270
    nscd = [row[3] for row in rows]
    low, high = min(*nscd, level) * 0.95, max(*nscd, level) * 1.05
    parts = []
    for index, (column, title, colour) in enumerate(((1, "MSE", "#2c6690"), (2, name.replace("_", " "), "#a8571b"))):
        x0 = left + index * (panel + 80)
        values = [row[column] for row in rows]
        least, peak = min(values) * 0.9, max(values) * 1.05

        def x(v: float, x0: int = x0) -> float:
            return x0 + (v - low) / (high - low) * panel

        def y(v: float, least: float = least, peak: float = peak) -> float:
            return height - bottom - (v - least) / (peak - least) * (height - bottom - top)

        parts.append(f'<text x="{x0}" y="20" font-weight="600">{escape(title)} against NSCD</text>')
        for i in range(5):
            value, at = least + (peak - least) * i / 4, low + (high - low) * i / 4
            parts.append(f'<path d="M{x0} {y(value):.1f}h{panel}" stroke="#e3e3e0"/>')
            parts.append(f'<text x="{x0 - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.3f}</text>')
            parts.append(f'<text x="{x(at):.1f}" y="{height - bottom + 18}" text-anchor="middle">{at:.3f}</text>')
        parts.append(f'<path d="M{x(level):.1f} {top}V{height - bottom}" stroke="#888" stroke-dasharray="4 3"/>')
        parts.append(
            f'<text x="{x(level) - 5:.1f}" y="{top + 10}" text-anchor="end" fill="#666">genuine samples</text>'
        )
        points = " ".join(f"{x(row[3]):.1f},{y(row[column]):.1f}" for row in rows)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        for row in rows:
            parts.append(f'<circle cx="{x(row[3]):.1f}" cy="{y(row[column]):.1f}" r="3.5" fill="{colour}"/>')
            shown = min((abs(x(row[3]) - x(other[3])) for other in rows if other[0] < row[0]), default=9.0)
            if shown > 8:  # else it would lie on the label of a lower weight
                parts.append(f'<text x="{x(row[3]) + 6:.1f}" y="{y(row[column]) - 6:.1f}">{row[0]:g}</text>')
        parts.append(f'<text x="{x0 + panel / 2}" y="{height - 8}" text-anchor="middle">NSCD (numbers: weight)</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="11" fill="#222"><rect width="{width}" height="{height}" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


if __name__ == "__main__":
    main()
