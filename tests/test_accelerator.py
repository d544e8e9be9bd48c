"""benchmarks/accelerator.py, so that nothing silly fails on the first machine that is lent."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "accelerator.py"


def run(out: Path, *more) -> dict[str, list[dict]]:
    """The sections that it has written."""
    words = [sys.executable, str(SCRIPT), "--tiny", "--out", str(out), *map(str, more)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=out)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((out / "accelerator.json").read_text())
    assert [line[3:] for line in (out / "accelerator.md").read_text().splitlines() if line[:2] == "##"] == list(found)
    return found


def test_what_is_measured_is_there_and_the_clock_is_kept(tmp_path):
    found = run(tmp_path, "--only", "device", "ceilings", "--seconds", 400)
    assert found["device"][0]["platform"] == "cpu" and found["ceilings"][0]["bytes/s"] > 0
    started = time.monotonic()
    found = run(tmp_path, "--seconds", 6)  # of which five are kept for the end
    assert "stopped" in found["end"][-1] and time.monotonic() - started < 60


@pytest.mark.slow
def test_every_section_runs(tmp_path):
    """At tiny sizes, on a processor, beside PyTorch where it is installed, with a run of this machine."""
    from lsap_jax.configuration import load_config
    from lsap_jax.data import from_arrays
    from lsap_jax.runs.run import run as invert
    from lsap_jax.testing import tiny_generator, tiny_images

    G, config = tiny_generator(discriminator=False), load_config("w", {"steps": 1, "batch_size": 2})
    G.save(tmp_path / "g.safetensors")
    source = from_arrays(tiny_images(2), None, resolution=16, channels=3)
    invert(G, source, config, tmp_path / "run", generator_name=str(tmp_path / "g.safetensors"))
    found = run(tmp_path, "--run", tmp_path / "run", "--seconds", 1500)
    assert len(found) == 12 and not [row for rows in found.values() for row in rows if "error" in row]
    assert found["verify"][0]["exit status"] == 0 and "all match" in found["verify"][0]["said"]
    assert len(found["parity"]) == 6 and all(row["parity"] for row in found["parity"])
    assert {row["variant"] for row in found["precision and step, 256 px"]} >= {"jax", "jax high", "jax default"}
    assert found["independence"][-1]["MSE, relative difference"] == 0, "processors compute image by image"
