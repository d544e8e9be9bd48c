"""What the project does on an accelerator, in one run of four minutes, the most important first.

    python benchmarks/accelerator.py --out DIR [--seconds 240] [--golden FOLDER] [--run RUN] [--wheels FOLDER]
                                     [--only SECTION ...] [--tiny]

It needs JAX, Flax, Optax, Orbax and, for the other side of the step, PyTorch; no network, and nothing besides the
checkout and the folders named. `--golden` holds nv_g32.npz and nv_g32_grads.npz, reference vectors of the original;
without them the reference is this project on the processor in float64. `--run` is a run folder that a processor made.
`--wheels` holds wheels of pure Python packages that the machine lacks (ml_collections), which are imported as they are.
`--tiny` does the same at small sizes, on a processor as well: before a machine is lent, this is its test.

It watches its own clock: a section that would not fit into what is left is left out and named, and at the end of the
time the process ends, whatever it does. Every row goes to DIR/accelerator.json and .md, tables for README.md here, as
soon as it is measured.
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

STARTED = time.monotonic()  # before anything heavy is imported
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from accelerator_sections import SECTIONS, Row  # noqa: E402

MARGIN = 5.0  # seconds kept for the end


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--golden", type=Path, default=Path("golden"))
    parser.add_argument("--run", type=Path)
    parser.add_argument("--wheels", type=Path, default=Path(".whl"))
    parser.add_argument("--only", nargs="+", choices=[name for name, _, _ in SECTIONS], default=None)
    parser.add_argument("--tiny", action="store_true")
    return parser.parse_args()


def table(rows: list[Row]) -> str:
    """Rows in Markdown, a column for every key."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(keys) + " |", "|" + "---|" * len(keys)]
    return "\n".join(lines + ["| " + " | ".join(shown(row.get(key, "")) for key in keys) + " |" for row in rows])


def shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "/").replace("\n", " ")


def save(out: Path, found: dict[str, list[Row]]) -> None:
    (out / "accelerator.json").write_text(json.dumps(found, indent=1))
    (out / "accelerator.md").write_text("".join(f"## {name}\n\n{table(rows)}\n\n" for name, rows in found.items()))


def main() -> int:
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    sys.path[:0] = [str(wheel) for wheel in sorted(args.wheels.glob("*.whl"))]
    # Before jax starts: PyTorch needs some of the memory, and a second run on this machine need not compile again.
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.6")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / "lsap_jax_accelerator"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    if args.tiny:
        os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")  # tiny sizes take longer to compile than to run
    end, found, done = STARTED + args.seconds - MARGIN, dict[str, list[Row]](), threading.Event()
    writing = threading.Lock()

    def note(name: str, row: Row) -> None:
        with writing:
            found.setdefault(name, []).append({**row, "at, s": time.monotonic() - STARTED})
            print(f"{name}: " + ", ".join(f"{k} {shown(v)}" for k, v in found[name][-1].items()), flush=True)
            save(args.out, found)

    def stop() -> None:
        if not done.wait(max(end - time.monotonic(), 0)):
            note("end", {"stopped": f"after {args.seconds:.0f} s, in the middle of the section before"})
            os._exit(0)

    threading.Thread(target=stop, daemon=True).start()
    failed = False
    for name, guess, section in SECTIONS:
        if args.only and name not in args.only:
            continue
        left = end - time.monotonic()
        if left < guess and not args.tiny:
            note(name, {"left out": f"takes about {guess:.0f} s, {left:.0f} are left"})
            continue
        try:
            for row in section(args):
                note(name, row)
        except Exception as error:
            failed = True
            traceback.print_exc()
            note(name, {"error": f"{type(error).__name__}: {str(error)[:300]}"})
    done.set()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
