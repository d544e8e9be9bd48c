"""The arrays of one image as a store has them: a row of each."""

import hashlib

import numpy as np

from lsap_jax.storage.parts import PARTS

STORED = sorted((name for name, part in PARTS.items() if part.stored), key=lambda name: PARTS[name].arrays)
ADDED = ("content", "curve_length")  # what a row's record has in addition to the manifest's

Row = dict[str, np.ndarray]


def content(row: Row) -> str:
    """SHA-256 of the arrays of one image."""
    digest = hashlib.sha256()
    for name in sorted(row):
        array = row[name]
        digest.update(f"{name} {array.dtype.name} {list(array.shape)} ".encode() + array.tobytes())
    return digest.hexdigest()
