"""The files that the package brings, from a trained generator and what was trained for it (`make models`).

The latent statistics, the discriminator's scale, sample images and the model card are made here; generator, classifier
and directions are put beside them.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lsap_jax.encoding.attach import with_encoder
from lsap_jax.errors import LsapError
from lsap_jax.models.attributes import Attributes, label_probabilities
from lsap_jax.models.attributes_file import load_attributes, save_attributes
from lsap_jax.models.generator import Generator
from lsap_jax.models.generator_file import load_generator
from lsap_jax.models.network_file import attach, read
from lsap_jax.models.perceptual import discriminator_scale
from lsap_jax.models.psp import PspEncoder
from lsap_jax.spaces.statistics import cache_places, compute_statistics, write_statistics
from lsap_jax.storage.atomic import write_files
from lsap_jax.storage.pictures import png_bytes
from lsap_jax.training.attributes import PREFIX
from lsap_jax.training.dataset import load_training_images
from lsap_jax.training.model_card import REFINERS, draw_samples, write_model_card

SAMPLES = 16  # of the held-out images
SURE = 0.8  # probability from which the classifier counts as sure of a value
JUDGED = 1000  # samples of the generator that the classifier judges


def install(
    generator: str | Path,
    encoder: str | Path | None,
    refiners: Sequence[str | Path],
    attributes: str | Path,
    directions: str | Path,
    data: str | Path,
    extra: Sequence[str],
    heldout: int,
    out: Path,
    **texts: Any,
) -> None:
    """Write all files of a bundled generator into `out`, in place of those of an earlier one of its name.

    Args:
        generator: file of the generator with its base-code encoder.
        encoder: file of an encoder of pSp's family, which the generator gets; None leaves it as it is.
        refiners: files of networks of methods of refinement, which it gets, too.
        attributes, directions: files of `train-attributes` and `find-directions`.
        data, extra: packs that it was trained on, with `ids` and `label_*`; the last `heldout` of `data` were held out.
        texts: command, credit, caveats of the model card.

    Raises:
        LsapError: a file is missing, the classifier is of another generator, or the data have no ids or labels.
    """
    G, judge = load_generator(generator), load_attributes(attributes)
    if (judge.provenance.get("generator") or {}).get("sha256") != G.network_sha256:
        raise LsapError(f"{attributes}: judges another generator than {generator}; train it with --config.generator")
    if not Path(directions).is_file():
        raise LsapError(f"{directions}: no such file; make it with `lsap-jax find-directions`")
    if encoder is not None:
        G = with_part_of(G, encoder, (PspEncoder.kind,), "an encoder that `lsap-jax train-encoder` made")
    for refiner in refiners:
        G = with_part_of(G, refiner, tuple(REFINERS), "networks that `lsap-jax train-refiner` made")
    G = G.replace(provenance_json=json.dumps(without_places(G.provenance), sort_keys=True))
    name = G.provenance["name"]
    trained, apart = load_training_images(str(data), extra, heldout, G.img_resolution, G.img_channels)
    with np.load(data) as pack:
        wanted = ["ids", *(PREFIX + label for label in judge.labels)]
        if absent := [key for key in wanted if key not in pack]:
            raise LsapError(f"{data}: has no {absent[0]}; pack ids and the classifier's labels with the images")
        ids, *values = (pack[key] for key in wanted)
        labels = dict(zip(judge.labels, values, strict=True))
    out.mkdir(parents=True, exist_ok=True)
    path, scales = out / f"{name}.safetensors", out / "discriminator_scales.json"
    known = json.loads(scales.read_text("utf-8")) if scales.is_file() else {}
    if path.is_file():
        old = load_generator(path)
        (out / cache_places(old)[0].name).unlink(missing_ok=True)
        known.pop(old.bare("discriminator").sha256, None)
    G.save(path)
    save_attributes(out / f"{name}.attributes.safetensors", judge.replace(provenance=without_places(judge.provenance)))
    write_statistics(out / cache_places(G)[0].name, compute_statistics(G))
    known[G.bare("discriminator").sha256] = discriminator_scale(G)
    chosen = np.linspace(0, heldout - 1, SAMPLES).round().astype(int)
    (out / "samples").mkdir(exist_ok=True)
    write_files(
        {
            out / f"{name}.directions.safetensors": Path(directions).read_bytes(),
            scales: (json.dumps(known, indent=1) + "\n").encode(),
            **{out / "samples" / f"{ids[i - heldout]}.png": png_bytes(apart[i]) for i in chosen},
        }
    )
    write_model_card(path, trained, apart, out, sections=(drawn_attributes(G, judge, labels),), **texts)


def with_part_of(G: Generator, path: str | Path, kinds: Sequence[str], what: str) -> Generator:
    """G with the network of a file, and how that came about in its provenance.

    Args:
        kinds: of which it may be one.
        what: they are, for the error.
    """
    contents = read(path)
    kind = next((kind for kind in kinds if kind in contents.parts), None)
    if kind is None:
        raise LsapError(f"{path}: holds {contents.kind!r} weights, not {what}")
    part, older = contents.build(kind), {kind, "encoder"} if kind == PspEncoder.kind else {kind}
    made = {key: value for key, value in contents.provenance.items() if not key.startswith("sha256")}
    provenance = {key: value for key, value in G.provenance.items() if key not in older}
    joined = with_encoder(G, part) if kind == PspEncoder.kind else attach(G, part)
    return joined.replace(provenance_json=json.dumps({**provenance, kind: made}))


def without_places(provenance: Any) -> Any:
    """A provenance that names the files that something was made of, not the folders they were in."""
    if isinstance(provenance, Mapping):
        return {key: without_places(one) for key, one in provenance.items()}
    if isinstance(provenance, list):
        return [without_places(one) for one in provenance]
    return Path(provenance).name if isinstance(provenance, str) and Path(provenance).is_absolute() else provenance


def drawn_attributes(G: Generator, judge: Attributes, labels: dict[str, np.ndarray]) -> str:
    """A section of the card: how sure the classifier is of samples, and how often it sees each value, beside the data.

    Args:
        labels: label -> the values [N] of the data's images, texts.

    Returns:
        Markdown; shares in percent, differences in percentage points.
    """
    found = label_probabilities(judge, draw_samples(G, JUDGED, 1))
    lines = [
        f"## Attributes of {JUDGED:,} samples",
        "",
        "What the classifier sees in samples (seed 1, no truncation), and how often each value is in the data.",
        "",
        f"| label | sure (p ≥ {SURE}) | largest difference of a value's frequency from the data's | value |",
        "|---|---|---|---|",
    ]
    for label, values in judge.labels.items():
        p = found[label]
        seen = np.bincount(p.argmax(axis=1), minlength=len(values)) / len(p)
        known = np.array([(labels[label] == value).mean() for value in values])
        worst = int(np.abs(seen - known).argmax())
        sure = (p.max(axis=1) >= SURE).mean()
        lines.append(
            f"| {label} | {100 * sure:.1f} % | {100 * abs(seen[worst] - known[worst]):.1f} points "
            f"({100 * seen[worst]:.1f} % for {100 * known[worst]:.1f} %) | {values[worst]} |"
        )
    lines += [
        "",
        "Right labels on held-out images: "
        + ", ".join(f"{label} {100 * share:.1f} %" for label, share in judge.accuracy.items())
        + ".",
        "",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lsap_jax.training.assets", description=__doc__)
    add = parser.add_argument
    for name, what in (
        ("generator", "file of the trained generator with its base-code encoder"),
        ("attributes", "file of its classifier"),
        ("directions", "file of its directions"),
        ("data", "pack whose last images were held out, with ids and labels"),
        ("out", "folder for the files"),
    ):
        add(f"--{name}", required=True, help=what)
    add("--encoder", help="file of its encoder (train-encoder's encoder.safetensors)")
    add(
        "--refiner",
        action="append",
        default=[],
        help="files of its refiners' networks (train-refiner's refiner.safetensors)",
    )
    add("--extra", action="append", default=[], help="further packs that it was trained on")
    add("--heldout", type=int, default=200, help="number of held-out images at the end of --data")
    add("--command", default="", help="the exact command of the training")
    add("--credit", default="", help="credit of the data")
    add("--caveat", action="append", default=[], help="a further sentence of the card")
    chosen = parser.parse_args(arguments)
    try:
        install(
            chosen.generator, chosen.encoder, chosen.refiner, chosen.attributes, chosen.directions, chosen.data,
            chosen.extra, chosen.heldout, Path(chosen.out), command=chosen.command, credit=chosen.credit,
            caveats=chosen.caveat,
        )  # fmt: skip
    except LsapError as error:
        print(f"assets: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
