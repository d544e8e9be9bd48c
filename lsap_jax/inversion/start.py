"""Codes of other tools, or of an earlier run, as the start of an inversion (`--init`).

Codes of the run's own space are used as they are; all others are converted through their ws. W and W+ codes have no
exact place in a z-space, because the mapping network is not invertible in practice: `fit_z` searches for the z whose
mapping output is nearest, and `starting_codes` reports how near it came.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import jax
import jax.numpy as jnp
import numpy as np

from lsap_jax.errors import LsapError
from lsap_jax.models.generator import Generator
from lsap_jax.spaces import Space, parse_space

SUFFIXES = (".npy", ".npz", ".pt", ".pth")
# Names that tools give the array; other names (latent, codes, ...) may mean either kind, so the user has to name it.
KINDS = dict.fromkeys(("z", "zs"), "z") | dict.fromkeys(("w", "ws", "wp", "w_plus", "dlatents", "projected_w"), "w")
UNNAMED = ("array", "tensor")  # an array that has no name of its own, so that the file's name may tell
BATCH = 32  # images at a time

Codes = dict[str, np.ndarray]


def read_start(path: str | Path, ids: Sequence[str], kind: str = "auto") -> tuple[str, dict[str, Codes]]:
    """Codes by image id, from a file, a folder of files, or a run folder.

    Args:
        path: a file with codes [N, D] or [N, L, D] in the order of the ids (one image: also [L, D]), or by the names of
            images; a folder with ID.npy, .npz or .pt, or with a folder ID around such a file, each [D], [L, D] or
            [1, L, D]; or a run folder.
        ids: of the images.
        kind: "z", "w", or "auto", which takes it from the array's name in the file.

    Returns:
        kind: "run", "z" or "w"; and for each image that has a code the arrays of a run by name, or its code [L, D]
            under the kind's name.

    Raises:
        LsapError, ConversionError: there is no code of these images, the numbers of codes and images differ, or the
            kind has to be given.
    """
    path = Path(path)
    if (path / "run.json").is_file():
        return "run", _from_run(path, ids)
    if path.is_dir():
        found = {id: file for id in ids if (file := _file_of(path, id)) is not None}
        if not found:
            raise LsapError(f"{path}: has no code of these images; name each file after its image, e.g. {ids[0]}.npy")
        read = {id: _read(file, kind)[:2] for id, file in found.items()}
        kinds = {one for one, _ in read.values()}
        if len(kinds) > 1:
            raise LsapError(f"{path}: holds z and w codes; give codes of one kind")
        return kinds.pop(), {id: {one: _single(code, found[id])} for id, (one, code) in read.items()}
    found_kind, codes, names = _read(path, kind)
    if names is not None:
        return found_kind, {id: {found_kind: np.atleast_2d(codes[row])} for id, row in _by_name(path, ids, names)}
    if len(ids) == 1 and codes.ndim == 2:
        codes = codes[None]
    if len(codes) != len(ids):
        raise LsapError(
            f"{path}: holds {len(codes)} codes for {len(ids)} images; give one each, or a folder with a file per id"
        )
    rows = codes if codes.ndim == 3 else codes[:, None]
    return found_kind, {id: {found_kind: code} for id, code in zip(ids, rows, strict=True)}


def _file_of(folder: Path, id: str) -> Path | None:
    """The file with an image's code: ID.npy and the like, or the only such file in the folder ID."""
    for suffix in SUFFIXES:
        if (file := folder / f"{id}{suffix}").is_file():
            return file
    inside = folder / id
    files = sorted(file for file in inside.iterdir() if file.suffix in SUFFIXES) if inside.is_dir() else []
    if len(files) > 1:
        raise LsapError(
            f"{inside}: has {len(files)} files of codes, {files[0].name} and more; leave the one to start from"
        )
    return files[0] if files else None


