"""StyleCLIP's global directions: channels of StyleSpace by how much each moves an image towards a text (arXiv
2103.17249, section 6). CLIP itself is not needed: what it saw is in two files.

    r = relevance · Δt / |Δt|,   r = 0 where |r| < beta,   step = r / max|r| · deviation of each channel

| file       | holds                                                                                                  |
|------------|--------------------------------------------------------------------------------------------------------|
| relevance  | [channels, D]: how CLIP's features of images change with each channel of the convolutions (`fs3.npy`)  |
| text       | Δt [D], features of the target text less those of the neutral one; several under names                 |
| statistics | [means, deviations], each a list of an array per layer (`S_mean_std`); else samples give deviations    |
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from convert_weights import ConversionError
from convert_weights.builders import Array
from convert_weights.recognise import opened
from convert_weights.tensors import Tensor, as_float32
from lsap_jax.editing.direction import Direction
from lsap_jax.editing.direction_file import check_name
from lsap_jax.editing.imported import Source
from lsap_jax.editing.interfacegan import CHUNK, drawn
from lsap_jax.errors import LsapError
from lsap_jax.models.generator import Generator

BETA = 0.11
SAMPLES = 100_000


def global_directions(
    G: Generator, relevance: str | Path, text: str | Path, deviations: np.ndarray, beta: float = BETA
) -> list[Direction]:
    """A direction of S for each text of a file, under its name there, or the file's where it holds one.

    Args:
        relevance, text: files of arrays, as in the table above.
        deviations: [Σ C] of the generator's S (`read_deviations`, `drawn_deviations`).
        beta: channels of smaller relevance stay; the greater it is, the fewer others change.

    Raises:
        LsapError: a file is missing, damaged or of another generator or network of texts, or beta is negative or
            above all relevances.
    """
    rows = _arrays(relevance)
    table = next(iter(rows.values()))
    if not 0 <= beta < np.inf:
        raise LsapError(f"beta {beta}: a number from 0 on")
    moved = np.concatenate([np.full(layer.width, layer.kind == "conv") for layer in G.config.layers])
    if len(rows) != 1 or table.ndim != 2 or len(table) != moved.sum():
        raise LsapError(
            f"{relevance}: holds {', '.join(str(list(a.shape)) for a in rows.values())}; the relevance of this "
            f"generator's channels is one array [{moved.sum()}, D]: it was made for another generator"
        )
    found = []
    for name, difference in _arrays(text).items():
        check_name(text, name)
        flat = difference.reshape(-1).astype(np.float64)
        if flat.size != table.shape[1] or not flat.any():
            raise LsapError(
                f"{text}: {name} is {list(difference.shape)}; the difference of text features is [{table.shape[1]}] "
                "and not 0, of the network that the relevance is of"
            )
        r = table.astype(np.float64) @ (flat / np.linalg.norm(flat))
        kept = np.where(np.abs(r) < beta, 0, r)
        if not kept.any():
            raise LsapError(
                f"{text}: {name}: no channel has relevance {beta:g}; give a --beta below {abs(r).max():.3g}"
            )
        vector = np.zeros(len(moved))
        vector[moved] = kept / np.abs(kept).max()
        found.append(
            Direction(
                name=name,
                space="s",
                vector=(vector * deviations).astype(np.float32),
                source=f"StyleCLIP, {Path(text).name}, {name}, relevance {Path(relevance).name}, beta {beta:g}",
                generator=G.network_sha256,
                measures={"channels": float(np.mean(kept != 0))},
            )
        )
    return found


def read_deviations(G: Generator, path: str | Path) -> np.ndarray:
    """[Σ C] deviations of a file of statistics of S, layers as in `config.layers`.

    Raises:
        LsapError: it is damaged, or of another generator.
    """
    widths = [layer.width for layer in G.config.layers]
    with _explained(), opened(path) as contents:
        root = contents.root
        lists = root if isinstance(root, list | tuple) and len(root) == 2 else (None, None)
        listed = lists[1] if isinstance(lists[1], list | tuple) else ()
        tensors = [one.tensor if isinstance(one, Array) else one for one in listed]
        arrays = [as_float32(one).reshape(-1) for one in tensors if isinstance(one, Tensor)]
        if [len(a) for a in arrays] != widths:
            raise LsapError(
                f"{path}: holds deviations of {[len(a) for a in arrays]} channels; the statistics of this generator "
                f"are [means, deviations] with an array per layer of {widths}"
            )
        found = np.concatenate(arrays)
        if not (np.isfinite(found).all() and (found >= 0).all()):
            raise LsapError(f"{path}: has deviations that are negative or not finite; download it again")
        return found


def drawn_deviations(G: Generator, samples: int = SAMPLES, seed: int = 0) -> np.ndarray:
    """[Σ C] deviations of S over samples of the generator."""
    some, sums, squares = drawn(G, samples, seed), np.float64(0), np.float64(0)
    for start in range(0, samples, CHUNK):
        codes = some.codes(G, "s", np.arange(start, min(start + CHUNK, samples))).astype(np.float64)
        sums, squares = sums + codes.sum(axis=0), squares + np.square(codes).sum(axis=0)
    return np.sqrt(np.maximum(squares / samples - np.square(sums / samples), 0))


@contextmanager
def _explained() -> Iterator[None]:
    """Errors of reading a foreign file as an LsapError; they name it."""
    try:
        yield
    except ConversionError as error:
        raise LsapError(str(error)) from None


def _arrays(path: str | Path) -> dict[str, np.ndarray]:
    """The finite arrays of a file by name; a single one has the file's."""
    with _explained(), opened(path) as contents:
        source = Source(Path(path), contents, None, None)
        if not source.arrays:
            raise LsapError(f"{path}: holds no arrays; save them with numpy.save or numpy.savez")
        return {name: source.value(name) for name in source.arrays}
