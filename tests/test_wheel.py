"""The package as it is installed: built, unpacked elsewhere, and used from another folder."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = [
    "setup.py",
    "pyproject.toml",
    "MANIFEST.in",
    "README.md",
    "LICENSE",
    "CITATION.cff",
    "CHANGELOG.md",
    "Makefile",
]
GENERATOR = ROOT / "lsap_jax" / "assets" / "toonhead64.safetensors"


def run(*command: str, cwd: Path, **environment: str) -> str:
    """Output of a command that must succeed."""
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={**os.environ, **environment})
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel made from a source distribution made from a copy of the sources; needs no network."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in PARTS:
        shutil.copy(ROOT / name, source)
    for name in ("lsap_jax", "convert_weights", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(built), cwd=source)
    (path,) = built.glob("*.whl")  # the source distribution lies beside it
    return path


@pytest.fixture(scope="module")
def metadata(wheel):
    """What an index shows of the wheel, by its headers; the long description is the payload."""
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    return Parser().parsestr(archive.read(name).decode())


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The wheel installed into a folder of its own, the dependencies taken from this environment."""
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--disable-pip-version-check"]
    run(*pip, "--target", str(target), str(wheel), cwd=target)
    return target


def lsap_jax(installed: Path, folder: Path, *arguments: str) -> str:
    """Output of the installed command, run in another folder."""
    return run(str(installed / "bin" / "lsap-jax"), *arguments, cwd=folder, PYTHONPATH=str(installed))


def test_everything_is_inside(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    missing = []
    for folder, inside in (("lsap_jax", "lsap_jax"), ("convert_weights",) * 2, ("configs", "lsap_jax/configs")):
        for path in (ROOT / folder).rglob("*"):
            name = f"{inside}/{path.relative_to(ROOT / folder).as_posix()}"
            if path.is_file() and "__pycache__" not in path.parts and name not in names:
                missing.append(name)
    assert not missing
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "configs"))]


def test_metadata(metadata):
    assert metadata["License-Expression"] == "Apache-2.0" and metadata["Requires-Python"] == ">=3.11"
    required = metadata.get_all("Requires-Dist")
    assert [line for line in required if line.startswith("jax>=")]
    assert set(metadata.get_all("Provides-Extra")) == {
        "cuda",
        "tpu",
        "ray",
        "studio",
        "superpixels",
        "svm",
        "tfds",
        "docs",
        "heic",
        "video",
        "dev",
    }
    assert not [line for line in required if "<" in line.split(";")[0]], "an upper bound would forbid the next jax"


@pytest.mark.slow
def test_an_index_accepts_it(wheel, tmp_path):
    """Wheel and source distribution; a description that an index cannot show is an error."""
    (source,) = wheel.parent.glob("*.tar.gz")
    run(sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(source), cwd=tmp_path)


def test_it_says_whose_it_is_and_where(metadata):
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    (repository,) = re.findall(r'^repository-code: "(.+)"$', citation, re.M)
    assert [metadata["Author"]] == re.findall(r"^  - name: (.+)$", citation, re.M)
    urls = dict(line.split(", ") for line in metadata.get_all("Project-URL"))
    assert {"Documentation", "Changelog", "Issues"} <= urls.keys()
    assert all(url.startswith(repository) for url in urls.values())


def test_links_of_the_description_lead_to_files_of_this_version(metadata):
    from lsap_jax import __version__

    (repository,) = re.findall(r'^repository-code: "(.+)"$', (ROOT / "CITATION.cff").read_text("utf-8"), re.M)
    links = re.findall(r"(!?)\[[^\]]*\]\(([^)]+)\)", metadata.get_payload())
    own = [(kind, link) for kind, link in links if link.startswith((f"{repository}/blob/", f"{repository}/raw/"))]
    assert len(own) > 20 and all(":" in link or link.startswith("#") for _, link in links)
    for kind, link in own:
        shape, version, path = link.removeprefix(f"{repository}/").split("/", 2)
        assert version == f"v{__version__}" and shape == ("raw" if kind else "blob")
        assert (ROOT / path.partition("#")[0]).exists(), link


def test_the_installed_package_is_the_one_that_runs(installed, tmp_path):
    code = (
        "import lsap_jax as a, convert_weights as b, lsap_jax.configs as c; print(a.__file__, b.__file__, *c.__path__)"
    )
    for path in run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(installed)).split():
        assert Path(path).is_relative_to(installed)
    from lsap_jax import __version__

    assert lsap_jax(installed, tmp_path, "--version").strip() == f"lsap-jax {__version__}"


def test_configurations_are_found_by_name(installed, tmp_path):
    from lsap_jax.configuration import config_names

    code = (
        "from lsap_jax.configuration import *; print(*config_names()); [load_config(name) for name in config_names()]"
    )
    assert run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(installed)).split() == config_names()


@pytest.mark.skipif(not GENERATOR.is_file(), reason="this checkout has no bundled generator (lsap_jax/assets)")
@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.slow
def test_the_bundled_generator_runs_from_another_folder(installed, tmp_path):
    lsap_jax(installed, tmp_path, "generate", "--generator", "toonhead64", "--seeds", "0-3", "--out", "samples")
    assert len(list((tmp_path / "samples").glob("seed*.png"))) == 4


@pytest.mark.slow  # the files that it needs are inside, and test_readme.py runs it
@pytest.mark.skipif(not GENERATOR.is_file(), reason="this checkout has no bundled generator (lsap_jax/assets)")
@pytest.mark.usefixtures("quick_compilation")
def test_the_demo_runs_from_another_folder(installed, tmp_path):
    out = lsap_jax(installed, tmp_path, "demo", "--out", "demo-out", "--steps", "2", "--spaces", "z+")
    assert str(tmp_path / "demo-out" / "index.html") in out
    for page in ("index.html", "report.html", "edits/report.html"):
        assert (tmp_path / "demo-out" / page).is_file()
    codes = list((tmp_path / "demo-out" / "codes").rglob("*.npz"))
    assert len(codes) == len(list((installed / "lsap_jax" / "assets" / "samples").glob("*.png"))) > 0
