"""A file of n bytes is read or refused within a few seconds and a few n of memory, by the project's own errors alone.

Each reader runs in a process of its own (`reading_costs`), whose time and memory are measured. `hostile_files` holds
what asks for more; flipped bits and cut ends of whole files are drawn here.
"""

import io
import json
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

import foreign_dialects as dialects
import foreign_files as files
import hostile_files as hostile
import numpy as np
import pytest
from PIL import Image

from lsap_jax.storage.file_bytes import npz_bytes
from lsap_jax.storage.weights_file import write_weights

ROOT = Path(__file__).resolve().parents[1]
SECONDS, BYTES_A_SECOND = 5.0, 5e6
FREE, TIMES = 256 * 2**20, 8  # bytes, and times the file's
ERRORS = {
    "foreign": {"ConversionError"},
    "converted": {"LsapError"},
    "code": {"Unreadable"},
    "picture": {"ImageError"},
    "directions": {"LsapError"},
}


def costs(reader: str, paths: list[Path], whole: Path) -> list[tuple[str, str]]:
    """(error, message) of each file; fails where one breaks the rule."""
    room = 2 * FREE + TIMES * max(path.stat().st_size for path in paths)
    child = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("reading_costs.py")), reader, str(room)],
        input="\n".join(map(str, [whole, *paths])),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=600,
    )
    lines = [json.loads(line) for line in child.stdout.splitlines()]
    assert len(lines) == len(paths), f"{paths[len(lines)].name}: {child.stderr[-2000:]}"
    largest = 0
    for path, (seconds, growth, error, message) in zip(paths, lines, strict=True):
        size = path.stat().st_size
        largest = max(largest, size)  # the growth is that of the process, since its start
        assert seconds < SECONDS + size / BYTES_A_SECOND, f"{path.name}: {seconds:.1f} s for {size} bytes"
        assert growth < FREE + TIMES * largest, f"{path.name}: {growth} bytes of memory for a file of {size}"
        assert error in {"", *ERRORS[reader]}, f"{path.name}: {error}: {message[:300]}"
        assert "\n" not in message and len(message) < 2000, path.name
    return [(error, message) for _, _, error, message in lines]


