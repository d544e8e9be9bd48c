"""Held-out images of a training pack as PNG files, for `lsap-jax invert` and `compare`.

    python benchmarks/heldout.py avatars_64.npz heldout [--count 50] [--heldout 200]

The last `--heldout` images of the pack are in no training; the first `--count` of them are written, named by their
index in the pack.
"""

import argparse
from pathlib import Path

import numpy as np

from lsap_jax.storage.pictures import save_png


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pack")
    parser.add_argument("out")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--heldout", type=int, default=200)
    args = parser.parse_args()
    with np.load(args.pack) as file:
        images = file["images"]
    first = len(images) - args.heldout
    for index in range(first, min(first + args.count, len(images))):
        save_png(Path(args.out) / f"{index:06d}.png", images[index])
    print(f"{args.out}: images {first} to {min(first + args.count, len(images)) - 1} of {args.pack}")


if __name__ == "__main__":
    main()
