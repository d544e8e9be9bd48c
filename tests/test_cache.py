"""Where compiled programs are kept."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lsap_jax import cache
from lsap_jax.testing import tiny_generator


def test_the_folder_is_the_users_and_the_processors(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    cache.keep_compilations()
    folder = Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
    assert folder.parent == tmp_path / "lsap_jax" / "compiled"
    names = {folder.name}
    for text in ("processor: 0\nflags : fpu avx\n", "processor: 0\nflags : fpu avx avx512f\n", None):
        file = tmp_path / "cpuinfo"
        file.unlink(missing_ok=True)
        if text is not None:
            file.write_text(text)
        monkeypatch.setattr(cache, "PROCESSOR_FILE", file)
        monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
        cache.keep_compilations()
        names.add(Path(os.environ["JAX_COMPILATION_CACHE_DIR"]).name)
    assert len(names) == 4
    cache.keep_compilations()  # what is set stays
    assert Path(os.environ["JAX_COMPILATION_CACHE_DIR"]).name in names


def test_home_is_where_xdg_says_nothing(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache.user_folder() == Path.home() / ".cache" / "lsap_jax"


@pytest.mark.parametrize(
    "where", ["default", *(pytest.param(name, marks=pytest.mark.slow) for name in ("named", "off"))]
)
def test_a_command_finds_what_an_earlier_one_compiled(tmp_path, where):
    tiny_generator(discriminator=False).save(tmp_path / "g.safetensors")
    # However fast this machine compiles, what it compiled is kept.
    settings = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"} | settings
    if where != "default":
        environment["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path / "mine") if where == "named" else ""
    command = [sys.executable, "-m", "lsap_jax", "generate", "--generator", tmp_path / "g.safetensors", "--seeds", "0"]

    def generate(out):
        subprocess.run([*command, "--out", tmp_path / out], check=True, env=environment, capture_output=True)
        return {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*-cache")}

    first = generate("a")
    kept = {"default": tmp_path / "cache" / "lsap_jax" / "compiled", "named": tmp_path / "mine"}.get(where)
    assert bool(first) == (kept is not None) and all(kept in p.parents for p in first)
    assert generate("b").keys() == first.keys()
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / out).glob("*.png")} for out in "ab")
    assert one and one == two


@pytest.mark.parametrize("where", ["default", "argument", "environment", "config", "off"])
def test_a_program_keeps_what_it_compiles(tmp_path, where):
    """Also one that has compiled something before it asks, and so has a jax that has settled for no cache."""
    mine = f"{str(tmp_path / 'mine')!r}"
    argument = mine if where == "argument" else ""
    told = f"jax.config.update('jax_compilation_cache_dir', {mine})" if where == "config" else ""
    code = f"""
import jax
jax.jit(lambda x: x + 1)(1.0)
{told}
import lsap_jax
print(lsap_jax.keep_compiled({argument}))
jax.jit(lambda x: x * 3)(1.0)
"""
    settings = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"} | settings
    if where in ("environment", "off"):
        environment["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path / "mine") if where == "environment" else ""
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    told, kept = done.stdout.strip(), list(tmp_path.rglob("*-cache"))
    if where == "off":
        assert not told and not kept
    else:
        expected = tmp_path / ("cache/lsap_jax/compiled" if where == "default" else "mine")
        assert Path(told) == expected or Path(told).parent == expected
        assert kept and all(path.parent == Path(told) for path in kept)
