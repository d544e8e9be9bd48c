"""Where images come from: a folder, a glob, files, a file list, a dataset or arrays, all behind one small sequence.

Ids are known before anything is opened; pictures are loaded one by one, each with the SHA-256 of its input and with
notes of what was done to it. A picture that cannot be used raises `ImageError` and leaves the others alone.
"""

import hashlib
import os
import stat
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image

from lsap_jax.data.decode import ImageError, picture_from_array, picture_from_bytes
from lsap_jax.data.files import list_files
from lsap_jax.data.fitting import check_target, fit_picture
from lsap_jax.data.ids import assign_ids, check_ids
from lsap_jax.data.tfds import PREFIX, open_tfds
from lsap_jax.errors import LsapError

AHEAD = 16  # images
WORKERS = min(max(os.cpu_count() or 2, 2), 16)  # threads: a device that encodes takes more pictures than two decode
_MOST_FILE_BYTES = 2**30

Loaded = TypeVar("Loaded")


class Cut(NamedTuple):
    """What is used in place of a picture: a square of it, upright or not.

    Attributes:
        picture: the square, at the size that is wanted.
        quad: [4, 2], its corners in the picture, as of `lsap_jax.faces.align.crop_quad`.
        notes: what was done, in words.
    """

    picture: Image.Image
    quad: np.ndarray
    notes: list[str]


Align = Callable[[Image.Image], Cut]  # of an upright RGB picture; raises ImageError


