"""Animations of edits: frames between the strengths, to and fro, as animated WebP, GIF or MP4.

| format | file                           | written by                                |
|--------|--------------------------------|-------------------------------------------|
| webp   | animations/ID/DIRECTION.webp   | Pillow                                    |
| gif    | gifs/ID/DIRECTION.gif          | Pillow                                    |
| mp4    | videos/ID/DIRECTION.mp4        | ffmpeg (imageio-ffmpeg, the extra `video`) |
"""

import importlib.util
import io
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from lsap_jax.errors import LsapError

FORMAT, FRAMES, FPS = "webp", 49, 25
MOST_FRAMES, MOST_FPS = 1000, 50  # GIF has no shorter delay than 20 ms
SIDE = 512  # px, of a frame, at most
HELD_SECONDS = 0.5  # for which a picture stays where nothing lies between one and the next


@dataclass(frozen=True, kw_only=True)
class Animation:
    """How edits are animated.

    Attributes:
        format: a row of `FORMATS`.
        frames: from the least strength to the greatest, both included; the way back has the same ones.
        fps: frames per second.
    """

    format: str = FORMAT
    frames: int = FRAMES
    fps: int = FPS

    @property
    def record(self) -> dict[str, Any]:
        """What edit.json says of it."""
        return {"format": self.format, "frames": self.frames, "fps": self.fps, "side": SIDE}


def check_animation(animation: Animation) -> None:
    """Raises LsapError where a number is out of range, the format is unknown, or what writes it is not installed."""
    if animation.format not in FORMATS:
        raise LsapError(f"--animate={animation.format}: choose one of {', '.join(FORMATS)}")
    for name, value, low, high in (("frames", animation.frames, 2, MOST_FRAMES), ("fps", animation.fps, 1, MOST_FPS)):
        if not low <= value <= high:
            raise LsapError(f"--{name}={value}: must lie between {low} and {high}")
    if animation.format == "mp4" and importlib.util.find_spec("imageio_ffmpeg") is None:
        raise LsapError(
            "--animate=mp4 needs imageio-ffmpeg, which the extra `video` of lsap_jax installs (pip install "
            "imageio-ffmpeg); --animate=webp and --animate=gif need nothing"
        )


def places_between(places: Sequence[float], frames: int) -> list[float]:
    """Evenly spaced numbers from the least of some places to the greatest, both included."""
    return np.linspace(min(places), max(places), frames).tolist()  # type: ignore[no-any-return]


def reduced(picture: np.ndarray, side: int) -> np.ndarray:
    """A square picture, uint8 [R, R, C], by Lanczos at most so large."""
    if max(picture.shape) <= side:
        return picture
    return np.asarray(as_image(picture).resize((side, side), Image.Resampling.LANCZOS)).reshape(side, side, -1)


def as_image(picture: np.ndarray) -> Image.Image:
    """uint8 [H, W, C], C of 1 or 3, for Pillow."""
    return Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)


def held(pictures: Sequence[np.ndarray], fps: int) -> list[np.ndarray]:
    """Frames that show one picture after the other, each for `HELD_SECONDS`."""
    return [picture for picture in pictures for _ in range(max(1, round(HELD_SECONDS * fps)))]


def animated(frames: Sequence[np.ndarray], animation: Animation) -> tuple[str, bytes]:
    """The kind of part that an animation is (`lsap_jax.storage.parts`), and its file.

    Args:
        frames: uint8 [H, W, C] of one shape; they are shown to and fro, in WebP and GIF without end.

    Raises:
        LsapError: the file cannot be written.
    """
    part, encode = FORMATS[animation.format]
    shown = [np.asarray(as_image(frame).convert("RGB")) for frame in (*frames, *frames[-2:0:-1])]
    return part, encode(shown, animation.fps)


def _by_pillow(name: str, frames: Sequence[Image.Image], fps: int, **options: Any) -> bytes:
    first, *others = frames
    # GIF has hundredths of a second: single frames are shown longer or shorter, so that all of them take their time.
    ends = [10 * round(100 * k / fps) for k in range(len(frames) + 1)]
    delays = [end - start for start, end in zip(ends, ends[1:], strict=False)]
    buffer = io.BytesIO()
    try:
        first.save(buffer, name, save_all=True, append_images=others, duration=delays, loop=0, **options)
    except (KeyError, OSError) as error:
        raise LsapError(f"animated {name}: this Pillow cannot write it ({error}); install one that can") from error
    return buffer.getvalue()


def _webp(frames: Sequence[np.ndarray], fps: int) -> bytes:
    return _by_pillow("WEBP", list(map(Image.fromarray, frames)), fps, quality=90)


def _gif(frames: Sequence[np.ndarray], fps: int) -> bytes:
    # Pillow's own choice, median cut, takes a hundred times as long for colours that are as near.
    return _by_pillow("GIF", [Image.fromarray(one).quantize(256, Image.Quantize.FASTOCTREE) for one in frames], fps)


# One thread, and no version in the file: the same frames give the same bytes. yuv420p is what every player shows.
_X264 = "-an -c:v libx264 -pix_fmt yuv420p -crf 18 -threads 1 -fflags +bitexact -flags:v +bitexact -movflags +faststart"


def _mp4(frames: Sequence[np.ndarray], fps: int) -> bytes:
    import imageio_ffmpeg

    height, width, _ = frames[0].shape
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps), "-i", "-"]
    with tempfile.TemporaryDirectory(prefix="lsap-") as folder:
        file = Path(folder) / "film.mp4"
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *raw, *_X264.split(), str(file)]
        try:
            subprocess.run(
                command, input=b"".join(map(np.ndarray.tobytes, frames)), capture_output=True, check=True,
                start_new_session=True,  # Ctrl-C is for this process, which saves what is done
            )  # fmt: skip
            return file.read_bytes()
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode("utf-8", "replace").strip().splitlines() or [f"exit status {error.returncode}"]
            raise LsapError(f"mp4: ffmpeg could not write it ({said[-1]}); choose --animate=webp") from error
        except OSError as error:
            raise LsapError(f"mp4: ffmpeg could not be started ({error}); choose --animate=webp") from error


class _Format(NamedTuple):
    part: str
    encode: Callable[[Sequence[np.ndarray], int], bytes]


FORMATS: Mapping[str, _Format] = {
    "webp": _Format("animations", _webp),
    "gif": _Format("gifs", _gif),
    "mp4": _Format("videos", _mp4),
}
