"""From checkpoints to converted files: complete a checkpoint, write it and describe it."""

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np

from convert_weights.checkpoint import Checkpoint, ConversionError, Part, printable, together
from convert_weights.converted_file import write
from convert_weights.layout import leaf_layout
from convert_weights.perceptual import lpips

REMEDIES = {
    "backbone": "is half of LPIPS; name the other half with --lin (vgg.pth, alex.pth, squeeze.pth of lpips)",
    "lpips_lin": "is half of LPIPS; give the backbone as SRC and this file as --lin",
    "mtcnn": "is one of MTCNN's three networks; give the wheel of facenet-pytorch, which has all three",
    "codes": "holds codes, which need no conversion; start an inversion from them with `lsap-jax invert --init`",
}
ONLY = {"encoder": ("psp", "idinvert")}  # words for kinds
WORDS = {kind: word for word, kinds in ONLY.items() for kind in kinds}
LONG = ("names", "units")  # entries of configurations that are described by their number
NAMED = ("generator", "basecode", *ONLY["encoder"])  # kinds whose provenance has the names of the file and its source


def completed(
    checkpoint: Checkpoint, lin: Checkpoint | None = None, base_resolution: int = 16, only: str | None = None
) -> Checkpoint:
    """The checkpoint with everything that its converted file needs, and nothing else.

    Args:
        lin: the linear layers of LPIPS, for a backbone.
        base_resolution: s of a base-code encoder, which its weights do not determine.
        only: the one part to convert, by its kind or a word for it (`ONLY`); None is all of them.

    Raises:
        ConversionError: it cannot be converted alone, `lin` does not belong to it, or a part of it is refused or
            missing; the message gives the remedy.
    """
    checkpoint = _chosen(checkpoint, only)
    part = checkpoint.parts[checkpoint.kind]
    if part.kind == "backbone" and lin is not None:
        return lpips(checkpoint, lin)
    if part.kind == "basecode":
        part = dataclasses.replace(part, config={**part.config, "base_resolution": base_resolution})
        return dataclasses.replace(checkpoint, parts=together(part))
    if part.kind in REMEDIES and (part.kind != "mtcnn" or len(part.config["networks"]) == 1):
        raise ConversionError(REMEDIES[part.kind])
    return checkpoint


def _chosen(checkpoint: Checkpoint, only: str | None) -> Checkpoint:
    """The checkpoint with the parts that its file will hold: with a generator all, else the main one, or the one asked
    for.
    """
    kinds = (checkpoint.kind,) if only is None else ONLY.get(only, (only,))
    kind = next((kind for kind in kinds if kind in checkpoint.parts or kind in checkpoint.refused), kinds[0])
    if only is None and checkpoint.kind == "generator":
        if checkpoint.refused:
            reasons = "; ".join(checkpoint.refused.values())
            raise ConversionError(f"{reasons}; leave it out with --only generator")
        return checkpoint
    if kind in checkpoint.refused:
        raise ConversionError(checkpoint.refused[kind])
    if kind not in checkpoint.parts:
        raise ConversionError(f"has no {only}; it has {', '.join(WORDS.get(k, k) for k in checkpoint.parts)}")
    others = [WORDS.get(other, other) for other in (*checkpoint.parts, *checkpoint.refused) if other != kind]
    notes = [f"left out: {', '.join(others)}; --only converts a part alone"] * bool(others)
    parts = together(checkpoint.parts[kind])
    return dataclasses.replace(checkpoint, parts=parts, refused={}, notes=(*checkpoint.notes, *notes))


