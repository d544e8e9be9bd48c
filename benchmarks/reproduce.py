"""Remakes the tables and figures of docs/comparison.md, and docs/which_method.md, from a pack of images.

    python benchmarks/reproduce.py --images near_main.npz --out runs/reproduce

or `make reproduce DATA=near_main.npz`. A step is one command, and what is finished of it is not computed again, so
that this one goes on where it was stopped; hours.json adds up what each took. A step that is done puts its table
between the marks of its name in comparison.md, and its pictures beside it. `--write` computes nothing, and writes what
is done.
"""

import argparse
import csv
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from lsap_jax.storage.atomic import write_files

HERE = Path(__file__).resolve().parent
PAGE = "comparison.md"
# Column of a table -> its columns of comparison.csv, without the ends of the interval where these do not end in _mean.
COLUMNS = {
    "MSE": "mse_mean",
    "PSNR": "psnr_mean",
    "SSIM on [0, 1]": "ssim01_mean",
    "discriminator distance": "discriminator_distance_mean",
    "NSCD": "nscd_mean",
    "s per image": "seconds_per_image_stepping",
}
SHOWN = ("0", "24", "96", "300")  # steps


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command.

    Attributes:
        words: of the command; {images}, {generator} and {encoders} stand for those given, {here} for the folder of this
            file, and other files lie in the folder of results, where it runs.
        text: from the folder of results to what stands in the page; None where nothing does.
        pictures: file in the folder of docs -> where the step leaves it.
    """

    words: Sequence[str]
    text: Callable[[Path], str] | None = None
    pictures: Mapping[str, str] = field(default_factory=dict)


def presets_table(folder: str) -> Callable[[Path], str]:
    """A row per preset of a comparison, the worst MSE first."""

    def text(out: Path) -> str:
        with open(out / folder / "comparison.csv", newline="", encoding="utf-8") as file:
            rows = sorted(csv.DictReader(file), key=lambda row: -float(row["mse_mean"]))
        heads = [head for head, column in COLUMNS.items() if all(row.get(column) for row in rows)]
        lines = [["preset", *heads], ["---"] * (len(heads) + 1)]
        lines += [[f"`{row['preset']}`", *(_cell(row, COLUMNS[head]) for head in heads)] for row in rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    return text


def whole(file: str) -> Callable[[Path], str]:
    """The text of a file, with an empty line behind a table."""
    return lambda out: re.sub(r"(?m)^(\|.*)\n(?=[^|\n])", r"\1\n\n", (out / file).read_text("utf-8").strip())


def few_steps(file: str, column: int = 2) -> Callable[[Path], str]:
    """A table over the steps without most of its rows, since a picture has all of them."""

    def text(out: Path) -> str:
        lines = whole(file)(out).splitlines()
        cells = [line.split("|")[column].strip() if line.startswith("|") else "" for line in lines]
        return "\n".join(line for line, cell in zip(lines, cells, strict=True) if not cell.isdigit() or cell in SHOWN)

    return text


def _cell(row: Mapping[str, str], column: str) -> str:
    mean = f"{float(row[column]):.3g}"
    low, high = (row.get(column.replace("_mean", end), "") for end in ("_low", "_high"))
    return f"{mean} ({float(low):.3g}–{float(high):.3g})" if low and high and low != row[column] else mean


def _compare(out: str, *more: str) -> tuple[str, ...]:
    own = ("lsap-jax", "compare", "heldout", "--generator", "{generator}", "--batch_size", "25", "--out", out)
    return (*own, "--count", "50", *more) if "--count" not in more else (*own, *more)


def _methods(name: str, **pictures: str) -> Step:
    """A comparison with a table of methods; what lacks a file is left out."""
    more = ("--config", name, "--config.encoders={encoders}", "--config.leave_out=true")
    return Step(words=_compare(name, *more), text=whole(f"{name}/methods.md"), pictures=pictures)


SIX = "z+,w+,f/w+,bdinvert,f/z,f/z+"
STEPS: Mapping[str, Step] = {
    "heldout": Step(words=("python", "{here}/heldout.py", "{images}", "heldout", "--count", "200")),
    "all_methods": _methods("all_methods", **{"frontier.svg": "all_methods/frontier.svg"}),
    "spaces": Step(
        words=_compare("spaces"), text=presets_table("spaces"), pictures={"comparison.png": "spaces/grid.png"}
    ),
    "spaces1200": Step(
        words=_compare("spaces1200", "--presets", SIX, "--steps", "1200"), text=presets_table("spaces1200")
    ),
    "prior": Step(
        words=_compare("prior", "--presets", "bdinvert,bdinvert:floor,f/z+", "--steps", "300", "--count", "16"),
        text=presets_table("prior"),
    ),
    "lsap_claims": _methods("lsap_claims", **{"weights.svg": "lsap_claims/weights.svg"}),
    "two_stage": _methods("two_stage"),
    "starts": Step(
        words=(
            *("python", "{here}/starts.py", "--images", "{images}", "--count", "8"),
            *("--generator", "{generator}", "--plot", "starts.svg"),
        ),
        text=few_steps("starts.log"),
        pictures={"starts.svg": "starts.svg"},
    ),
}  # fmt: skip


def run(name: str, given: Mapping[str, str], out: Path) -> None:
    """Runs a step that is not done yet; what it prints is kept in NAME.log, and its words in NAME.done.

    Raises:
        SystemExit: the command failed.
    """
    programs = {"lsap-jax": ["-m", "lsap_jax"], "python": []}
    first, *words = (word.format(**given) for word in STEPS[name].words)
    told, mark = " ".join((first, *words)), out / f"{name}.done"
    if mark.is_file() and mark.read_text("utf-8") == told:
        return
    mark.unlink(missing_ok=True)
    print(f"== {name}: {told} ==", flush=True)
    command = [sys.executable, *programs[first], *words]
    before, started = read_hours(out).get(name, 0.0), time.monotonic()
    with (
        open(out / f"{name}.log", "w", encoding="utf-8") as log,
        subprocess.Popen(command, cwd=out, stdout=log) as running,
    ):
        code = None
        while code is None:  # a session that is killed loses a minute of its hours at most
            with suppress(subprocess.TimeoutExpired):
                code = running.wait(60)
            hours = {**read_hours(out), name: before + (time.monotonic() - started) / 3600}  # another step may run, too
            write_files({out / "hours.json": json.dumps(hours, indent=1).encode()})
    if code:
        raise SystemExit(f"{name}: the command ended with {code}; {out / name}.log has what it printed")
    mark.write_text(told, "utf-8")


def read_hours(out: Path) -> dict[str, float]:
    """Step -> hours over all sessions."""
    file = out / "hours.json"
    return json.loads(file.read_text("utf-8")) if file.is_file() else {}


def hours_table(hours: Mapping[str, float]) -> str:
    """What each step took, and all of them."""
    lines = [f"| {name} | {hours[name]:.2g} |" for name in STEPS if name in hours]
    total = sum(hours[name] for name in STEPS if name in hours)
    return "\n".join(["| step | hours |", "|---|---|", *lines, f"| all | {total:.2g} |"])


def marked(text: str, name: str, table: str) -> str:
    """The page with a table between the marks of a name.

    Raises:
        ValueError: the page has no such marks, or several.
    """
    start, end = f"<!-- {name}: made by reproduce.py -->", f"<!-- end of {name} -->"
    found, count = re.subn(
        f"{re.escape(start)}.*?{re.escape(end)}", lambda _: f"{start}\n\n{table}\n\n{end}", text, flags=re.DOTALL
    )
    if count != 1:
        raise ValueError(f"{PAGE}: has {count} pairs of marks for {name}; one is needed: {start} and {end}")
    return found


def write(out: Path, docs: Path) -> list[str]:
    """Puts what is done into the docs; returns the names of the steps."""
    done = [name for name in STEPS if (out / f"{name}.done").is_file()]
    text = (docs / PAGE).read_text("utf-8")
    for name in done:
        pictures = {target: out / source for target, source in STEPS[name].pictures.items() if (out / source).is_file()}
        for target, source in pictures.items():
            if target.endswith(".png"):  # 256 colours take a third of the room
                with Image.open(source) as picture:
                    picture.quantize(256, dither=Image.Dither.NONE).save(docs / target, optimize=True)
            else:
                shutil.copyfile(source, docs / target)
        if (make := STEPS[name].text) is not None:
            text = marked(text, name, "")
            own = [f"![{name}]({target})" for target in pictures if f"]({target})" not in text]
            text = marked(text, name, "\n\n".join([make(out), *own]))
    text = marked(text, "hours", hours_table(read_hours(out)))
    (docs / PAGE).write_text(text, "utf-8")
    if "all_methods" in done:
        import which_method

        which_method.main([str(out / "all_methods"), "--out", str(docs / "which_method.md")])
    return done


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", help="pack of images, whose last 200 are in no training")
    parser.add_argument("--generator", default="toonhead64")
    parser.add_argument("--encoders", default=str(HERE / "encoders"), help="folder of what `make encoders` trains")
    parser.add_argument("--out", default="runs/reproduce")
    parser.add_argument("--docs", default=str(HERE.parent / "docs"))
    parser.add_argument("--only", help=f"steps with commas between, of {', '.join(STEPS)}")
    parser.add_argument("--write", action="store_true", help="compute nothing")
    args = parser.parse_args(argv)
    chosen = args.only.split(",") if args.only else list(STEPS)
    if unknown := [name for name in chosen if name not in STEPS]:
        parser.error(f"--only: {unknown[0]!r} is not one of {', '.join(STEPS)}")
    if not args.write and not args.images:
        parser.error("give --images PACK.npz")
    out = Path(args.out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    generator = str(Path(args.generator).resolve()) if Path(args.generator).is_file() else args.generator
    given = {"generator": generator, "here": str(HERE), "encoders": str(Path(args.encoders).resolve())}
    given |= {"images": str(Path(args.images or "").resolve())}
    for name in [] if args.write else chosen:
        run(name, given, out)
        write(out, Path(args.docs))
    print(f"in {args.docs}: {', '.join(write(out, Path(args.docs))) or 'nothing is done yet'}")


if __name__ == "__main__":
    main()
