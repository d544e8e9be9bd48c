"""Digests of the files that commands write, to check that two versions of the project make the same results.

    python benchmarks/digests.py DIR [--against EARLIER]

Runs, into DIR, an inversion of eight bundled images in each of the 13 spaces (20 steps), an edit of one of them and a
comparison of two spaces, and writes DIR/digests.json: SHA-256 of codes, images, targets, curves, tables and manifests;
run.json by value, without versions and processor. `--against` names the DIR of another version on the same machine and
prints what differs. Reports, times and the order of a manifest's lines, which depends on two writing threads, are left
out.
"""

import argparse
import csv
import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path

import lsap_jax

SPACES = ("z", "z+", "w", "w+", "s", "p", "pn", "pn+", "f/z", "f/z+", "f/w", "f/w+", "f/s")
LEFT_OUT = (".html", ".lock", "times.json", "digests.json")
FORGOTTEN = ("versions", "lsap_jax", "processor")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--against", type=Path)
    args = parser.parse_args()
    samples = sorted((Path(lsap_jax.__file__).parent / "assets" / "samples").glob("*.png"))[:8]
    common = ["--generator", "toonhead64", "--steps", "20"]
    for space in SPACES:
        command("invert", *samples, *common, "--space", space, "--out", args.out / "runs" / space.replace("/", "_"))
    edits = ["--direction", "smile,random:0", "--strengths=-3,0,3", "--out", args.out / "edits"]
    command("edit", args.out / "runs" / "f_z+", *edits)
    command("compare", *samples, *common, "--presets", "z+,f/z+", "--out", args.out / "comparison")
    found = digests(args.out)
    (args.out / "digests.json").write_text(json.dumps(found, indent=1))
    print(f"{len(found)} files")
    return 0 if args.against is None else differences(found, digests(args.against))


def command(*words: object) -> None:
    """Runs one command of the project; prints its output only where it fails."""
    done = subprocess.run([sys.executable, "-m", "lsap_jax", *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words[:1]))} ended with {done.returncode}:\n{done.stderr}")


def digests(folder: Path) -> dict[str, str]:
    """Digest of every file that is compared, by its path in the folder."""
    return {p.relative_to(folder).as_posix(): digest(p) for p in sorted(folder.rglob("*")) if wanted(p)}


def wanted(path: Path) -> bool:
    return path.is_file() and not path.name.endswith(LEFT_OUT)


def digest(path: Path) -> str:
    """SHA-256 of the bytes; of a JSON file's values, without versions; of a manifest's lines, sorted; of a comparison's
    table without its seconds.
    """
    data = path.read_bytes()
    if path.suffix == ".json":
        data = json.dumps(kept(json.loads(data)), sort_keys=True).encode()
    elif path.suffix == ".jsonl":
        data = b"".join(sorted(data.splitlines(keepends=True)))
    elif path.name == "comparison.csv":
        rows = csv.DictReader(io.StringIO(data.decode()))
        data = repr([{k: v for k, v in row.items() if "seconds" not in k} for row in rows]).encode()
    return hashlib.sha256(data).hexdigest()


def kept(value: object) -> object:
    if isinstance(value, dict):
        return {k: kept(v) for k, v in value.items() if k not in FORGOTTEN}
    return [kept(v) for v in value] if isinstance(value, list) else value


def differences(found: dict[str, str], before: dict[str, str]) -> int:
    """Prints the names of files that are not the same; 1 where there are any."""
    changed = sorted(name for name in found.keys() | before.keys() if found.get(name) != before.get(name))
    print(f"{len(changed)} differ" + "".join(f"\n  {name}" for name in changed))
    return int(bool(changed))


if __name__ == "__main__":
    sys.exit(main())
