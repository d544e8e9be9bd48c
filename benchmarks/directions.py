"""Cosine between the directions that each method finds and the label-derived one, attribute by attribute.

    python benchmarks/directions.py [--generator toonhead64] [--samples 20000] [--labels avatars_64.npz] [--space w]

The label-derived direction is the difference between the mean codes of images with and without the attribute: of
samples that the attribute classifier labels, and in W, with --labels, of real images with exact labels, whose codes the
generator's latent encoder gives. Of GANSpace and SeFa the nearest component counts, with its number; the nearest of
equally many random directions says what chance gives.
"""

import argparse

import numpy as np

from lsap_jax.editing.ganspace import ganspace_w, ganspace_z
from lsap_jax.editing.interfacegan import Scored, interfacegan, sample
from lsap_jax.editing.sefa import sefa
from lsap_jax.models.attributes import Attributes, attribute_scores
from lsap_jax.models.attributes_file import load_attributes
from lsap_jax.models.generator import Generator
from lsap_jax.models.generator_file import load_generator
from lsap_jax.pixels import to_float

COMPONENTS = 80


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", default="toonhead64")
    parser.add_argument("--attributes", help="a classifier; the bundled one by default")
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--space", choices=("z", "w"), nargs="+", default=["w", "z"])
    parser.add_argument("--labels", help="a pack of images with exact labels (label_NAME arrays), for W")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    G = load_generator(args.generator)
    attributes = load_attributes(args.attributes, G)
    scored = sample(G, lambda images: attribute_scores(attributes, images), args.samples, args.seed, batch_size=64)
    for space in args.space:
        exact = exact_directions(G, attributes, args.labels) if args.labels and space == "w" else {}
        show(G, space, scored, exact, args.seed)


def show(G: Generator, space: str, scored: Scored, exact: dict[str, np.ndarray], seed: int) -> None:
    """A row per attribute."""
    everyone = np.arange(len(scored.z))
    codes = scored.codes(G, space, everyone)
    found = ganspace_w(G, COMPONENTS) if space == "w" else ganspace_z(G, COMPONENTS)
    methods = {"GANSpace": np.stack([d.vector for d in found])}
    if space == "w":
        methods["SeFa"] = np.stack([d.vector for d in sefa(G, COMPONENTS)])
    rng = np.random.default_rng(seed)
    methods["random"] = rng.standard_normal((COMPONENTS, codes.shape[1]))
    svm = {d.name: d.vector for d in interfacegan(G, space, scored, seed=seed)}
    heads = [
        "attribute",
        "InterFaceGAN",
        *(f"{name} (which)" for name in methods),
        *(["exact labels"] if exact else []),
    ]
    print(f"\n{space}: |cosine| with the difference of the class means of {len(scored.z):,} labelled samples")
    print("".join(f"{head:>18}" for head in heads))
    for name, normal in svm.items():
        there = scored.scores[name] > 0
        truth = codes[there].mean(axis=0) - codes[~there].mean(axis=0)
        cells = [f"{cosine(truth, normal):.3f}"]
        for vectors in methods.values():
            cosines = [abs(cosine(truth, v)) for v in vectors]
            cells.append(f"{max(cosines):.3f} ({int(np.argmax(cosines))})")
        if exact:
            cells.append(f"{cosine(truth, exact[name]):.3f}")
        print("".join(f"{cell:>18}" for cell in (name, *cells)))


def exact_directions(G: Generator, attributes: Attributes, pack: str) -> dict[str, np.ndarray]:
    """Attribute -> difference of the mean w of real images with and without it, by the latent encoder."""
    if G.encoder is None:
        raise SystemExit("--labels needs a generator with a latent encoder")
    with np.load(pack) as file:
        images = file["images"]
        labels = {name: file[f"label_{name}"] for name in attributes.labels}
    w = np.concatenate(
        [np.asarray(G.encoder(to_float(images[i : i + 50]), G)).mean(axis=1) for i in range(0, len(images), 50)]
    )
    return {
        name: w[np.isin(labels[label], positive)].mean(axis=0) - w[np.isin(labels[label], negative)].mean(axis=0)
        for name, (label, positive, negative) in attributes.binary.items()
    }


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


if __name__ == "__main__":
    main()
