"""Images before and after a batch: a `Job` goes in, a `Layout` makes the arrays, and an `Inverted` comes out."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from lsap_jax.errors import LsapError
from lsap_jax.models.generator import Generator
from lsap_jax.networks.view import View, middle
from lsap_jax.pixels import to_float
from lsap_jax.spaces import Space, feature


@dataclass(frozen=True, kw_only=True)
class Job:
    """One image to invert.

    Attributes:
        id: folds the rng, so that the result does not depend on the neighbours.
        image: uint8 [R, R, C].
        mask: float [R, R] in [0, 1], or None.
        start: codes to begin from, by name; missing parts start as the configuration says. The label "c" is one of
            them, and is given where codes have a class.
    """

    id: str
    image: np.ndarray
    mask: np.ndarray | None = None
    start: Mapping[str, np.ndarray] | None = None


@dataclass(frozen=True, kw_only=True)
class Inverted:
    """One image's result.

    Attributes:
        codes: by name, without the batch axis.
        image: float32 [R, R, C], clipped to [-1, 1].
        metrics: by name.
        curve: loss terms and "loss", the weighted total, [steps + 1] each: before the first step, …, after the last.
        flags: "non-finite loss or gradient; kept step k" where the image was frozen.
    """

    codes: dict[str, np.ndarray]
    image: np.ndarray
    metrics: dict[str, float]
    curve: dict[str, np.ndarray]
    flags: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The arrays that the jobs of a batch become.

    Attributes:
        shape: of an image, (R, R, C).
        seen_by: name of a network that looks at the targets in another way -> that way.
        codes: name of an array of a code -> its shape for one image.
        masked: whether there are masks.
    """

    shape: tuple[int, int, int]
    seen_by: Mapping[str, View]
    codes: Mapping[str, tuple[int, ...]]
    masked: bool = False

    def arrays(self, jobs: Sequence[Job]) -> dict[str, Any]:
        """Inputs of `prepare`, first axis B: "images", and those "seen_by" networks, in [-1, 1]; "words" [B, 2] of the
        ids; "mask" [B, R, R] where there are masks; "start" and "has_start" [B], by name, where a job has starting
        codes.
        """
        images = np.stack([job.image for job in jobs])
        found: dict[str, Any] = {
            "images": to_float(images),
            "seen_by": {name: to_float(viewed(images, view)) for name, view in self.seen_by.items()},
            "words": np.stack([id_words(job.id) for job in jobs]),
        }
        if self.masked:
            found["mask"] = np.stack([self._mask(job) for job in jobs])
        if "c" in self.codes or any(job.start for job in jobs):
            found["start"] = {key: np.stack([self._start(job, key) for job in jobs]) for key in self.codes}
            found["has_start"] = {key: np.array([key in (job.start or {}) for job in jobs]) for key in self.codes}
        return found

    def _start(self, job: Job, key: str) -> np.ndarray:
        """An array of the job's code; zeros where there is none."""
        code, shape = (job.start or {}).get(key), self.codes[key]
        if code is None and key == "c":
            raise LsapError(f"{job.id}: has no class, which every image of this run needs")
        if code is not None and code.shape != shape:
            raise LsapError(f"{job.id}: the start code {key!r} has shape {code.shape}, this run needs {shape}")
        return np.zeros(shape, np.float32) if code is None else np.asarray(code, np.float32)

    def _mask(self, job: Job) -> np.ndarray:
        return np.ones(self.shape[:2], np.float32) if job.mask is None else np.asarray(job.mask, np.float32)


def code_shapes(space: Space, G: Generator) -> dict[str, tuple[int, ...]]:
    """Shapes of one image's code in this space, by name."""

    f0 = None
    if space.has_base:
        f0 = jax.ShapeDtypeStruct((1, *feature.base_shape(G, space.base_resolution)), np.float32)

    def one(G: Generator, f0: jax.Array | None) -> dict[str, jax.Array]:
        G = G.given(jnp.zeros((1, G.c_dim)) if space.has_class else None)
        return space.init(G, jax.random.split(jax.random.key(0), 1), f0)

    return {key: a.shape[1:] for key, a in jax.eval_shape(one, G, f0).items()}


def even_size(size: int, count: int) -> int:
    """The least batch size that computes `count` images in as few batches as `size` does.

    Batches have one shape, so that one program computes them all, and accelerators compute what a batch is padded with,
    too. 17 images in batches of 16 take two; two of 9 waste one place instead of 15. In general fewer places are empty
    than there are batches, which a second program for the last batch could not save for the price of its compilation.
    """
    return size if size < 1 or count < 1 else -(-count // -(-count // size))


def batches_of(count: int, size: int) -> Iterator[range]:
    """Indices of each batch of `count` images."""
    return (range(i, min(i + size, count)) for i in range(0, count, size))


def in_slots(jobs: Sequence[Job | None], size: int) -> tuple[list[Job], np.ndarray]:
    """A job for each of `size` slots, and bool [size], which slots are wanted.

    Empty slots are copies of a job, so that shapes never change. Accelerators compute them, too, and they are thrown
    away.
    """
    if len(jobs) > size:
        raise ValueError(f"{len(jobs)} jobs do not fit a batch of {size}")
    filler = next(job for job in jobs if job is not None)
    padded = [*jobs, *[None] * (size - len(jobs))]
    return [job or filler for job in padded], np.array([job is not None for job in padded])


def id_words(id: str) -> np.ndarray:
    """uint32 [2] of an image's id, the same on every machine."""
    return np.frombuffer(hashlib.sha256(id.encode()).digest()[:8], "<u4").copy()


def viewed(images: np.ndarray, view: View) -> np.ndarray:
    """uint8 images [B, R, R, C] as [B, height, width, C], by Pillow, as the authors' code prepares targets."""
    images = images[:, middle(images.shape[2], view)]
    if images.shape[1:3] == (view.height, view.width):
        return images
    squeezed = images[..., 0] if images.shape[-1] == 1 else images
    size, filter = (view.width, view.height), Image.Resampling[view.filter.upper()]
    resized = [np.asarray(Image.fromarray(image).resize(size, filter)) for image in squeezed]
    return np.stack(resized).reshape(len(images), view.height, view.width, images.shape[-1])
