"""How far codes of z spaces move from where they start: angle from the start and NSCD over the steps, for three starts.

    python benchmarks/starts.py --images PACK.npz [--count 16] [--space f/z+] [--steps 300] [--plot docs/starts.svg]

The last `--count` images of the pack are inverted from a random z, from the z nearest to the mean w and from the latent
encoder's code. The angle is the mean over images and over the rows that make the image, between z_i after so many
steps and z_i at the start; two random z_i are 90 degrees apart.
"""

import argparse
from pathlib import Path

import jax
import numpy as np
from variants import load

import lsap_jax
from lsap_jax.configuration import load_config
from lsap_jax.inversion.inverter import Inverter
from lsap_jax.inversion.jobs import Job
from lsap_jax.runs.evaluation import evaluate, genuine_nscd
from lsap_jax.spaces.statistics import with_statistics

STARTS = {"random": "#a8571b", "w_avg": "#2c6690", "encoder": "#3d7a45"}
LABELS = {"random": "random z", "w_avg": "mean w", "encoder": "latent encoder"}
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, PANEL, GAP = 800, 300, 48, 44, 34, 290, 146


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", default="toonhead64")
    parser.add_argument("--images", default="", help="an .npz pack with `images`; the bundled samples by default")
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--space", default="f/z+")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--every", type=int, default=25)
    parser.add_argument("--plot", default="", help="an .svg with both over the steps")
    args = parser.parse_args()
    G = with_statistics(lsap_jax.load_generator(args.generator))
    images = load(args, G)
    print("| start | steps | MSE | angle from the start, degrees | NSCD |")
    print("|---|---|---|---|---|")
    curves = {start: course(G, images, start, args) for start in STARTS}
    level = genuine_nscd(G, inverter_of(G, images, "random", args).space)
    print(f"{len(images)} images, {args.space}; NSCD of genuine samples {level:.4f}")
    if args.plot:
        Path(args.plot).write_text(plot(curves, level), encoding="utf-8")


def inverter_of(G: lsap_jax.Generator, images: np.ndarray, start: str, args: argparse.Namespace) -> Inverter:
    """The inversion of these images as one batch on one device."""
    options = {"steps": args.steps, "chunk": args.every, "batch_size": len(images), "init.detail": start}
    return Inverter(G, load_config(args.space, options), devices=jax.local_devices()[:1])


def course(
    G: lsap_jax.Generator, images: np.ndarray, start: str, args: argparse.Namespace
) -> list[tuple[int, float, float]]:
    """(steps, angle, NSCD) of the codes after every chunk of steps."""
    inverter = inverter_of(G, images, start, args)
    jobs = [Job(id=str(i), image=image) for i, image in enumerate(images)]
    state, targets = inverter.begin(jobs)
    first, points = np.asarray(state.codes["z"][0]), []
    for i in range(inverter.chunks + 1):
        codes = {key: np.asarray(code[0]) for key, code in state.codes.items()}
        found = evaluate(G, inverter.space, codes, images, batch_size=len(images))
        steps, angle = min(i * inverter.length, args.steps), mean_angle(G, inverter.space, first, codes["z"])
        mse, nscd = (float(found[name].mean()) for name in ("mse", "nscd"))
        print(f"| {LABELS[start]} | {steps} | {mse:.4f} | {angle:.1f} | {nscd:.4f} |", flush=True)
        points.append((steps, angle, nscd))
        if steps == args.steps:
            break
        state, _ = inverter.advance(jobs, state, targets)
    return points


def mean_angle(G: lsap_jax.Generator, space: lsap_jax.Space, a: np.ndarray, b: np.ndarray) -> float:
    """Degrees between the z_i of two batches of codes, over images and the rows that make the image."""
    x, y = (z.reshape(len(z), -1, G.z_dim).astype(np.float64) for z in (a, b))
    if x.shape[1] > 1:
        rows = sorted({layer.row for layer in G.config.live_layers(space.base_resolution)})
        x, y = x[:, rows], y[:, rows]
    cosine = (x * y).sum(-1) / np.linalg.norm(x, axis=-1) / np.linalg.norm(y, axis=-1)
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean())


def plot(curves: dict[str, list[tuple[int, float, float]]], level: float) -> str:
    """Angle and NSCD over the steps, a line per start, as SVG."""
    last = max(points[-1][0] for points in curves.values())
    parts = []
    for index, title in enumerate(("Angle of z from its start, degrees", "NSCD")):
        x0 = LEFT + index * (PANEL + GAP)
        values = [point[1 + index] for points in curves.values() for point in points] + [level] * index
        low, high = min(values) * (0.9 * index), max(values) * 1.05

        def y(v: float, low: float = low, high: float = high) -> float:
            return HEIGHT - BOTTOM - (v - low) / (high - low) * (HEIGHT - BOTTOM - TOP)

        parts.append(f'<text x="{x0}" y="20" font-weight="600">{title}</text>')
        for i in range(5):
            value, at = low + (high - low) * i / 4, last * i / 4
            parts.append(f'<path d="M{x0} {y(value):.1f}h{PANEL}" stroke="#e3e3e0"/>')
            label = f"{value:.3f}" if index else f"{value:.0f}"
            parts.append(f'<text x="{x0 - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{label}</text>')
            right = x0 + PANEL * i / 4
            parts.append(f'<text x="{right:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{at:.0f}</text>')
        if index:
            parts.append(f'<path d="M{x0} {y(level):.1f}h{PANEL}" stroke="#888" stroke-dasharray="4 3"/>')
            parts.append(
                f'<text x="{x0 + PANEL}" y="{y(level) - 4:.1f}" text-anchor="end" fill="#666">genuine samples</text>'
            )
        for start, points in curves.items():
            line = " ".join(f"{x0 + PANEL * p[0] / last:.1f},{y(p[1 + index]):.1f}" for p in points)
            parts.append(f'<polyline points="{line}" fill="none" stroke="{STARTS[start]}" stroke-width="1.8"/>')
            if not index:
                at = y(points[-1][1])
                parts.append(
                    f'<text x="{x0 + PANEL + 4}" y="{at + 4:.1f}" fill="{STARTS[start]}">{LABELS[start]}</text>'
                )
        parts.append(f'<text x="{x0 + PANEL / 2}" y="{HEIGHT - 8}" text-anchor="middle">steps</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="11" fill="#222"><rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


if __name__ == "__main__":
    main()
