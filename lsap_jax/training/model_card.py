"""The model card of a trained generator: what it was made of, what it draws, how close that is to its data.

    python -m lsap_jax.training.model_card --generator g.safetensors --data pack.npz --out DIR

writes `MODEL_CARD.md` with `samples.png` and `nearest.png` beside it, and the numbers once more as `model_card.json`.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from lsap_jax.errors import LsapError
from lsap_jax.metrics.kid import Kid, Whitening, feature_description, few, fit_whitening, kid, random_features
from lsap_jax.models.generator import Generator
from lsap_jax.models.generator_file import load_generator
from lsap_jax.networks import stylegan2
from lsap_jax.pixels import to_uint8
from lsap_jax.storage.atomic import write_files
from lsap_jax.storage.file_bytes import png_bytes
from lsap_jax.storage.pictures import grid
from lsap_jax.training.dataset import load_training_images
from lsap_jax.training.stylegan2 import BUFFERS

NEIGHBOURS = 3
SHOWN = 8  # samples whose neighbours are shown
REFERENCE = 2000  # training images for the whitening of features, and as many others for the floor
BATCH = 50
# Kind of the networks of a method of refinement -> the method.
REFINERS = {"hfgi": "HFGI", "hyperstyle": "HyperStyle", "styleres": "StyleRes", "invertibility": "SAM"}


class Fidelity(NamedTuple):
    """KID of samples and of training images, each against the held-out images, and how many images were in each set."""

    samples: Kid
    floor: Kid
    counts: dict[str, int]


class Neighbours(NamedTuple):
    """indices [N, 3] of the nearest training images and their distances [N, 3], nearest first."""

    indices: np.ndarray
    distances: np.ndarray


def draw_samples(G: Generator, count: int, seed: int) -> np.ndarray:
    """uint8 images [count, R, R, C] of z ~ N(0, I) without truncation, const noise, labels drawn uniformly."""
    z_rng, c_rng = jax.random.split(jax.random.key(seed))
    padded = -(-count // BATCH) * BATCH
    z = jax.random.normal(z_rng, (padded, G.z_dim))
    c = jax.nn.one_hot(jax.random.randint(c_rng, (padded,), 0, max(G.c_dim, 1)), G.c_dim)

    @jax.jit
    def draw(G: Generator, z: jax.Array, c: jax.Array) -> jax.Array:
        return G.synthesis(G.mapping(z, c if G.c_dim else None))

    pieces = [to_uint8(np.asarray(draw(G, z[i : i + BATCH], c[i : i + BATCH]))) for i in range(0, padded, BATCH)]
    return np.concatenate(pieces)[:count]


def split_reference(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Disjoint indices of training images, for the whitening and for the floor: `REFERENCE` each, or half."""
    order = np.random.default_rng(seed).permutation(count)
    each = min(REFERENCE, count // 2)
    return np.sort(order[:each]), np.sort(order[each : 2 * each])


def fidelity(whitening: Whitening, samples: np.ndarray, training: np.ndarray, heldout: np.ndarray) -> Fidelity:
    """Unbiased KID in whitened random-convolution features.

    Args:
        samples, training, heldout: features [N, d] before whitening; `training` without the whitening's own images.
    """
    x, t, h = (whitening(a) for a in (samples, training, heldout))
    return Fidelity(kid(x, h), kid(t, h), {"samples": len(x), "training": len(t), "heldout": len(h)})


def nearest(samples: np.ndarray, training: np.ndarray, count: int = NEIGHBOURS) -> Neighbours:
    """The `count` training images nearest to every sample, by the Euclidean distance of features [N, d] and [M, d]."""
    squared = (samples**2).sum(1)[:, None] + (training**2).sum(1)[None] - 2 * samples @ training.T
    indices = np.argsort(squared, axis=1, kind="stable")[:, :count]
    return Neighbours(indices, np.sqrt(np.maximum(np.take_along_axis(squared, indices, axis=1), 0)))


def sizes(G: Generator) -> dict[str, int]:
    """Number of parameters of each network; fixed noise and running averages are not counted."""
    trees: dict[str, Any] = {"mapping": G.params["mapping"], "synthesis": G.params["synthesis"]}
    if G.discriminator is not None:
        trees["discriminator"] = G.discriminator.params
    if G.basecode is not None:
        trees["base-code encoder"] = G.basecode.params["params"]
    if "encoder" in G.parts:
        trees["latent encoder"] = G.parts["encoder"].params["params"]
    if "psp" in G.parts:
        trees["encoder"] = G.parts["psp"].params["encoder"]
    trees |= {f"networks of {name}": G.parts[kind].params for kind, name in REFINERS.items() if kind in G.parts}
    return {
        name: sum(int(np.size(leaf)) for path, leaf in flatten_dict(dict(tree)).items() if path[-1] not in BUFFERS)
        for name, tree in trees.items()
    }


def write_model_card(
    generator_path: str | Path,
    training_images: np.ndarray,
    heldout: np.ndarray,
    out: str | Path,
    *,
    command: str = "",
    credit: str = "",
    caveats: Sequence[str] = (),
    sections: Sequence[str] = (),
    samples: int = 2000,
    seed: int = 0,
) -> Path:
    """Measure a generator and write its card.

    Args:
        generator_path: a converted file; its provenance gives name, licence, configuration and images seen.
        training_images, heldout: uint8 [N, R, R, C] that it was trained on, and that it never saw.
        out: folder of `MODEL_CARD.md`, `samples.png`, `nearest.png` and `model_card.json`.
        command: the exact command of the training; else the provenance's configuration stands alone.
        credit: of the data.
        caveats: further sentences.
        sections: further sections, in Markdown.
        samples: how many are drawn for KID.
        seed: of the samples, and of the choice of training images for whitening and floor.

    Raises:
        LsapError: the file cannot be read, or there are too few images.
    """
    if len(training_images) < 32 or len(heldout) < 3 or samples < SHOWN:
        raise LsapError(
            f"a model card needs at least 32 training images, 3 held-out images and {SHOWN} samples, got "
            f"{len(training_images)}, {len(heldout)} and {samples}"
        )
    G = load_generator(generator_path)
    drawn = draw_samples(G, samples, seed)
    own, apart = split_reference(len(training_images), seed)
    trained = random_features(training_images)
    whitening = fit_whitening(trained[own])
    drawn_features = random_features(drawn)
    found = fidelity(whitening, drawn_features, trained[apart], random_features(heldout))
    near = nearest(whitening(drawn_features[:SHOWN]), whitening(trained))
    numbers = {
        "kid_samples": found.samples._asdict(), "kid_floor": found.floor._asdict(), "images": found.counts,
        "features": feature_description(), "seed": seed,
        "nearest": {"indices": near.indices.tolist(), "distances": near.distances.round(4).tolist()},
        "parameters": sizes(G), "sha256": G.sha256,
    }  # fmt: skip
    rows = np.concatenate([np.stack([drawn[i], *training_images[near.indices[i]]]) for i in range(SHOWN)])
    text = card(G, numbers, len(training_images), command, credit, caveats, sections)
    out = Path(out)
    write_files(
        {
            out / "samples.png": png_bytes(grid(drawn[:64], columns=16)),
            out / "nearest.png": png_bytes(grid(rows, columns=2 * (1 + NEIGHBOURS))),
            out / "model_card.json": (json.dumps(numbers, indent=1, sort_keys=True) + "\n").encode(),
            out / "MODEL_CARD.md": text.encode(),
        }
    )
    return out / "MODEL_CARD.md"


def seen_by(own: Mapping[str, Any]) -> str:
    """What a part was trained on."""
    if own["config"].keys() & {"stages", "method"}:  # of pSp's family, or of a refiner
        what = "training images" if own["config"]["data"] else "samples of this generator"
        return f"{own['images_seen']:,} {what} seen ({own['name']})"
    samples = f"{own['images_seen']:,} samples of this generator seen"
    return f"{samples}, and as many training images" if own["config"].get("data") else f"{samples}, no others"


def card(
    G: Generator,
    numbers: Mapping[str, Any],
    trained: int,
    command: str,
    credit: str,
    caveats: Sequence[str],
    sections: Sequence[str],
) -> str:
    """The card as Markdown."""
    made, c = G.provenance, G.config
    assert isinstance(c, stylegan2.GeneratorConfig)  # no other family is trained
    name = made.get("name", "generator")
    config = made.get("config", {})
    settings = {**config.get("train", {}), **({"windows": windows} if (windows := config.get("windows")) else {})}
    counts, near = numbers["images"], np.asarray(numbers["nearest"]["distances"])
    size = "; ".join(f"{part} {n:,}" for part, n in numbers["parameters"].items())
    init = f", starting from `{Path(config['init']).name}`" if config.get("init") else ""
    parts = {"Base-code encoder": made.get("basecode"), "Latent encoder": made.get("encoder")}
    parts["Encoder"] = made.get("psp")
    parts |= {f"Networks of {method}": made.get(kind) for kind, method in REFINERS.items()}
    seen = f"{made['images_seen']:,}" if "images_seen" in made else "an unrecorded number of"
    lines = [
        f"# {name}",
        "",
        f"A StyleGAN2 ({c.architecture} generator, {f'{c.c_dim} classes' if c.c_dim else 'unconditional'}) of "
        f"{c.img_resolution} x {c.img_resolution} px images, z of {c.z_dim} and w of {c.w_dim} dimensions, "
        f"{c.mapping_layers} mapping layers, channels {', '.join(map(str, c.channels))} from 4 px upward.",
        "",
        f"- Parameters: {size}.",
        f"- Data: {trained:,} training images; {counts['heldout']:,} held-out images were never trained on.",
        f"- Licence of data and weights: {made.get('licence') or 'see the data'}.",
        *([f"- Credit: {credit}."] if credit else []),
        f"- Training: {seen} images seen{init}; these are the moving average of its weights.",
        *(f"- {part}: {seen_by(own)}." for part, own in parts.items() if own),
        f"- SHA-256 of the weights: `{numbers['sha256']}`.",
        *(["", "Command:", "", f"    {command}"] if command else []),
        *(["", "Settings:", "", f"    {json.dumps(settings, sort_keys=True)}"] if settings else []),
        "",
        "## Samples",
        "",
        f"Random z (seed {numbers['seed']}), no truncation, not selected:",
        "",
        "![samples](samples.png)",
        "",
        "## Closeness to the data",
        "",
        f"Unbiased KID against the {counts['heldout']:,} held-out images, with jackknife standard errors:",
        "",
        "| set | images | KID |",
        "|---|---|---|",
        f"| samples | {counts['samples']:,} | {_shown(numbers['kid_samples'])} |",
        f"| training images (floor) | {counts['training']:,} | {_shown(numbers['kid_floor'])} |",
        "",
        *([f"{note}.", ""] if (note := few(min(counts.values()))) else []),
        f"Features: {numbers['features']}. They know nothing of generator or discriminator, and values in them compare "
        "with each other only, never with KID or FID in Inception features.",
        "",
        "## Nearest training images",
        "",
        f"Each of {SHOWN} samples (first and fifth column) with its {NEIGHBOURS} nearest training images, by the "
        "Euclidean distance of the same features; distances to the nearest: "
        f"{', '.join(f'{d:.1f}' for d in near[:, 0])}.",
        "",
        "![nearest](nearest.png)",
        "",
        *sections,
        "## Caveats",
        "",
        *(f"- {sentence}" for sentence in (*caveats, *_standing_caveats(c.img_resolution))),
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def _shown(value: Mapping[str, float]) -> str:
    return f"{value['value']:.4f} ± {value['stderr']:.4f}"


def _standing_caveats(resolution: int) -> tuple[str, ...]:
    return (
        f"A small model of {resolution} px for demonstrations and tests; it says little about large photographs.",
        "It draws what its data has: what is rare there is rare or missing here.",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lsap_jax.training.model_card", description=__doc__)
    add = parser.add_argument
    add("--generator", required=True, help="file of the trained generator")
    add("--data", required=True, help="pack or folder whose last images were held out")
    add("--extra", action="append", default=[], help="further packs that it was trained on")
    add("--heldout", type=int, default=200, help="number of held-out images at the end of --data")
    add("--out", required=True, help="folder for the card")
    add("--command", default="", help="the exact command of the training")
    add("--credit", default="", help="credit of the data")
    add("--caveat", action="append", default=[], help="a further sentence")
    add("--samples", type=int, default=2000)
    add("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    try:
        G = load_generator(chosen.generator)
        training, heldout = load_training_images(
            chosen.data, chosen.extra, chosen.heldout, G.img_resolution, G.img_channels
        )
        path = write_model_card(
            chosen.generator, training, heldout, chosen.out, command=chosen.command, credit=chosen.credit,
            caveats=chosen.caveat, samples=chosen.samples, seed=chosen.seed,
        )  # fmt: skip
    except LsapError as error:
        print(f"model_card: {error}", file=sys.stderr)
        return 2
    print(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
