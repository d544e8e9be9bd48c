"""What packages, messages and pages promise about installing: extras, one address, and the types of the front door."""

import ast
import re
from pathlib import Path

import lsap_jax

ROOT = Path(__file__).resolve().parents[1]
NOT_OURS = {".git", "__pycache__", "runs", "demo-out", "build", "dist", "site"}
TEXTS = {".py", ".md", ".ipynb", ".yml", ".toml", ".cff", ".css", ".js", ".html", ""}


def texts() -> dict[str, str]:
    """Path in the project -> content, of what people and programs read."""
    found = {}
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        if NOT_OURS & {*parts} or any(part.startswith((".venv", "lsap_jax.egg")) for part in parts):
            continue
        if path.suffix in TEXTS and path.is_file() and not parts[-1].startswith(".coverage"):
            found["/".join(parts)] = path.read_text(encoding="utf-8", errors="replace")
    return found


TEXT = texts()


def extras() -> set[str]:
    """The extras that setup.py has."""
    calls = [node for node in ast.walk(ast.parse(TEXT["setup.py"])) if isinstance(node, ast.Call)]
    (found,) = [k.value for call in calls for k in call.keywords if k.arg == "extras_require"]
    assert isinstance(found, ast.Dict)
    return {ast.literal_eval(key) for key in found.keys if key is not None}


def test_extras_that_are_named_exist():
    named = [
        (extra, name)
        for name, text in TEXT.items()
        for group in re.findall(r"(?<=['\"\s])\.(?:/lsap_jax)?\[([a-z0-9_, -]+)\]", text)
        for extra in re.split(r", *", group)
    ]
    assert {"dev", "ray", "svm", "superpixels", "tfds"} <= {extra for extra, _ in named}
    assert not [place for place in named if place[0] not in extras()]


def test_no_index_is_promised():
    """lsap_jax is in no index: what installs it by that name installs something else, or nothing."""
    for name, text in TEXT.items():
        named = re.findall(r"(?<!\./)lsap[-_]jax\[|pip install (?:-\S+ )*['\"]?lsap[-_]jax\b", text)
        assert not named, f"{name}: say pip install '.[EXTRA]' in lsap_jax's checkout"


def test_there_is_one_address():
    """All links into the repository are to the account in CITATION.cff, so that one replacement changes them."""
    (owner,) = re.findall(r'^repository-code: "https://github\.com/([^/]+)/lsap_jax"$', TEXT["CITATION.cff"], re.M)
    links = r"(?:github\.com|githubusercontent\.com|com/github)/([^/\s\"]+)/lsap_jax\b"
    found = {name: set(re.findall(links, text)) for name, text in TEXT.items() if not name.startswith("tests/")}
    assert {name: owners for name, owners in found.items() if owners - {owner}} == {}
    assert {"CITATION.cff", "README.md"} <= {name for name, owners in found.items() if owners}


def test_type_checkers_see_every_export():
    """The imports that only they see are the table by which names are loaded."""
    (block,) = [node for node in ast.parse(TEXT["lsap_jax/__init__.py"]).body if isinstance(node, ast.If)]
    seen = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        seen |= {alias.asname: node.module for alias in node.names if alias.asname == alias.name}
    assert seen == lsap_jax._EXPORTS, "give each name a row of the table and an import"