@dataclass(frozen=True, kw_only=True)
class Item:
    """One loaded image.

    Attributes:
        id: its name in the results.
        image: uint8 [R, R, C], the preprocessed target.
        notes: what was done to the input ("cropped 640x480 to 480x480"), in order; empty where it was taken as it is.
        sha256: of the input: of the file's bytes, or of an array's dtype, shape and bytes.
        mask: float32 [R, R] in [0, 1], which pixels count; None is all.
        crop: where the image was cut out, as `lsap-jax align` records it: "input", "input_sha256" and "quad"; None
            where it was not.
    """

    id: str
    image: np.ndarray
    notes: tuple[str, ...]
    sha256: str
    mask: np.ndarray | None = None
    crop: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One decoded image, before it is fitted to a target.

    Attributes:
        id, notes, sha256: as of `Item`.
        picture: mode L or RGB, upright, any size.
    """

    id: str
    picture: Image.Image
    notes: tuple[str, ...]
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Source:
    """A sequence of images that are loaded when asked for.

    Attributes:
        ids: unique, safe as relative paths.
        inputs: where each comes from, for people (a path, "array 3").
        resolution, channels, fit: of the targets.
        skipped: files in a folder that are hidden or have no image suffix.
        results: image files that were left out since results go where they are.
        read: from an index to the input, a file's bytes or an array [H, W, C].
        align: what is done to every picture before it is fitted, in the threads that load them; None is nothing.
    """

    ids: tuple[str, ...]
    inputs: tuple[str, ...]
    resolution: int
    channels: int
    fit: str
    skipped: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    read: Callable[[int], bytes | np.ndarray]
    align: Align | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def origin(self, index: int) -> str:
        """Where the picture of an image is, for results; `inputs` may name more than that."""
        return self.inputs[index]

    def sha256(self, index: int) -> str:
        """Of an input, as `Item.sha256`.

        Raises:
            ImageError: the input cannot be read.
        """
        try:
            return _digest(self.read(index))
        except ImageError as error:
            raise ImageError(error.reason, self.inputs[index]) from None

    def decode(self, index: int) -> Picture:
        """Loads one image as it is.

        Raises:
            ImageError: unreadable, cut off, empty, not an image, …; the message names the input, `.reason` says why.
        """
        try:
            data = self.read(index)
            picture, done = picture_from_bytes(data) if isinstance(data, bytes) else picture_from_array(data)
        except ImageError as error:
            raise ImageError(error.reason, self.inputs[index]) from None
        return Picture(id=self.ids[index], picture=picture, notes=tuple(done), sha256=_digest(data))

    def load(self, index: int) -> Item:
        """Loads and preprocesses one image.

        Raises:
            ImageError: as `decode`, or as `align` raises it.
        """
        decoded = self.decode(index)
        picture, done, crop = decoded.picture, list(decoded.notes), None
        if self.align is not None:
            try:
                cut = self.align(picture.convert("RGB"))
            except ImageError as error:
                raise ImageError(error.reason, self.inputs[index]) from None
            picture, crop = cut.picture, crop_record(self.origin(index), decoded.sha256, cut.quad)
            done += cut.notes
        image, fitted = fit_picture(picture, resolution=self.resolution, channels=self.channels, fit=self.fit)
        return Item(id=decoded.id, image=image, notes=(*done, *fitted), sha256=decoded.sha256, crop=crop)

    def select(self, indices: Sequence[int]) -> "Source":
        """The source of some of the images, in that order (a shard, the unfinished ones)."""
        chosen = tuple(indices)
        return replace(
            self,
            ids=tuple(self.ids[i] for i in chosen),
            inputs=tuple(self.inputs[i] for i in chosen),
            read=lambda index: self.read(chosen[index]),
        )

    def stream(
        self, indices: Sequence[int] | None = None, *, ahead: int = AHEAD, workers: int = WORKERS
    ) -> Iterator[tuple[int, "Item | ImageError"]]:
        """Loads images ahead of their use, in threads, and yields (index, item or its error) in order.

        Loading begins at the first `next`. From then on the `ahead` images after the one that was yielded last are
        loaded, or being loaded, while the caller is at work: with `ahead` the size of a batch, the next batch is there
        when this one is done.

        Args:
            indices: of the images, in the order wanted; all of them by default.
            ahead: how many images are held, at most, beside the one that was yielded; 0 loads each when it is asked
                for.
            workers: threads.
        """
        return self._stream(self.load, indices, ahead, workers)

    def stream_pictures(
        self,
        prepare: Callable[[Picture], Loaded],
        indices: Sequence[int] | None = None,
        *,
        ahead: int = AHEAD,
        workers: int = WORKERS,
    ) -> Iterator[tuple[int, "Loaded | ImageError"]]:
        """As `stream`, what `prepare` makes of the pictures of `decode`, in the threads."""
        return self._stream(lambda index: prepare(self.decode(index)), indices, ahead, workers)

    def _stream(
        self, load: Callable[[int], Loaded], indices: Sequence[int] | None, ahead: int, workers: int
    ) -> Iterator[tuple[int, "Loaded | ImageError"]]:
        if ahead < 0:
            raise ValueError(f"ahead={ahead} is negative; 0 loads each image when it is asked for")
        waiting: deque[tuple[int, Future[Loaded | ImageError]]] = deque()
        pool = ThreadPoolExecutor(workers, thread_name_prefix="lsap-load")
        try:
            for index in range(len(self)) if indices is None else indices:
                waiting.append((index, pool.submit(_try, load, index)))
                if len(waiting) > ahead:
                    index, future = waiting.popleft()
                    yield index, future.result()
            while waiting:
                index, future = waiting.popleft()
                yield index, future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def crop_record(input: str, sha256: str, quad: np.ndarray) -> dict[str, Any]:
    """What results keep of a square that was cut out of a picture.

    Args:
        input: where the picture is, with its SHA-256.
        quad: [4, 2], see `Cut`; it is kept to the thousandth of a pixel.
    """
    return {"input": input, "input_sha256": sha256, "quad": np.round(quad, 3).tolist()}


def _try(load: Callable[[int], Loaded], index: int) -> "Loaded | ImageError":
    try:
        return load(index)
    except ImageError as error:
        return error


def open_images(
    spec: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    resolution: int,
    channels: int,
    fit: str = "crop",
    out: str | os.PathLike[str] | None = None,
) -> Source:
    """Opens a folder (searched through), a glob, one or several files, `@FILE` (a file list), or `tfds:NAME/SPLIT`.

    The id of a file is its path relative to the folder named (of a glob: to the part before the first wildcard; of
    several, or of a list: to their common folder) without its suffix. Order is that of the names, whatever the file
    system's; with a file list, that of the list.

    Args:
        spec: one of the above, or a list of folders, globs, files and file lists. A file list is UTF-8 text, a path
            per line, relative ones from the list's folder; empty lines and those that begin with # are passed over.
        resolution: R, of the targets, in pixels.
        channels: 1 or 3.
        fit: "crop" (centred square) or "pad" (with white).
        out: folder of the results; what a folder or a glob finds in it is left out.
    Raises:
        LsapError: nothing was found, the images lie in `out`, names collide, a file list is damaged, or an option is
            unknown.
    """
    check_target(resolution, channels, fit)
    specs = [spec] if isinstance(spec, str | os.PathLike) else list(spec)
    if len(specs) == 1 and str(specs[0]).startswith(PREFIX):
        ids, read = open_tfds(str(specs[0]))
        inputs = tuple(f"{specs[0]} {text}" for text in ids)
        return Source(ids=tuple(ids), inputs=inputs, resolution=resolution, channels=channels, fit=fit, read=read)
    if any(str(one).startswith(PREFIX) for one in specs):
        raise LsapError(f"a {PREFIX} dataset is opened alone, not in a list with others")
    listing = list_files(specs, out)
    return Source(
        ids=tuple(assign_ids(listing.names)),
        inputs=listing.paths,
        resolution=resolution,
        channels=channels,
        fit=fit,
        skipped=listing.skipped,
        results=listing.results,
        read=lambda index: read_file(listing.paths[index]),
    )


def from_arrays(
    images: np.ndarray,
    ids: Sequence[str] | None = None,
    *,
    resolution: int,
    channels: int,
    fit: str = "crop",
) -> Source:
    """Images in memory.

    Args:
        images: [N, H, W, C]; uint8, uint16, or float in [-1, 1] (rounded to the nearest of 256 grey levels, like every
            target); C of 1 to 4, with alpha last.
        ids: one per image; the index as text by default.
    Raises:
        LsapError: another shape, ids that are unsafe, equal, or not as many as images.
    """
    check_target(resolution, channels, fit)
    images = np.asarray(images)
    if images.ndim != 4 or not len(images):
        raise LsapError(f"images of shape {list(images.shape)}: [N, H, W, C] with at least one image is needed")
    names = [str(index) for index in range(len(images))] if ids is None else list(ids)
    if len(names) != len(images):
        raise LsapError(f"{len(names)} ids for {len(images)} images: one each is needed")
    check_ids(names)
    return Source(
        ids=tuple(names),
        inputs=tuple(f"array {index}" for index in range(len(images))),
        resolution=resolution,
        channels=channels,
        fit=fit,
        read=lambda index: images[index],
    )


def read_file(path: str | os.PathLike[str]) -> bytes:
    """All of a picture's file.

    Raises:
        ImageError: not there, not a regular file, too large, or not to be read.
    """
    file = Path(path)
    try:
        about = file.stat()
        if stat.S_ISDIR(about.st_mode):
            os.listdir(file)  # says why a folder was not searched
        if not stat.S_ISREG(about.st_mode):  # reading a pipe or a device would never end
            raise ImageError("not a regular file")
        if about.st_size > _MOST_FILE_BYTES:
            raise ImageError(f"larger than {_MOST_FILE_BYTES // 2**20} MiB; scale it down first")
        return file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        link = os.path.islink(file)
        raise ImageError("a link to a file that is not there" if link else "not there, or no longer there") from None
    except OSError as error:
        raise ImageError(f"cannot be read ({error.strerror})") from None


def _digest(data: bytes | np.ndarray) -> str:
    if isinstance(data, bytes):
        return hashlib.sha256(data).hexdigest()
    array = np.asarray(data)
    return hashlib.sha256(f"{array.dtype} {array.shape} ".encode() + array.tobytes()).hexdigest()
