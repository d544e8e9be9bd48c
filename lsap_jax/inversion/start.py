"""Codes of other tools, or of an earlier run, as the start of an inversion (`--init`).

Z and Z+ codes are put on the sphere and used as they are. W and W+ codes have no exact place in a z-space, because
the mapping network is not invertible in practice: `fit_z` looks for the z whose mapping output is nearest, and says
how near it came.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lsap_jax.errors import LsapError
from lsap_jax.generator import Generator
from lsap_jax.spaces import Space
from lsap_jax.spaces.hypersphere import retract

SUFFIXES = (".npy", ".npz", ".pt", ".pth")
# What tools call the array; other names (latent, codes, ...) may mean either, and the user has to say.
KINDS = dict.fromkeys(("z", "zs"), "z") | dict.fromkeys(("w", "ws", "wp", "w_plus", "dlatents", "projected_w"), "w")
FIT_STEPS = 300
FIT_CANDIDATES = 1024
FIT_STARTS = 3  # of each row: the mapping folds, and a single descent may end in a local minimum
FIT_ROWS = 256  # at a time
FIT_RATE = 0.1

Codes = dict[str, np.ndarray]


def read_start(path: str | Path, ids: Sequence[str], kind: str = "auto") -> tuple[str, dict[str, Codes]]:
    """Codes by image id, from a file, a folder of files, or a run folder.

    Args:
        path: a file with codes [N, D] or [N, L, D] in the order of the ids (one image: also [L, D]); a folder with
            ID.npy, .npz or .pt, each [D], [L, D] or [1, L, D]; or a run folder.
        ids: of the images.
        kind: "z", "w", or "auto", which goes by the array's name in the file.

    Returns:
        kind: "run", "z" or "w"; and for each image that has a code the arrays "z" and "f" of a run, or its code [L,
            D] under the kind's name.

    Raises:
        LsapError, ConversionError: nothing for these images, not as many codes as images, or a kind that has to be
            said.
    """
    path = Path(path)
    if (path / "run.json").is_file():
        return "run", _from_run(path, ids)
    if path.is_dir():
        found = {id: file for id in ids for suffix in SUFFIXES if (file := path / f"{id}{suffix}").is_file()}
        if not found:
            raise LsapError(f"{path}: has no code of these images; a file is named as its image, e.g. {ids[0]}.npy")
        read = {id: _read(file, kind) for id, file in found.items()}
        kinds = {one for one, _ in read.values()}
        if len(kinds) > 1:
            raise LsapError(f"{path}: holds z and w codes; start from one kind of them")
        return kinds.pop(), {id: {one: _single(code, found[id])} for id, (one, code) in read.items()}
    found_kind, codes = _read(path, kind)
    if len(ids) == 1 and codes.ndim == 2:
        codes = codes[None]
    if len(codes) != len(ids):
        raise LsapError(
            f"{path}: holds {len(codes)} codes for {len(ids)} images; give as many, or a folder with a file per id"
        )
    rows = codes if codes.ndim == 3 else codes[:, None]
    return found_kind, {id: {found_kind: code} for id, code in zip(ids, rows, strict=True)}


def _read(path: Path, kind: str) -> tuple[str, np.ndarray]:
    """(kind, codes [N, D] or [N, L, D]) of one file."""
    from convert_weights import read

    checkpoint = read(path)
    if checkpoint.kind != "codes":
        raise LsapError(f"{path}: holds {checkpoint.kind!r} weights, not codes; --init takes codes [N, D] or [N, L, D]")
    name = checkpoint.config["source_name"]
    found = KINDS.get(name) if kind == "auto" else kind
    if found is None:
        raise LsapError(
            f"{path}: does not say whether its codes are z or w (the array is called {name!r}); add --init_kind=z or w"
        )
    return found, checkpoint.arrays["codes"]


def _single(code: np.ndarray, path: Path) -> np.ndarray:
    """The code of one image as rows [L, D]."""
    if code.ndim == 3 and len(code) != 1:
        raise LsapError(f"{path}: holds {len(code)} codes; a file in a folder holds the code of one image")
    return code[0] if code.ndim == 3 else code


def _from_run(folder: Path, ids: Sequence[str]) -> dict[str, Codes]:
    from lsap_jax.inversion.results import read_code, read_manifest

    manifest = read_manifest(folder)
    found = {id: read_code(folder, id, manifest=manifest) for id in ids if id in manifest}
    if not found:
        raise LsapError(f"{folder}: this run has finished none of these images; ids have to be the same")
    return found


def starting_codes(
    G: Generator, space: Space, kind: str, codes: Mapping[str, Codes]
) -> tuple[dict[str, Codes], np.ndarray | None]:
    """What `read_start` returned as codes of the space.

    Returns:
        start: id -> arrays as the space has them, z on the sphere.
        residuals: of fitted w codes, per image: |mapping(z) - w| / |w - w_avg| over all rows; None for z codes.

    Raises:
        LsapError: a code fits neither the space nor the generator.
    """
    if kind == "run":
        return {id: {key: a for key, a in code.items() if key in space.keys} for id, code in codes.items()}, None
    rows = {id: np.asarray(code[kind], np.float32) for id, code in codes.items()}
    for id, code in rows.items():
        _check_rows(G, space, kind, id, code)
    if kind == "z":
        found = {id: np.asarray(retract(jnp.asarray(code))) for id, code in rows.items()}
        residuals = None
    else:
        found, residuals = _fit_all(G, space, rows)
    wide = {
        id: np.repeat(z, G.num_ws, axis=0) if space.detail.extended and len(z) == 1 else z for id, z in found.items()
    }
    return {id: {"z": z if space.detail.extended else z[0]} for id, z in wide.items()}, residuals


def _check_rows(G: Generator, space: Space, kind: str, id: str, code: np.ndarray) -> None:
    dim = G.z_dim if kind == "z" else G.w_dim
    allowed = {1, G.num_ws} if kind == "w" or space.detail.extended else {1}
    if code.ndim != 2 or code.shape[1] != dim or len(code) not in allowed or not np.isfinite(code).all():
        wanted = " or ".join(f"[{rows}, {dim}]" for rows in sorted(allowed))
        raise LsapError(
            f"--init: the {kind} code of {id!r} is {list(code.shape)}; space {space.name} of this generator takes "
            f"finite numbers {wanted}"
        )


def _fit_all(G: Generator, space: Space, rows: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """`fit_z` of every image's rows; a space with one z fits the mean row, which is nearest to all of them."""
    mean = np.asarray(G.w_avg)[None]
    wanted = {id: _untruncated(space, w, mean) for id, w in rows.items()}
    targets = wanted if space.detail.extended else {id: w.mean(axis=0, keepdims=True) for id, w in wanted.items()}
    z, reached = fit_z(G, np.concatenate(list(targets.values())))
    found: dict[str, np.ndarray] = {}
    residuals, at = [], 0
    for id, w in wanted.items():
        count = len(targets[id])
        found[id] = z[at : at + count]
        residuals.append(np.linalg.norm(reached[at : at + count] - w) / max(float(np.linalg.norm(w - mean)), 1e-12))
        at += count
    return found, np.array(residuals)


