"""The notebooks: what is stored in them, how they install, and that each runs from its first cell to its last."""

import base64
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import foreign_encoders
import foreign_files
import nbclient
import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from PIL import Image

from lsap_jax.testing import tiny_generator

pytestmark = pytest.mark.usefixtures("quick_compilation")

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("quickstart", "official_checkpoints", "research")
GENERATOR = ROOT / "lsap_jax" / "assets" / "toonhead64.safetensors"
LARGEST = 500_000  # bytes of a notebook
LEAST = 480  # px of a stored picture's width: pictures of 64 px are enlarged


def read(name):
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(notebook) -> str:
    return "".join(output.get("text", "") for cell in code(notebook) for output in cell.outputs)


def pictures(notebook) -> list[Image.Image]:
    found = [
        output.data for cell in code(notebook) for output in cell.outputs if "image/jpeg" in output.get("data", {})
    ]
    return [Image.open(io.BytesIO(base64.b64decode(data["image/jpeg"]))) for data in found]


def test_these_are_the_notebooks():
    assert sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_stored(name):
    """Of one run from the top, without warnings, and no larger than a page should be."""
    notebook = read(name)
    nbformat.validate(notebook)
    assert (ROOT / "notebooks" / f"{name}.ipynb").stat().st_size < LARGEST
    assert [cell.execution_count for cell in code(notebook)] == list(range(1, 1 + len(code(notebook))))
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    assert len(pictures(notebook)) >= 5 and min(picture.width for picture in pictures(notebook)) >= LEAST
    assert not re.search(r"(?:^|[\s'\"])/(?:home|root|tmp|opt|work)/", json.dumps(outputs))
    assert any("lsap_jax.keep_compiled()" in cell.source for cell in code(notebook))


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_files(name):
    """The badge opens this notebook; other links are to files of the project."""
    text = "".join(cell.source for cell in read(name).cells)
    (repository,) = re.findall(
        r'^repository-code: "https://github.com/(.+)"$', (ROOT / "CITATION.cff").read_text(), re.M
    )
    badge = f"https://colab.research.google.com/github/{repository}/blob/main/notebooks/{name}.ipynb"
    assert badge in read(name).cells[0].source
    linked = re.findall(r"\(https://github\.com/([^)]+)\)", text)
    assert linked
    for link in linked:
        path = link.removeprefix(f"{repository}/blob/main/")
        assert path != link and (ROOT / path).is_file(), link


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("where", ["installed", "beside", "nowhere"])
def test_it_installs_what_is_missing(name, where, tmp_path):
    """The checkout beside the notebook, though Python takes any folder for a package; else one that it clones."""
    (cell,) = [cell for cell in code(read(name)) if "%pip" in cell.source]
    script = tmp_path / "cell.py"
    recorder = "import json\nclass Shell:\n    system = run_line_magic = lambda self, *what: print(json.dumps(what))\n"
    script.write_text(f"{recorder}get_ipython = Shell\n" + TransformerManager().transform_cell(cell.source))
    if where == "beside":
        (tmp_path / "lsap_jax").mkdir()
        (tmp_path / "lsap_jax" / "setup.py").touch()
    path = {"PYTHONPATH": str(ROOT)} if where == "installed" else {}
    command = [sys.executable, "-S", "-B", "cell.py"]  # -S: nothing that is installed is found
    result = subprocess.run(command, cwd=tmp_path, env=path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    did = [" ".join(json.loads(line)).split()[:2] for line in result.stdout.splitlines()]
    installs, clones = ["pip", "install"], ["git", "clone"]
    assert did == {"installed": [], "beside": [installs], "nowhere": [clones, installs]}[where]


@pytest.fixture
def photograph():
    """[512, 512, 3], with a face."""
    return pytest.importorskip("skimage").data.astronaut()


needs_generator = pytest.mark.skipif(
    not GENERATOR.is_file(), reason="this checkout has no bundled generator (lsap_jax/assets)"
)


def replaced(notebook, **values):
    """The notebook with other values of names that it assigns, each in one place, and without what is stored in it."""
    for name, value in values.items():
        changed = [
            re.subn(rf"^{name} = [^#\n]*", f"{name} = {value!r}  ", cell.source, flags=re.M) for cell in notebook.cells
        ]
        assert sum(count for _, count in changed) == 1, name
        for cell, (source, _) in zip(notebook.cells, changed, strict=True):
            cell.source = source
    for cell in code(notebook):
        cell.outputs, cell.execution_count = [], None
    return notebook


def execute(notebook, folder, monkeypatch):
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")  # the old folders are deprecated, with a warning
    client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}})
    client.execute()
    return notebook


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint", ["own", pytest.param("bundled", marks=needs_generator)])
def test_quickstart(checkpoint, request, tmp_path, monkeypatch):
    """With a reader's own checkpoint, a tiny one, and a photograph to align; and with what is bundled."""
    own = {}
    if checkpoint == "own":
        tiny_generator(basecode=True).save(tmp_path / "own.safetensors")
        Image.fromarray(request.getfixturevalue("photograph")).save(tmp_path / "me.png")
        own = {"CHECKPOINT": "own.safetensors", "PICTURES": "me.png", "ALIGN": True}
    notebook = replaced(read("quickstart"), STEPS=2, COUNT=2, **own)
    notebook.cells.append(
        nbformat.v4.new_code_cell(
            "before = live.value\nsliders[NAMES[0]].value = 3\nassert live.value != before, 'the picture follows'\n"
            "sliders[NAMES[0]].value = 0\nassert live.value == before, 'strength 0 is the image itself'"
        )
    )
    execute(notebook, tmp_path, monkeypatch)
    assert len(pictures(notebook)) >= 5 and "PSNR" in printed(notebook)
    name = "me" if checkpoint == "own" else "k9600"
    assert (tmp_path / f"{name}.png").is_file() and (tmp_path / f"{name}.npz").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("files", ["official", pytest.param("bundled", marks=needs_generator)])
def test_official_checkpoints(files, request, tmp_path, monkeypatch):
    """With small files in the authors' formats, where StyleRes is left out; and with what is bundled."""
    chosen = {"COUNT": 1}
    if files == "official":
        file = foreign_encoders.psp_file(foreign_encoders.encoder())
        (tmp_path / "e4e.pt").write_bytes(foreign_files.torch_zip(file))
        (tmp_path / "photographs").mkdir()
        Image.fromarray(request.getfixturevalue("photograph")).save(tmp_path / "photographs" / "me.png")
        chosen |= {"OFFICIAL": True, "GENERATOR": None, "ENCODER": "e4e.pt", "STYLERES": None, "DIRECTION": "random:0"}
    notebook = replaced(read("official_checkpoints"), **chosen)
    notebook.cells[1].source += "\nPTI_STEPS = 2"
    execute(notebook, tmp_path, monkeypatch)
    assert len(pictures(notebook)) == 5 and "kB per image" in printed(notebook)
    assert ("StyleRes " in printed(notebook)) == (files == "bundled")
    assert (tmp_path / "e4e.safetensors").is_file() == (files == "official")


@pytest.mark.slow
@needs_generator
def test_research(tmp_path, monkeypatch):
    notebook = execute(replaced(read("research"), STEPS=2, TUNING=2, SIZE=4, COUNT=2), tmp_path, monkeypatch)
    assert len(pictures(notebook)) == 7 and "'k': (2, 10, 4)" in printed(notebook)
