"""The documentation's site: what docs/site.py makes of the project's files. `make docs` builds it."""

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

import lsap_jax
from lsap_jax.cli import COMMANDS, overview

ROOT = Path(__file__).resolve().parents[1]


class Loader(yaml.SafeLoader):
    """Of mkdocs.yml, in which one option names a function of Python."""


Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: suffix)


@pytest.fixture(scope="module")
def site():
    spec = importlib.util.spec_from_file_location("docs_site", ROOT / "docs" / "site.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def settings():
    return yaml.load((ROOT / "mkdocs.yml").read_text("utf-8"), Loader)


def leaves(nav) -> list[str]:
    """The pages of a navigation, in its order."""
    if isinstance(nav, str):
        return [nav]
    return [page for part in (nav.values() if isinstance(nav, dict) else nav) for page in leaves(part)]


def test_every_page_is_in_the_navigation_once(site, settings):
    pages = [path.name for path in (ROOT / "docs").glob("*.md")]
    assert sorted(leaves(settings["nav"])) == sorted([*pages, *site.PAGES]), "name it in mkdocs.yml"


def test_every_command_and_flag_is_in_the_reference(site):
    page = site.commands_page()
    assert re.findall(r"^## lsap-jax (\S+)$", page, re.M) == [*COMMANDS] and all(
        name in overview() for name in COMMANDS
    )
    invert = page.partition("## lsap-jax invert\n")[2].partition("\n## ")[0]
    assert "usage: lsap-jax invert IMAGES" in invert
    assert re.search(r"^\| `--engine` \| `local` \| &lt;local\\\|ray&gt;: ", invert, re.M)
    assert re.search(r"^\| `--steps` \|  \| ", invert, re.M) and "| `--[no]debug` |" in invert


def test_every_public_name_is_in_the_reference(site):
    assert re.findall(r"^::: lsap_jax\.(\w+)$", site.python_page(), re.M) == [
        name for name in lsap_jax.__all__ if name != "__version__"
    ]


@pytest.mark.parametrize(
    "folder, link, led",
    [
        ("docs", "methods.md#spaces", "methods.md#spaces"),
        ("docs", "../benchmarks/README.md#on", "R/blob/main/benchmarks/README.md#on"),
        ("docs", "https://a.b/c#d", "https://a.b/c#d"),
        ("docs", "#here", "#here"),
        ("", "docs/editing.md", "editing.md"),
        ("", "docs/faces.png", "faces.png"),
        ("", "CITATION.cff", "R/blob/main/CITATION.cff"),
    ],
)
def test_links_are_led(site, folder, link, led):
    assert site.relinked(f"a [b c]({link}) d", folder, "R") == f"a [b c]({led}) d"


def test_links_out_of_the_docs_lead_to_files(site):
    pages = {path: "docs" for path in (ROOT / "docs").glob("*.md")} | {ROOT / "README.md": ""}
    outside = [
        path
        for page, folder in pages.items()
        for path in re.findall(r"\]\(R/blob/main/([^)#]+)", site.relinked(page.read_text("utf-8"), folder, "R"))
    ]
    assert len(outside) > 5 and not [path for path in outside if not (ROOT / path).exists()]


def test_broken_links_are_found(site, tmp_path):
    """A page, a picture and an anchor that are not there; what is there, and what lies elsewhere, is left alone."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "index.html").write_text('<h2 id="x y">X</h2><a href="../#top">up</a><img src="no.png">')
    (tmp_path / "index.html").write_text(
        '<i id="top"></i><a href="a/#x%20y"></a><a href="a/#z"></a><a href="b/"></a><a href="#"></a>'
        '<a href="https://elsewhere.example/"></a><a href="/base/a/"></a>'
    )
    broken = site.broken_links(tmp_path, "https://example.com/base/")
    assert broken == ["a/index.html: no.png", "index.html: a/#z", "index.html: b/"]