def _untruncated(space: Space, w: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """w rows [L, w_dim] as they are before the space's truncation, which is applied again on the way to the image."""
    psi, cutoff = space.truncation_psi, space.truncation_cutoff
    if psi in (0, 1):
        return w
    factor = np.ones((len(w), 1), np.float32)
    factor[: len(w) if cutoff is None else cutoff] = 1 / psi
    return mean + factor * (w - mean)


def fit_z(G: Generator, w: np.ndarray, steps: int = FIT_STEPS) -> tuple[np.ndarray, np.ndarray]:
    """z [M, z_dim] on the sphere whose mapping outputs are near w [M, w_dim], and those outputs [M, w_dim].

    From each of the three nearest of 1,024 fixed random samples, `steps` steps of Adam with a cosine schedule and the
    retraction of eq. 5 (arXiv 2307.08995) after each; the nearest result is kept. Rows do not influence each other.
    """
    candidates = retract(jax.random.normal(jax.random.key(0), (FIT_CANDIDATES, G.z_dim)))
    size = min(FIT_ROWS, len(w))
    found = []
    for i in range(0, len(w), size):
        part = np.asarray(w[i : i + size], np.float32)
        padded = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
        found.append([np.asarray(a)[: len(part)] for a in _fit(G, candidates, padded, steps)])
    z, reached = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return z, reached


@partial(jax.jit, static_argnums=3)
def _fit(G: Generator, candidates: jax.Array, w: jax.Array, steps: int) -> tuple[jax.Array, jax.Array]:
    known = G.map_w(candidates)
    # |a - b|² without the [M, candidates, w_dim] array of differences
    distance = jnp.square(known).sum(axis=-1)[None, :] - 2 * w @ known.T
    z = candidates[jax.lax.top_k(-distance, FIT_STARTS)[1]]  # [M, starts, z_dim]
    tx = optax.adam(optax.cosine_decay_schedule(FIT_RATE, steps))

    def step(carry: tuple[jax.Array, Any], _: None) -> tuple[tuple[jax.Array, Any], None]:
        z, state = carry
        gradient = jax.grad(lambda z: jnp.square(G.map_rows(z) - w[:, None]).sum())(z)
        updates, state = tx.update(gradient, state)
        return (retract(optax.apply_updates(z, updates)), state), None

    (z, _), _ = jax.lax.scan(step, (z, tx.init(z)), length=steps)
    reached = G.map_rows(z)
    best = jnp.argmin(jnp.square(reached - w[:, None]).sum(axis=-1), axis=1)[:, None, None]
    return jnp.take_along_axis(z, best, axis=1)[:, 0], jnp.take_along_axis(reached, best, axis=1)[:, 0]
