"""The examples of docs/extending.md, run in their order as one script, in a process whose tables nobody else uses."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXTENSIONS = ("DETAILS[", "TERMS[", "KINDS[", "REFINERS[", "transforms.KINDS[", "DIALECTS =", "METRICS[")


@pytest.mark.slow
def test_every_example_runs(tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "extending.md").read_text("utf-8"), re.M | re.S)
    script = "\n".join(blocks)
    assert all(table in script for table in EXTENSIONS)
    (tmp_path / "extending.py").write_text(script, "utf-8")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    run = subprocess.run([sys.executable, "extending.py"], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "my tool codes" in run.stdout and "'d': (2, 6, 16)" in run.stdout