def _by_name(path: Path, ids: Sequence[str], names: Sequence[str]) -> list[tuple[str, int]]:
    """Each id with the row of its code: a name is the id, the path of the picture, or the end of one."""
    bare = [name.replace("\\", "/") for name in names]
    bare = [name.removesuffix(PurePosixPath(name).suffix) if PurePosixPath(name).suffix else name for name in bare]
    found = []
    for id in ids:
        rows = [row for row, name in enumerate(bare) if id in (name, names[row]) or name.endswith(f"/{id}")]
        rows = rows or [row for row, name in enumerate(bare) if name == id.rpartition("/")[2]]
        if len(rows) > 1:
            raise LsapError(f"{path}: has {len(rows)} codes for {id!r}, as {names[rows[0]]!r} and {names[rows[1]]!r}")
        found += [(id, row) for row in rows]
    if not found:
        raise LsapError(f"{path}: has codes of {', '.join(map(repr, names[:3]))}, none of these images, as {ids[0]!r}")
    return found


def _read(path: Path, kind: str) -> tuple[str, np.ndarray, Sequence[str] | None]:
    """(kind, codes [N, D] or [N, L, D], names of the images where the file has them) of one file."""
    from convert_weights import read

    checkpoint = read(path)
    if "codes" not in checkpoint.parts:
        raise LsapError(f"{path}: holds {checkpoint.kind!r} weights, not codes; --init takes codes [N, D] or [N, L, D]")
    codes = checkpoint.parts["codes"]
    name = codes.config["source_name"]
    told = codes.config.get("space") or KINDS.get(name) or (KINDS.get(path.stem) if name in UNNAMED else None)
    found = told if kind == "auto" else kind
    if found is None:
        raise LsapError(
            f"{path}: does not say whether its codes are z or w (the array is called {name!r}); add --init_kind=z or w"
        )
    return found, codes.arrays["codes"], codes.config.get("names")


def _single(code: np.ndarray, path: Path) -> np.ndarray:
    """The code of one image as rows [L, D]."""
    if code.ndim == 3 and len(code) != 1:
        raise LsapError(f"{path}: holds {len(code)} codes; a file in a folder holds the code of one image")
    return code[0] if code.ndim == 3 else code


def _from_run(folder: Path, ids: Sequence[str]) -> dict[str, Codes]:
    from lsap_jax.storage.results import read_code, read_manifest

    manifest = read_manifest(folder)
    found = {id: read_code(folder, id, manifest=manifest) for id in ids if id in manifest}
    if not found:
        raise LsapError(f"{folder}: this run has finished none of these images; they need the ids of that run")
    return found


def starting_codes(
    G: Generator,
    space: Space,
    kind: str,
    codes: Mapping[str, Codes],
    given: Space | None = None,
    labels: Mapping[str, np.ndarray] | None = None,
) -> tuple[dict[str, Codes], np.ndarray | None]:
    """The codes that `read_start` returned, as codes of the space.

    Args:
        given: the space of a run's codes (`space_of`); codes from files are in Z, Z+, W or W+ without truncation.
        labels: by id, of a conditional generator; codes of a run that have a class were found with that one.

    Returns:
        start: id -> arrays as the space has them, z on the sphere.
        residuals: per image |ws of the start - ws given| / |ws given - w_avg| over all rows, where the codes were
            converted through their ws; None where they are used as they are.

    Raises:
        LsapError: a code fits neither the space nor the generator.
    """
    if given is None:
        given, details = _from_files(G, space, kind, {id: code[kind] for id, code in codes.items()})
    else:
        details = {id: code[given.key] for id, code in codes.items()}
    key, shape = space.key, space.shape(G)
    others = [k for k in space.keys if k != key]
    rest = {id: {k: code[k] for k in others if k in code} for id, code in codes.items()}
    if given.shares_codes(space) and all(code.ndim <= len(shape) for code in details.values()):
        wide = {id: np.broadcast_to(np.asarray(code, np.float32), shape) for id, code in details.items()}
        found = {id: np.asarray(space.detail.retract(jnp.asarray(code[None])))[0] for id, code in wide.items()}
        residuals = None
    elif not given.has_ws:
        raise LsapError(f"--init: styles have no ws that {space.name} could start from; give codes of w+ or z+")
    else:
        own = {id: codes[id].get("c", (labels or {}).get(id)) for id in details}
        kept = all(np.array_equal(own[id], (labels or {}).get(id)) for id in details)  # type: ignore[arg-type]
        if given.needs_statistics and not kept:
            raise LsapError(
                f"--init: codes of {given.name} have coordinates of their class; give the classes of that run"
            )
        found, residuals = _by_ws(G, given, space, details, own, labels or {})
    return {id: {**rest[id], key: code} for id, code in found.items()}, residuals


