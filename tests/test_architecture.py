"""docs/architecture.md against the code: its floors, and the places of the equations; names of test files."""

import re
from pathlib import Path
from pkgutil import resolve_name

import pytest
from test_import import LEVELS

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGES = "|".join(sorted({name for names in LEVELS for name in names}))
# `losses.alignment.nscd`; further functions of the same module follow as `sphere.retract`, `tangent`.
DOTTED = re.compile(rf"`((?:{PACKAGES})(?:\.\w+)+)`((?:, `\w+`)*)")


def names() -> list[str]:
    found = []
    for match in DOTTED.finditer(PAGE):
        found.append(match[1])
        found += [f"{match[1].rpartition('.')[0]}.{name}" for name in re.findall(r"`(\w+)`", match[2])]
    return sorted({name for name in found if not name.endswith(".py")})


def test_the_page_names_many_places():
    assert len(names()) > 60


@pytest.mark.parametrize("name", names())
def test_what_the_page_names_exists(name):
    assert resolve_name(f"lsap_jax.{name}") is not None


def test_the_floors_are_those_of_the_code():
    rows = re.findall(r"^\| (\d*) *\| (.+?) \|", PAGE, re.M)
    floors: dict[int, set[str]] = {}
    floor = 0
    for number, cell in rows:
        floor = int(number) if number else floor
        floors.setdefault(floor, set()).update(re.findall(r"`(\w+)(?:/|\.py)`", cell))
    assert floors == {level + 1: names for level, names in enumerate(LEVELS)}


def test_no_two_test_files_have_one_name():
    """pytest imports them by their names alone, and leaves out the second one with an error at its end."""
    found = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(found) == sorted(set(found))
