"""What lies behind the means of a comparison: courses of the MSE, and two presets image by image.

    python benchmarks/pairs.py RUN RUN [RUN ...]      run folders on the same images, as `lsap-jax compare` leaves them

Printed per run: mean MSE at some steps and the fall of the best loss over the last third; per pair of the first run
with each other: on how many images it is better, median and mean difference of MSE, the means without the five images
of the largest difference, the p values of non-inferiority at the paper's margin and at 5 %, and the best loss of the
first run on its way against where the other ends.
"""

import argparse
from pathlib import Path

import numpy as np

from lsap_jax.metrics.significance import bootstrap_interval, non_inferiority
from lsap_jax.storage.results import read_arrays, read_manifest

LEFT_OUT = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    runs = parser.parse_args().runs
    manifests = {run: read_manifest(run) for run in runs}
    ids = sorted(set.intersection(*(set(manifest) for manifest in manifests.values())))
    losses: dict[Path, np.ndarray] = {}
    for run in runs:
        curves = [read_arrays(run, name, "curves", manifest=manifests[run]) for name in ids]
        mse = np.mean([curve["mse"] for curve in curves], axis=0)
        losses[run] = np.array([np.minimum.accumulate(curve["loss"]) for curve in curves])
        best = losses[run].mean(axis=0)
        last = len(mse) - 1
        steps = sorted({0, last // 6, last // 3, 2 * last // 3, last})
        course = ", ".join(f"{step}: {mse[step]:.4f}" for step in steps)
        print(f"{run.name}: MSE at step {course}; best loss falls by {1 - best[last] / best[2 * last // 3]:.0%}")
    values = {
        run: {m: np.array([manifests[run][i]["metrics"][m] for i in ids]) for m in ("mse", "ssim")} for run in runs
    }
    first = runs[0]
    for other in runs[1:]:
        a, b = values[first]["mse"], values[other]["mse"]
        kept = np.argsort(a - b)[:-LEFT_OUT]
        print(
            f"{first.name} against {other.name}: better on {(a < b).sum()} of {len(ids)}, median difference "
            f"{np.median(a - b):+.4f}, mean {np.mean(a - b):+.4f}; without the {LEFT_OUT} worst {a[kept].mean():.4f}, "
            f"{b[kept].mean():.4f}"
        )
        print(f"  loss {interval(losses[first][:, -1])} against {interval(losses[other][:, -1])}")
        for step in (s for s in (10, 20, 30, 50, 100, 150, 300, 1200) if s < losses[first].shape[1]):
            ratio = losses[first][:, step] / losses[other][:, -1]
            lower = f"no higher on {(ratio <= 1).sum()} of {len(ids)}, median ratio {np.median(ratio):.3f}"
            print(f"    after {step} steps {losses[first][:, step].mean():.4f}, {lower}")
        for metric in ("mse", "ssim"):
            x, y = values[first][metric], values[other][metric]
            for margin in (1e-8, 0.05 * abs(y.mean())):
                test = non_inferiority(x, y, margin, higher_is_better=metric == "ssim")
                print(f"  {metric}, margin {margin:.2g}: p = {test.p_t:.2g} (t), {test.p_wilcoxon:.2g} (Wilcoxon)")


def interval(values: np.ndarray) -> str:
    """Mean with its 95 % bootstrap interval."""
    found = bootstrap_interval(values)
    return f"{found.mean:.4f} ({found.low:.4f}–{found.high:.4f})"


if __name__ == "__main__":
    main()
