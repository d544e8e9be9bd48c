"""Image sets for training: packed arrays or folders, in memory as uint8, in an order that a resumed run repeats."""

import io
import zipfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from lsap_jax.data import open_images
from lsap_jax.errors import LsapError


def load_pack(path: str | Path, resolution: int, channels: int) -> np.ndarray:
    """uint8 images [N, R, R, C] of an .npz pack or of anything `lsap_jax.data.open_images` reads.

    A pack holds `images` [N, R, R, C], or `jpeg` (the files' bytes one after another) with `offsets` [N + 1].

    Raises:
        LsapError: no such pack, or its images have another size.
    """
    path = Path(path)
    if path.suffix != ".npz":
        return _load_source(path, resolution, channels)
    try:
        with open(path, "rb") as file, np.load(file) as pack:  # numpy leaves a broken file open that it opened itself
            images = pack["images"] if "images" in pack else _decode(pack["jpeg"], pack["offsets"])
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise LsapError(
            f"{path}: not a pack of images ({error}); it needs `images` or `jpeg` with `offsets`"
        ) from error
    if images.dtype != np.uint8 or images.shape[1:] != (resolution, resolution, channels):
        wanted = (resolution, resolution, channels)
        raise LsapError(f"{path}: images are {images.dtype} {images.shape[1:]}, the generator makes uint8 {wanted}")
    return images


def _decode(data: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    files = data.tobytes()
    pieces = [files[a:b] for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
    return np.stack([np.asarray(Image.open(io.BytesIO(piece)).convert("RGB")) for piece in pieces])


def _load_source(path: Path, resolution: int, channels: int) -> np.ndarray:
    source = open_images(str(path), resolution=resolution, channels=channels)
    return np.stack([source.load(i).image for i in range(len(source))])


def split_heldout(images: np.ndarray, heldout: int) -> tuple[np.ndarray, np.ndarray]:
    """(training, held-out) images: the last `heldout` are never trained on."""
    if not 0 < heldout < len(images):
        raise LsapError(
            f"cannot hold out {heldout} of {len(images)} images; set heldout between 1 and {len(images) - 1}"
        )
    return images[:-heldout], images[-heldout:]


def load_training_images(
    data: str, extra: Sequence[str], heldout: int, resolution: int, channels: int
) -> tuple[np.ndarray, np.ndarray]:
    """(training, held-out): held out are the last images of `data`; those of the `extra` packs are all trained on."""
    images, apart = split_heldout(load_pack(data, resolution, channels), heldout)
    return np.concatenate([images, *(load_pack(path, resolution, channels) for path in extra)]), apart


def batch(images: np.ndarray, step: int, batch_size: int, seed: int, mirror: bool) -> np.ndarray:
    """Batch number `step` of uint8 images: an epoch's order depends on the seed and the epoch alone."""
    per_epoch = len(images) // batch_size
    if per_epoch == 0:
        raise LsapError(f"{len(images)} training images do not fill a batch of {batch_size}; lower train.batch_size")
    epoch, place = divmod(step, per_epoch)
    chosen = images[_order(len(images), seed, epoch)[place * batch_size : (place + 1) * batch_size]]
    if mirror:
        flips = np.random.default_rng((seed, epoch, place)).random(batch_size) < 0.5
        chosen = np.where(flips[:, None, None, None], chosen[:, :, ::-1], chosen)
    return chosen


@lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    """Kept: for a small network on an accelerator it would take as long as a step."""
    return np.random.default_rng((seed, epoch)).permutation(count)
