"""Resume equals uninterrupted: one run killed with SIGKILL between and during writes, against one left alone.

    python benchmarks/resume.py [--generator toonhead64] [--images FOLDER] [--count 1000] [--steps 30] [--space z+]
                                [--batch_size 16] [--refine METHOD] [--option refine.KEY=value ...] [--out FOLDER]

Without --images, samples of the generator are inverted. With --refine the inversion is made once, and the run that
refines it is killed. Prints both runs' times, where the kills fell, and whether
codes, images, targets, curves and metrics.csv are the same files byte for byte. Exit status 1 where they are not.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

COMPARED = ("codes", "refined", "images", "targets", "curves")
COMMAND = [sys.executable, "-m", "lsap_jax"]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--generator", default="toonhead64")
    parser.add_argument("--images", default="")
    parser.add_argument("--count", type=int, default=1000, help="samples to invert where no images are given")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--space", default="z+")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--refine", default="", help="kill the refinement by this method in place of the inversion")
    parser.add_argument("--option", action="append", default=[], help="of the method: refine.KEY=value")
    parser.add_argument("--out", default="", help="keep the runs here")
    return parser.parse_args()


def lines(run: Path) -> int:
    """Finished images of a run."""
    manifest = run / "manifest.jsonl"
    return manifest.read_bytes().count(b"\n") if manifest.exists() else 0


def writing(run: Path) -> bool:
    """Whether a file is being written: its temporary name is there."""
    folders = [run / part for part in COMPARED if (run / part).is_dir()]
    return any(name.startswith(".lsap-") for folder in folders for name in os.listdir(folder))


def kill_when(command: list[str], condition: Callable[[], bool]) -> bool:
    """Starts a command and kills it as soon as the condition holds; False where it ended before."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            if condition():
                process.send_signal(signal.SIGKILL)
                process.wait()
                return True
            time.sleep(0.0005)
    return False


def kills(run: Path, total: int) -> list[tuple[str, Callable[[], bool]]]:
    """(where, condition) of each kill: between writes and during them, further on every time."""
    return [
        ("between batches", lambda: lines(run) >= total // 4 and not writing(run)),
        ("during a write", lambda: lines(run) > total // 4 and writing(run)),
        ("between batches", lambda: lines(run) >= total // 2 and not writing(run)),
        ("during a write", lambda: lines(run) > total * 3 // 4 and writing(run)),
    ]


def differences(a: Path, b: Path) -> tuple[int, list[str]]:
    """(files compared, those that differ or are in one run only)."""
    names = {
        str(path.relative_to(run))
        for run in (a, b)
        for part in COMPARED
        for path in (run / part).rglob("*")
        if path.is_file()
    } | {"metrics.csv"}

    def contents(path: Path) -> bytes | None:
        return path.read_bytes() if path.is_file() else None

    wrong = [n for n in names if contents(a / n) is None or contents(a / n) != contents(b / n)]
    return len(names), sorted(wrong)


def main() -> int:
    args = arguments()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(args.out or temporary)
        images = Path(args.images or folder / "inputs")
        if not args.images:
            seeds = f"0-{args.count - 1}"
            generate = [*COMMAND, "generate", "--generator", args.generator, "--seeds", seeds, "--out", str(images)]
            subprocess.run(generate, check=True)
            (images / "grid.png").unlink()
        flags = [f"--{name}={getattr(args, name)}" for name in ("generator", "space", "steps", "batch_size")]
        command = [*COMMAND, "invert", str(images), *flags, "--out"]
        whole, killed = folder / "whole", folder / "killed"
        if args.refine:
            subprocess.run([*command, str(folder / "run")], check=True, stdout=subprocess.DEVNULL)
            options = [f"--config.{option}" for option in args.option]
            run = [str(folder / "run"), f"--method={args.refine}", f"--batch_size={args.batch_size}", *options]
            command = [*COMMAND, "refine", *run, "--out"]
        started = time.monotonic()
        subprocess.run([*command, str(whole)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        print(f"uninterrupted: {lines(whole)} images in {time.monotonic() - started:.0f} s")
        started, count = time.monotonic(), 0
        for where, condition in kills(killed, lines(whole)):
            if kill_when([*command, str(killed)], condition):
                count += 1
                print(f"killed {where}, {lines(killed)} images finished, temporary file there: {writing(killed)}")
        subprocess.run([*command, str(killed)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        print(f"killed {count} times and resumed: {lines(killed)} images in {time.monotonic() - started:.0f} s")
        total, wrong = differences(whole, killed)
    for name in wrong[:10]:
        print(f"differs: {name}")
    print(f"{total} files compared, {len(wrong)} differ")
    return 1 if wrong or count < 2 else 0


if __name__ == "__main__":
    sys.exit(main())
