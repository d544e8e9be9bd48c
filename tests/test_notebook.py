"""The notebook runs from its first cell to its last."""

from pathlib import Path

import nbclient
import nbformat
import pytest

from lsap_jax.testing import tiny_generator

pytestmark = pytest.mark.usefixtures("quick_compilation")

ROOT = Path(__file__).resolve().parents[1]
GENERATOR = ROOT / "lsap_jax" / "assets" / "toonhead64.safetensors"


@pytest.fixture
def notebook():
    return nbformat.read(ROOT / "notebooks" / "quickstart.ipynb", as_version=4)


def test_it_is_committed_without_outputs(notebook):
    for cell in notebook.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None


needs_generator = pytest.mark.skipif(
    not GENERATOR.is_file(), reason="this checkout has no bundled generator (lsap_jax/assets)"
)


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint", ["own", pytest.param("bundled", marks=needs_generator)])
def test_quickstart(notebook, checkpoint, tmp_path, monkeypatch):
    """With a reader's own checkpoint, a tiny one, and with the bundled one."""
    if checkpoint == "own":
        tiny_generator(basecode=True).save(tmp_path / "own.safetensors")
        (cell,) = [cell for cell in notebook.cells if cell.source.startswith('CHECKPOINT = "toonhead64"\n')]
        cell.source = cell.source.replace('"toonhead64"', '"own.safetensors"')
    (cell,) = [cell for cell in notebook.cells if "\nSTEPS = 200\n" in cell.source]
    cell.source = cell.source.replace("STEPS = 200", "STEPS = 2")
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")  # the old folders are deprecated, with a warning
    client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    pictures = [
        output for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 1 + 2 + 2 * 3
    assert (tmp_path / "generator.safetensors").is_file()
    printed = "".join(o.get("text", "") for cell in notebook.cells for o in cell.get("outputs", []))
    assert "psnr" in printed and "f/z+" in printed
