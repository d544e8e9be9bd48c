"""The codes of a run as arrays over its images, read from the run folder while they are written elsewhere, and the
generators that a refinement tuned.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import jax
import numpy as np

from convert_weights.nvlabs import state_dict
from convert_weights.torch_writer import Part
from lsap_jax.errors import LsapError
from lsap_jax.models.generator import ESTIMATED, Generator
from lsap_jax.networks.parameters import canonical
from lsap_jax.rendering.refinement import check, merged, read_refinement, stack
from lsap_jax.rendering.render import space_of
from lsap_jax.spaces.statistics import Report, with_statistics
from lsap_jax.storage.results import Record, mapping, read_arrays, read_code, read_run

WS_BATCH = 64


def code_parts(folder: Path, ids: Sequence[str], manifest: Mapping[str, Record]) -> dict[str, Part]:
    """The arrays of a run's codes by name, first axis N; of a refined run also refined/NAME.

    Raises:
        LsapError: a file is damaged, an array is of another shape than the first, or the images are not all refined in
            the same way, which one array cannot hold; raised while the chunks are read.
    """
    read: dict[str, Callable[[str], Mapping[str, np.ndarray]]] = {"": partial(read_code, folder, manifest=manifest)}
    refined = [id for id in ids if "refined" in manifest[id]["sha256"]]
    if refined:
        read["refined/"] = partial(read_arrays, folder, part="refined", manifest=manifest)
    first = {part: read[part]((refined if part else ids)[0]) for part in read}

    def rows(part: str, name: str) -> Iterator[np.ndarray]:
        model = first[part][name]
        for image in ids:
            arrays = read[part](image) if not part or "refined" in manifest[image]["sha256"] else {}
            if part and arrays.keys() != first[part].keys():
                raise LsapError(
                    f"{folder}: {image!r} is not refined as {refined[0]!r} is, and one file holds what all images "
                    f"have; export the codes alone, as by --array={next(iter(first['']))}"
                )
            array = arrays.get(name)
            if array is None or array.shape != model.shape or array.dtype != model.dtype:
                raise LsapError(f"{folder}: {name} of {image!r} differs in shape or type from that of {ids[0]!r}")
            yield array

    return {
        f"{part}{name}": Part(shape=(len(ids), *a.shape), dtype=a.dtype, chunks=rows(part, name))
        for part in read
        for name, a in first[part].items()
    }


def ws_part(
    folder: Path,
    ids: Sequence[str],
    manifest: Mapping[str, Record],
    record: Record,
    G: Generator,
    report: Report | None = None,
) -> Part:
    """ws [N, num_ws, w_dim] that a run's codes stand for, after the truncation that the run used, in batches.

    Args:
        G: of the run.
        report: called with (samples done, samples in all) while latent statistics are computed.

    Raises:
        LsapError: the codes are styles; or, while the chunks are read, the mapping network was tuned for an image: its
            ws are then no codes of G.
    """
    space = space_of(record, G)
    if not space.has_ws:
        raise LsapError(f"--ws: codes of space {space.name} are styles, which have no ws; export s without --ws")
    if space.needs_statistics:
        G = with_statistics(G, report)
    decode = jax.jit(lambda G, codes: space.decode(G, codes).ws)

    def rows() -> Iterator[np.ndarray]:
        for start in range(0, len(ids), WS_BATCH):
            some = ids[start : start + WS_BATCH]
            for image in some:
                own = read_refinement(folder, image, manifest)
                if own is not None and any(name.startswith("mapping.") for name in own.weights):
                    raise LsapError(
                        f"--ws: the mapping network was tuned for {image!r}, and its ws are not codes of the run's "
                        "generator; export the codes without --ws"
                    )
            found = [read_code(folder, image, manifest=manifest) for image in some]
            found += found[-1:] * (WS_BATCH - len(found))  # one shape, one compilation
            yield np.asarray(decode(G, {key: np.stack([c[key] for c in found]) for key in space.keys}))[: len(some)]

    return Part(shape=(len(ids), G.num_ws, G.w_dim), dtype=np.dtype(np.float32), chunks=rows())


def shares_generator(run: Record) -> bool:
    """Whether one generator was tuned to all images of a run."""
    return bool(mapping(mapping(run.get("refinement")).get("options")).get("shared"))


def tuned_generator(G: Generator, folder: Path, id: str, manifest: Mapping[str, Record]) -> Generator:
    """The generator whose weights a run has tuned for one of its images, with what comes with G.

    Args:
        G: of the run.

    Raises:
        LsapError: the run has no such image, or the image's refinement is not one of weights alone.
    """
    if id not in manifest:
        raise LsapError(f"--id={id}: is not a finished image of {folder}; its manifest.jsonl lists them")
    own = read_refinement(folder, id, manifest)
    if own is None:
        raise LsapError(f"{folder}: {id!r} is not refined; its generator is that of the run")
    if own.transforms:
        raise LsapError(
            f"{folder}: {id!r} is refined by transforms of features ({', '.join(own.transforms)}), which no file of a "
            "generator holds; only tuned weights can be exported"
        )
    check(G, stack([own]), 1)
    what = f"all {len(manifest)} images" if shares_generator(read_run(folder)) else f"the image {id}"
    provenance = {**G.provenance, "tuned": f"weights tuned for {what} of {folder.resolve().name}"}
    return merged(G, own.weights).without(*ESTIMATED).replace(provenance_json=json.dumps(provenance, sort_keys=True))


def nvlabs_parts(G: Generator) -> dict[str, Part]:
    """The tensors of a StyleGAN2 in NVlabs' names and layouts, for `load_state_dict`.

    Raises:
        LsapError: the generator is of another family.
    """
    if not hasattr(G.config, "architecture"):
        raise LsapError(f"{G.source or 'this generator'}: is no StyleGAN2; write a .safetensors file instead of a .pt")
    tensors = state_dict(canonical(G.params), asdict(G.config))
    return {name: Part(shape=a.shape, dtype=a.dtype, chunks=[a]) for name, a in tensors.items()}