def halved(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint in half precision, for networks that look at images; the notes say so.

    Raises:
        ConversionError: it is a generator, or a number is too large for half precision.
    """
    if checkpoint.kind == "generator":
        raise ConversionError("is a generator, which is kept in single precision; leave --half out")
    parts = {}
    for kind, part in checkpoint.parts.items():
        arrays = {name: a.astype(np.float16) for name, a in part.arrays.items()}
        if wrong := [name for name, a in arrays.items() if not np.isfinite(a).all()]:
            raise ConversionError(f"{wrong[0]} has numbers that half precision does not have; leave --half out")
        parts[kind] = dataclasses.replace(part, arrays=arrays)
    return dataclasses.replace(checkpoint, parts=parts, notes=(*checkpoint.notes, "stored in half precision"))


def save(path: str | Path, checkpoint: Checkpoint, source: str | Path) -> str:
    """Write a `completed` checkpoint as one file, whole or not at all; returns the digest of its tensors.

    A generator is written with all parts of the checkpoint, which are used up, in the layouts of lsap_jax; other
    networks keep theirs.

    Raises:
        OSError: the file cannot be written.
    """
    facts, kind = checkpoint.provenance, checkpoint.kind
    if kind in NAMED:
        facts |= {"name": Path(path).stem, "source": Path(source).name}
    if kind != "generator":
        part = checkpoint.parts[kind]
        return write(path, kind, part.arrays, part.config, facts)
    config, leaves = {part.kind: part.config for part in checkpoint.parts.values()}, model_leaves(checkpoint)
    return write(path, kind, leaves, config, facts)


def model_leaves(checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    """The arrays of all parts as a generator's file has them ("generator/mapping/w_avg"), in the layouts of lsap_jax.

    They are taken out of the checkpoint one by one, so that they are not in memory twice.
    """
    leaves = {}
    for part in checkpoint.parts.values():
        for name in list(part.arrays):
            leaf = leaf_layout(name, part.arrays.pop(name))
            leaves[f"{part.kind}/{name.replace('.', '/')}"] = np.asarray(leaf, order="C")
    return leaves


def description(checkpoint: Checkpoint) -> list[str]:
    """Lines of text that describe a checkpoint."""
    rows = [("format", checkpoint.format)]
    for part in checkpoint.parts.values():
        rows += _described(part)
    if "generator" in checkpoint.parts:
        if "discriminator" not in checkpoint.parts:
            rows.append(("discriminator", "none in this file"))
        g = checkpoint.parts["generator"].config
        rows.append(("mapping", f"z {g['z_dim']} to w {g['w_dim']} in {g['mapping_layers']} layers"))
        estimated = any("w_avg" in note for note in checkpoint.notes)
        rows.append(("w_avg", "not in the file, see the note" if estimated else "from the file"))
    reasons = Counter(checkpoint.ignored.values())
    rows.append(("ignored", "; ".join(f"{n} x {reason}" for reason, n in reasons.most_common()) or "nothing"))
    rows.append(("licence", checkpoint.licence or "unknown: ask the publisher of the file"))
    rows += [("note", note) for note in checkpoint.notes]
    return [row(name, value) for name, value in rows]


def _described(part: Part) -> list[tuple[str, str]]:
    c, count = part.config, f"{sum(int(a.size) for a in part.arrays.values()):,} parameters"
    if part.kind not in ("generator", "discriminator"):
        facts = [f"{key} {f'{len(value):,}' if key in LONG else value}" for key, value in c.items()]
        return [(WORDS.get(part.kind, part.kind), ", ".join([*facts, count]))]
    label = f", {c['c_dim']} classes" if c["c_dim"] else ""
    kind = f"architecture {c['architecture']}" if "architecture" in c else "StyleGAN1"
    size = f"{c['img_resolution']} px, {c['img_channels']} image channels, {kind}{label}"
    return [(part.kind, f"{size}, {count}"), ("channels", " ".join(map(str, c["channels"])) + " (from 4 px up)")]


def row(name: str, value: str) -> str:
    """One line of the description, as it is printed."""
    return f"{name:14} {printable(value)}"


def written(path: str | Path, sha256: str) -> str:
    """The line that says what was written; `sha256` is the digest of the tensors."""
    return row("wrote", f"{path}, {Path(path).stat().st_size / 1e6:.1f} MB, SHA-256 of the weights {sha256}")