def _from_files(
    G: Generator, space: Space, kind: str, codes: Mapping[str, np.ndarray]
) -> tuple[Space, dict[str, np.ndarray]]:
    """The space of codes [L, D] from files, and the codes as it has them: one row for all, or one per layer."""
    dim = G.z_dim if kind == "z" else G.w_dim
    one_z = space.detail == parse_space("z").detail and kind == "z"  # rows of Z+ have no place in Z
    allowed = {1} if one_z else {1, G.num_ws}
    codes = {id: _one_row(code) for id, code in codes.items()}
    for id, code in codes.items():
        if code.ndim != 2 or code.shape[1] != dim or len(code) not in allowed or not np.isfinite(code).all():
            wanted = " or ".join(f"[{rows}, {dim}]" for rows in sorted(allowed))
            raise LsapError(
                f"--init: the {kind} code of {id!r} is {list(code.shape)}; space {space.name} of this generator takes "
                f"finite numbers {wanted}"
            )
    if all(len(code) == 1 for code in codes.values()):
        return parse_space(kind), {id: code[0] for id, code in codes.items()}
    return parse_space(f"{kind}+"), {id: np.broadcast_to(code, (G.num_ws, dim)) for id, code in codes.items()}


def _one_row(code: np.ndarray) -> np.ndarray:
    """Equal rows as one: it serves a generator with any number of layers."""
    return code[:1] if code.ndim == 2 and (code == code[:1]).all() else code


def _by_ws(
    G: Generator,
    given: Space,
    space: Space,
    details: Mapping[str, np.ndarray],
    before: Mapping[str, np.ndarray | None],
    after: Mapping[str, np.ndarray],
) -> tuple[Codes, np.ndarray]:
    """Detail codes of the space whose ws are nearest to those of the given codes, and the residuals; with the labels
    that the codes have `before` and `after`, of a conditional generator.
    """
    ids, found = list(details), dict[str, np.ndarray]()
    residuals: list[float] = []
    for at in range(0, len(ids), BATCH):
        part = ids[at : at + BATCH]
        padded = [*part, *[part[-1]] * (BATCH - len(part))]
        was, now = (
            None if padded[0] not in c or c[padded[0]] is None else np.stack([c[id] for id in padded])  # type: ignore
            for c in (before, after)
        )
        some = np.stack([np.asarray(details[id], np.float32) for id in padded])
        codes, gaps = _convert(G, given, space, some, was, now)
        found |= dict(zip(part, np.asarray(codes), strict=False))
        residuals += np.asarray(gaps)[: len(part)].tolist()
    return found, np.array(residuals)


@jax.jit(static_argnums=(1, 2))
def _convert(
    G: Generator, given: Space, space: Space, codes: jax.Array, was: jax.Array | None, now: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    ws = G.truncate(given.detail.decode(G.given(was), codes)["ws"], given.truncation_psi, given.truncation_cutoff)
    G = G.given(now)
    found = space.from_ws(G, ws)
    if not space.has_ws:
        return found, jnp.zeros(len(codes))
    shown = G.truncate(space.detail.decode(G, found)["ws"], space.truncation_psi, space.truncation_cutoff)
    length = jnp.sqrt(jnp.square(ws - G.w_avg[None, None]).sum(axis=(1, 2)))
    return found, jnp.sqrt(jnp.square(shown - ws).sum(axis=(1, 2))) / jnp.maximum(length, 1e-12)
