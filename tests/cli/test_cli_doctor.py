"""`lsap-jax doctor`: what it says of a machine, and what it finds wrong."""

import re
from pathlib import Path

import pytest

from lsap_jax.cli import doctor, main
from lsap_jax.errors import LsapError

ROOT = Path(__file__).resolve().parents[2]


def test_versions_are_those_of_the_package():
    """What is needed is what is installed with the package; jaxlib comes with jax."""
    needed = re.search(r"install_requires=\[(.*?)\]", (ROOT / "setup.py").read_text(), re.S)[1]
    assert {**dict(re.findall(r'"([\w-]+)>=([\d.]+)"', needed)), "jaxlib": doctor.NEEDED["jax"]} == doctor.NEEDED


def test_the_text_has_what_a_report_needs(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(doctor, "LEAST_FREE", 0)
    (tmp_path / "cache" / "lsap_jax" / "compiled").mkdir(parents=True)
    (tmp_path / "cache" / "lsap_jax" / "compiled" / "x").write_bytes(bytes(30_000_000))
    assert main(["doctor"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert set(lines) >= {"lsap_jax", "python", "packages", "devices", "bundled", "cache", "disk", "problems"}
    assert "cpu" in lines["devices"] and re.search(r"jax \d+\.\d+", lines["packages"])
    assert lines["cache"] == "~/cache/lsap_jax: compiled 0.03 GB" and str(tmp_path) not in str(lines)
    assert lines["problems"] == "none known"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("installed", lambda name: "0.7.3" if name == "jax" else "99.0"), "jax 0.7.3: 0.8 or newer is needed"),
        (("installed", lambda name: None if name == "rich" else "99.0"), "rich is missing: 13 or newer is needed"),
        (("NVIDIA", Path(__file__)), "pip install '.\\[cuda\\]'"),
        (("LEAST_FREE", 1e30), "are free at .*: make room"),
        (("devices", lambda: "jax cannot start one: no such platform"), "jax starts no device"),
        (("bundled", lambda: "toonhead64 is damaged"), "install the package again"),
    ],
)
def test_known_problems_are_told_with_what_to_do(capsys, monkeypatch, change, problem):
    monkeypatch.setattr(doctor, "LEAST_FREE", 0)
    monkeypatch.setattr(doctor, *change)
    assert main(["doctor"]) == 1
    assert re.search(f"^problems .*{problem}", capsys.readouterr().out, re.M)


def test_versions_compare_as_numbers():
    assert doctor.numbers("0.10.2") > doctor.numbers("0.8") and doctor.numbers("2.0.0rc1") >= doctor.numbers("2")


def test_damage_of_the_bundled_generator_is_seen(monkeypatch):
    def damaged(path):
        raise LsapError(f"{path}: its header has changed")

    monkeypatch.setattr("lsap_jax.storage.weights_file.read_weights", damaged)
    assert "toonhead64 is damaged" in doctor.bundled()
