"""Films of edits: the frames between the strengths, the three formats, and what is refused."""

import importlib.util
import io
import subprocess

import jax
import numpy as np
import pytest
from PIL import Image
from small_runs import write_run

from lsap_jax.cli import main
from lsap_jax.data.masks import levels
from lsap_jax.editing.animation import (
    FORMATS,
    SIDE,
    Animation,
    animated,
    check_animation,
    held,
    places_between,
    reduced,
)
from lsap_jax.editing.edit_run import edit_run
from lsap_jax.editing.random import random_direction
from lsap_jax.editing.series import along, mixed, towards
from lsap_jax.errors import LsapError
from lsap_jax.pixels import to_uint8
from lsap_jax.rendering import render as rendering
from lsap_jax.rendering.render import render, space_of
from lsap_jax.storage.pictures import save_png
from lsap_jax.storage.results import read_code, read_image, read_manifest, read_part, read_run
from lsap_jax.testing import tiny_generator

pytestmark = pytest.mark.usefixtures("quick_compilation")
FRAMES = [np.full((16, 16, 1), 12 * k, np.uint8) for k in range(5)]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with g.safetensors and a run in F/Z+ of three images."""
    folder = tmp_path_factory.mktemp("work")
    G = tiny_generator(discriminator=False)
    G.save(folder / "g.safetensors")
    write_run(folder / "run", G, folder / "g.safetensors", "f/z+", ("0", "1", "2"))
    return folder


def frames_of(data: bytes) -> tuple[list[np.ndarray], list[int]]:
    """The frames of a WebP or GIF, and how long each is shown, in milliseconds."""
    found, times = [], []
    with Image.open(io.BytesIO(data)) as film:
        assert film.info["loop"] == 0, "it goes on without end"
        for k in range(film.n_frames):
            film.seek(k)
            film.load()
            times.append(film.info["duration"])
            found.append(np.asarray(film.convert("RGB")))
    return found, times


@pytest.mark.parametrize("name", ["webp", "gif"])
def test_a_film_goes_to_and_fro_without_end(name):
    (part, data), again = (animated(FRAMES, Animation(format=name, fps=20)) for _ in range(2))
    assert (part, data) == again == ({"webp": "animations", "gif": "gifs"}[name], data)
    found, times = frames_of(data)
    assert times == [50] * 8, "the ends are shown once"
    for frame, k in zip(found, (0, 1, 2, 3, 4, 3, 2, 1), strict=True):
        assert frame.shape == (16, 16, 3) and np.abs(frame.astype(int) - 12 * k).max() <= 3


@pytest.mark.parametrize("fps", [7, 30, 45])
def test_a_gif_takes_its_time_as_a_whole(fps):
    """Single frames last whole hundredths of a second."""
    _, times = frames_of(animated(FRAMES, Animation(format="gif", fps=fps))[1])
    assert all(time % 10 == 0 for time in times) and abs(sum(times) - 8000 / fps) <= 5


def test_mp4_is_the_same_frames(tmp_path):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="imageio-ffmpeg, the extra `video`, is not installed")
    (part, data), again = (animated(FRAMES, Animation(format="mp4", fps=20)) for _ in range(2))
    assert part == "videos" and (part, data) == again
    (tmp_path / "film.mp4").write_bytes(data)
    ffmpeg = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-i",
        str(tmp_path / "film.mp4"),
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-",
    ]
    read = subprocess.run(ffmpeg, capture_output=True, check=True)
    about = read.stderr.decode()
    assert "h264" in about and "yuv420p" in about and "16x16" in about and "20 fps" in about
    levels = np.frombuffer(read.stdout, np.uint8).reshape(-1, 16, 16, 3).astype(int)
    assert [round(frame.mean() / 12) for frame in levels] == [0, 1, 2, 3, 4, 3, 2, 1]


def test_a_failure_of_ffmpeg_is_one_line(monkeypatch):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="imageio-ffmpeg, the extra `video`, is not installed")
    with pytest.raises(LsapError, match="^mp4: ffmpeg could not write it [^\\n]*; choose --animate=webp$"):
        animated([frame[:15, :15] for frame in FRAMES], Animation(format="mp4"))  # sides are even
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: "/nowhere/ffmpeg")
    with pytest.raises(LsapError, match="could not be started"):
        animated(FRAMES, Animation(format="mp4"))


def test_what_cannot_be_made_is_refused(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LsapError, match="needs imageio-ffmpeg, which the extra `video` of lsap_jax installs"):
        check_animation(Animation(format="mp4"))
    check_animation(Animation(format="gif"))
    for options, said in (
        ({"format": "avi"}, "webp, gif, mp4"),
        ({"frames": 1}, "--frames=1"),
        ({"fps": 51}, "--fps=51"),
    ):
        with pytest.raises(LsapError, match=said):
            check_animation(Animation(**options))


def test_places_and_sizes():
    assert places_between((1.5, -3, 0), 5) == pytest.approx([-3, -1.875, -0.75, 0.375, 1.5])
    assert places_between((0,), 2) == [0, 0]
    assert reduced(np.zeros((1024, 1024, 3), np.uint8), SIDE).shape == (512, 512, 3)
    assert reduced(FRAMES[0], SIDE) is FRAMES[0] and reduced(np.zeros((64, 64, 1), np.uint8), 32).shape == (32, 32, 1)
    assert [int(one[0, 0, 0]) for one in held(FRAMES[:2], 6)] == [0] * 3 + [12] * 3


def lossless(frames, fps):
    buffer, (first, *others) = io.BytesIO(), map(Image.fromarray, frames)
    first.save(buffer, "WEBP", save_all=True, append_images=others, duration=1000 // fps, loop=0, lossless=True)
    return buffer.getvalue()


def test_frames_are_the_pictures_between_the_strengths_by_one_program(work, monkeypatch):
    """Beside a mix, whose pictures stay; one image is limited to a mask, at strength 0 too."""
    from lsap_jax.models.generator_file import load_generator

    monkeypatch.setitem(FORMATS, "webp", FORMATS["webp"]._replace(encode=lossless))
    G, run, manifest = load_generator(work / "g.safetensors"), read_run(work / "run"), read_manifest(work / "run")
    space, other = space_of(run, G), read_code(work / "run", "1", manifest=manifest)
    direction = random_direction(G, space, 0)
    series = [
        along(G, space, direction, (-2.0, 1.0)),
        towards(G, space, "0", "1", other, (0, 1)),
        mixed(G, space, "0", "1", other, ("middle", "4-5")),
    ]
    mask = np.zeros((16, 16), np.float32)
    mask[:, 8:] = 1
    save_png(work / "masks" / "2.png", levels(mask))
    rendering._compiled.cache_clear()
    options = {"batch_size": 4, "masks": {"2": work / "masks" / "2.png"}, "feather": 0.0}
    edit_run(
        G, work / "run", work / "film", series, animation=Animation(frames=7, fps=10),
        devices=jax.local_devices()[:1], **options,
    )  # fmt: skip
    compiled = rendering._compiled(rendering._clipped, space, (jax.local_devices()[0],))
    assert compiled._cache_size() == 1
    found, _ = frames_of(read_part(work / "film", "0", "animations/random-0"))
    assert len(found) == 12
    for k, strength in enumerate(places_between((-2.0, 1.0), 7)):
        code = series[0].at(strength, {key: a[None] for key, a in read_code(work / "run", "0").items()})
        picture = to_uint8(render(G, space, code))[0]
        assert np.abs(found[k].astype(int) - picture).max() <= 1
    own = read_image(work / "run", "0")
    assert np.abs(found[4].astype(int) - own).max() <= 1 and places_between((-2.0, 1.0), 7)[4] == 0
    limited, _ = frames_of(read_part(work / "film", "2", "animations/random-0"))
    target = read_image(work / "run", "2", "targets")
    assert all((frame[:, :8] == target[:, :8]).all() for frame in limited)
    assert np.abs(limited[0][:, 8:].astype(int) - limited[6][:, 8:]).mean() > 8
    way, _ = frames_of(read_part(work / "film", "0", "animations/to-1"))
    assert np.abs(way[6].astype(int) - read_image(work / "run", "1")).max() <= 1
    mixes, times = frames_of(read_part(work / "film", "0", "animations/with-1"))
    assert sum(times) == 100 * (3 * 5 + 13), "own, middle, fine, and back, half a second each"
    assert (mixes[0] == own).all()


def test_the_command_takes_the_flag_bare_with_a_format_and_without(work, capsys):
    def edit(name, *flags):
        chosen = ["--direction=random:1", "--strengths=-1,1", "--batch_size=4", "--frames=3"]
        return main(["edit", str(work / "run"), *flags, *chosen, "--out", str(work / name)])

    assert edit("bare", "--animate") == edit("gif", "--animate", "gif") == edit("webp", "--animate=webp") == 0
    bare, webp = (read_part(work / name, "1", "animations/random-1") for name in ("bare", "webp"))
    assert bare == webp and len(frames_of(read_part(work / "gif", "1", "gifs/random-1"))[0]) == 4
    text = (work / "gif" / "report.html").read_text()
    assert 'href="gifs/1/random-1.gif"' in text
    assert main(["verify", str(work / "gif")]) == 0
    for flags, said in ((("--frames=3",), "--frames belongs to --animate"), (("--noanimate",), "--frames belongs")):
        assert edit("never", *flags) == 2 and said in capsys.readouterr().err
    assert edit("gif", "--animate", "webp") == 2 and "animation" in capsys.readouterr().err
    assert not (work / "never").exists()