def wholes(reader: str) -> dict[str, bytes]:
    """Whole files of each container that a reader knows."""
    rng = np.random.default_rng(0)
    g = dialects.random_generator()
    array = io.BytesIO()
    np.save(array, rng.standard_normal((3, 8)).astype(np.float32))
    snapshot = {"G_ema": files.nvlabs(g, "Generator", files.generator_facts())}
    if reader == "foreign":
        networks = [
            lambda: dialects.tensorflow_generator(g),
            lambda: dialects.tensorflow_discriminator(dialects.random_discriminator()),
            lambda: dialects.tensorflow_generator(g),
        ]
        return {
            "torch zip": files.torch_zip({"g_ema": dialects.state_dict(dialects.rosinality(g))}),
            "legacy torch": files.torch_legacy({"g_ema": dialects.state_dict(dialects.rosinality(g))}),
            "pickle": files.plain(snapshot, 4),
            "TensorFlow": files.plain(tuple(made() for made in networks), 3),
            "npz": files.npz({f"G_ema/{n}": a for n, a in g.items()}),
            "npy": array.getvalue(),
        }
    if reader == "directions":
        return {
            "npy": array.getvalue()[:-64].replace(b"(3, 8)", b"(1, 8)"),
            "pt": files.torch_zip(files.T(np.ones((1, 8)))),
        }
    if reader == "code":
        return {"npz": npz_bytes({"z": rng.standard_normal((4, 8)).astype(np.float32), "f": np.ones((4, 4, 3))})}
    if reader == "picture":
        made = {}
        for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "JPEG2000"):
            out = io.BytesIO()
            Image.fromarray(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(out, kind)
            made[kind] = out.getvalue()
        return made
    raise ValueError(reader)


def damaged(data: bytes, count: int, seed: int) -> list[bytes]:
    """Copies with a flipped bit, a few changed bytes, or a cut end."""
    rng, made = random.Random(seed), []
    for i in range(count):
        copy = bytearray(data)
        for _ in range((1, 4, 0)[i % 3]):
            copy[rng.randrange(len(copy))] ^= 1 << rng.randrange(8)
        made.append(bytes(copy if i % 3 < 2 else copy[: rng.randrange(len(copy))]))
    return made


def written(folder: Path, contents: dict[str, bytes]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i, (name, data) in enumerate(contents.items()):
        paths.append(folder / f"{i} {name.replace('/', ' ')}")
        paths[-1].write_bytes(data)
    return paths


def whole_of(reader: str, folder: Path) -> dict[str, Path]:
    if reader != "converted":
        return dict(zip(wholes(reader), written(folder, wholes(reader)), strict=True))
    write_weights(folder / "w", "generator", {"a": np.ones((4, 4), np.float32)}, {"a": 1.5, "b": [1]}, {"c": "d"})
    return {"converted file": folder / "w"}


@pytest.mark.parametrize(
    "reader", [pytest.param(name, marks=[pytest.mark.slow] * (name == "directions")) for name in hostile.FILES]
)
def test_files_that_ask_for_more_are_refused_at_once(tmp_path, reader):
    paths = written(tmp_path / "hostile", {name: make() for name, make in hostile.FILES[reader].items()})
    found = costs(reader, paths, next(iter(whole_of(reader, tmp_path).values())))
    accepted = [path.name for path, (error, _) in zip(paths, found, strict=True) if not error]
    assert [name for name in accepted if name.partition(" ")[2] not in hostile.HARMLESS] == []


def fuzz(tmp_path, reader, count, seed):
    for name, path in whole_of(reader, tmp_path).items():
        contents = {f"{name} {i}": data for i, data in enumerate(damaged(path.read_bytes(), count, seed))}
        costs(reader, written(tmp_path / f"damaged {name}", contents), path)


@pytest.mark.parametrize("reader", ["converted", "code"])
def test_damaged_files_cost_no_more(tmp_path, reader):
    fuzz(tmp_path, reader, 60, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("reader", hostile.FILES)
def test_many_damaged_files_cost_no_more(tmp_path, reader):
    fuzz(tmp_path, reader, 600, seed=1)


def special(folder: Path) -> dict[str, str]:
    """What is no file, by its word in messages."""
    os.mkfifo(folder / "pipe")
    server = socket.socket(socket.AF_UNIX)
    cwd = os.getcwd()
    os.chdir(folder)  # the name of a socket is short
    try:
        server.bind("socket")
    finally:
        os.chdir(cwd)
        server.close()
    (folder / "folder").mkdir()
    return {str(folder / name): name for name in ("pipe", "socket", "folder")} | {"/dev/zero": "device"}


def test_what_is_no_file_is_refused_without_waiting(tmp_path, capsys):
    from lsap_jax.cli import main
    from lsap_jax.models.network_file import load_encoder

    start = time.monotonic()
    for path, word in special(tmp_path).items():
        assert main(["convert", path, str(tmp_path / "out")]) == 2
        message = capsys.readouterr().err
        assert path in message and f"it is a {word}, not a file" in message and "unexpected" not in message
        with pytest.raises(Exception, match="no such file|it is a"):
            load_encoder(path)
        from convert_weights.__main__ import main as alone

        assert alone([path, str(tmp_path / "out")]) == 2
        assert f"it is a {word}" in capsys.readouterr().err
    assert time.monotonic() - start < 30


def test_names_inside_files_do_not_reach_the_terminal_as_they_are(tmp_path, capsys):
    from convert_weights.__main__ import main as alone
    from lsap_jax.cli import main

    evil = "w\x1b[2J\x9b\x07\r"
    (tmp_path / "codes").write_bytes(files.npz({evil: np.ones((2, 4), np.float32)}))
    (tmp_path / "weights").write_bytes(
        files.torch_zip({evil: files.T(np.ones((2, 4, 2, 2), np.float32)), "x": {evil: 1}})
    )
    for name in ("codes", "weights"):
        for command in (lambda *a: main(["convert", *a]), lambda *a: alone([*a])):
            assert command(str(tmp_path / name), str(tmp_path / "out")) == 2
            printed = "".join(capsys.readouterr())
            assert "w\\x1b[2J" in printed and printed.replace("\n", "").isprintable()
