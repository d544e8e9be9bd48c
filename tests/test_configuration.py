"""Configurations by name and file, overrides, and their errors."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from lsap_jax.configuration import config_folder, config_names, find_config, flat, load_config, preset_name
from lsap_jax.errors import LsapError
from lsap_jax.spaces.space import NAMES


def test_every_packaged_configuration_loads_and_has_its_header():
    assert {"f_zplus", "f_zplus_code", "projector", "lsap_o", "toonhead64"} <= set(config_names())
    for name in config_names():
        assert flat(load_config(name))
        header = (config_folder() / f"{name}.py").read_text().split('"""')[1]
        for part in ("Paper:", "Expected:", "Cost:", "Command: lsap-jax"):
            assert part in header or (part == "Paper:" and "Code:" in header), f"{name}: {part}"


def test_spaces_and_presets_name_files():
    assert preset_name("f/z+:code") == "f_zplus_code"
    assert find_config("f/z+").name == "f_zplus.py"
    assert load_config("z+").space == "z+" and load_config("f/z").space == "f/z"
    paper, code = load_config("f/z+"), load_config("f/z+:code")
    assert (paper.truncation.psi, paper.retraction, paper.keep) == (1.0, "project", "best")
    assert (code.truncation.psi, code.truncation.cutoff, code.retraction, code.keep) == (0.7, 8, "normalise", "last")


def test_every_space_has_its_configuration():
    for name in NAMES:
        assert load_config(name).space == name
        assert find_config(name).stem == preset_name(name)


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("from lsap_jax.configs import zplus\n\n\ndef get_config():\n    return zplus.get_config()\n")
    assert load_config(path, {"steps": 7}).steps == 7
    with pytest.raises(LsapError, match="neither a configuration file"):
        load_config(tmp_path / "absent.py")


def test_overrides_are_strict():
    config = load_config("f/z+", {"loss.base": 5, "optimizer.lr": 0.1, "space": "z"})
    assert config.loss.base == 5.0 and isinstance(config.loss.base, float)
    keys = ", ".join(f"loss.{name}" for name in sorted(config.loss))
    near = "did you mean loss.base\\?"
    with pytest.raises(LsapError, match=f"unknown configuration key 'loss.bse'; {near} there are {keys}$"):
        load_config("f/z+", {"loss.bse": 1.0})
    with pytest.raises(LsapError, match="steps='many' is of type str; it needs int"):
        load_config("f/z+", {"steps": "many"})
    with pytest.raises(LsapError, match="neither a configuration file .* nor one of"):
        load_config("f/y")


@pytest.mark.parametrize("elsewhere", [False, True])
def test_presets_are_found_in_a_checkout_that_is_not_installed(tmp_path, elsewhere):
    root = Path(__file__).resolve().parents[1]
    # -S leaves out the .pth files by which an editable installation is found; the dependencies are put back.
    paths = [str(root), *dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))]
    code = f"import sys; sys.path[:0] = {paths!r}\n" + (
        "from lsap_jax.configuration import config_folder, config_names, load_config\n"
        "from lsap_jax.configs import zplus\n"
        "print(config_folder(), zplus.get_config().space, load_config('f_zplus').space, *config_names())"
    )
    result = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=tmp_path if elsewhere else root, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [str(root / "configs"), "z+", "f/z+", *config_names()]
