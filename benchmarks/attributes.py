"""How often the attribute classifier is right about held-out images, and about what a run makes of them.

    python benchmarks/heldout.py avatars_64.npz heldout
    lsap-jax invert heldout --generator toonhead64 --space f/z+ --steps 200 --out RUN
    python benchmarks/attributes.py RUN avatars_64.npz [--attributes FILE]

The second column is a measure of generator and inversion as much as of the classifier.
"""

import argparse

import numpy as np

from lsap_jax.models.attributes import label_accuracies
from lsap_jax.models.attributes_file import load_attributes
from lsap_jax.storage.results import read_image, read_manifest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="of images that `heldout.py` wrote: their ids are places in the pack")
    parser.add_argument("pack", help="with exact labels, label_NAME")
    parser.add_argument("--attributes", default="toonhead64")
    args = parser.parse_args()
    attributes, manifest = load_attributes(args.attributes), read_manifest(args.run)
    ids = sorted(manifest)
    with np.load(args.pack) as file:
        labels = {name: file[f"label_{name}"][[int(id) for id in ids]] for name in attributes.labels}
    found = {
        part: label_accuracies(
            attributes, np.stack([read_image(args.run, id, part, manifest=manifest) for id in ids]), labels
        )
        for part in ("targets", "images")
    }
    print(f"{len(ids)} images of {args.run}\n{'label':24}{'before':>9}{'inverted':>10}")
    for name in attributes.labels:
        print(f"{name:24}{found['targets'][name]:9.1%}{found['images'][name]:10.1%}")


if __name__ == "__main__":
    main()
