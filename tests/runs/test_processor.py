"""The processor of a run: read, recorded, taken over by a resume, and named where another one goes on."""

import os

import numpy as np
import pytest

from lsap_jax.configuration import load_config
from lsap_jax.data import from_arrays
from lsap_jax.runs import processor as module
from lsap_jax.runs.processor import adopt_threads, difference, processor
from lsap_jax.runs.run import run
from lsap_jax.storage.checked_json import sealed
from lsap_jax.storage.results import read_run
from lsap_jax.testing import tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation")


def source(images, ids):
    return from_arrays(images, ids, resolution=16, channels=3)


@pytest.fixture
def cpuinfo(tmp_path, monkeypatch):
    def write(flags):
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: fpu {flags}\n\nprocessor\t: 1\n")

    monkeypatch.setattr(module, "CPUINFO", tmp_path / "cpuinfo")
    return write


@pytest.mark.parametrize(
    "flags, environment, instructions",
    [
        ("sse4_2 avx avx2", {}, "AVX2"),
        ("sse4_2 avx avx2 avx512f avx512_vnni", {}, "AVX512_VNNI"),
        ("sse4_2 avx avx2 avx512f", {"XLA_FLAGS": "--a=b --xla_cpu_max_isa=avx2"}, "AVX2"),
        ("sse4_2 avx", {"XLA_FLAGS": "--xla_cpu_max_isa=AVX512"}, "AVX"),
        ("asimd", {}, ""),
    ],
)
def test_instructions_are_the_widest_that_are_compiled_for(cpuinfo, flags, environment, instructions):
    cpuinfo(flags)
    assert processor(environment)["instructions"] == instructions


def test_threads_are_nproc_or_the_processors_of_the_process():
    assert processor({"NPROC": "3"})["threads"] == 3
    for text in ("", "0", "many"):
        assert processor({"NPROC": text})["threads"] == len(os.sched_getaffinity(0))


def test_a_resume_takes_over_the_threads_unless_they_are_set(monkeypatch):
    here = processor({})["threads"]
    monkeypatch.delenv("NPROC", raising=False)
    adopt_threads({"processor": {"threads": here}})
    adopt_threads({})
    assert "NPROC" not in os.environ
    with monkeypatch.context() as patch:
        patch.setenv("NPROC", str(here + 1))
        adopt_threads({"processor": {"threads": here + 2}})
        assert os.environ["NPROC"] == str(here + 1)
    monkeypatch.setitem(os.environ, "NPROC", "")  # restored afterwards
    del os.environ["NPROC"]
    adopt_threads({"processor": {"threads": here + 2}})
    assert os.environ["NPROC"] == str(here + 2)


def test_flags_that_decide_bits_are_part_of_it():
    flags = {"XLA_FLAGS": "--xla_cpu_use_fusion_emitters=false --xla_force_host_platform_device_count=2"}
    assert processor(flags)["flags"] == ["--xla_cpu_use_fusion_emitters=false"]
    assert difference(processor({}), processor(flags)).startswith("flags [] then, ['--xla")


def test_runs_record_it_and_another_one_is_named(tmp_path):
    G, images, config = tiny_generator(discriminator=False), tiny_images(3), load_config("z", {"steps": 1})
    config.batch_size = 2
    run(G, source(images[:2], ("a", "b")), config, tmp_path / "run", generator_name="g")
    record = read_run(tmp_path / "run")
    assert record["processor"] == processor()
    record["processor"] |= {"threads": 99}
    (tmp_path / "run" / "run.json").write_bytes(sealed(record))
    more = source(images, ("a", "b", "c"))
    with pytest.warns(UserWarning, match=r"was begun on another processor \(threads 99 then, \d+ now\)"):
        run(G, more, config, tmp_path / "run", generator_name="g")
    run(G, more, config, tmp_path / "run", generator_name="g")  # nothing is left to compute: no word
    assert read_run(tmp_path / "run")["processor"]["threads"] == 99


def test_folders_that_record_none_say_nothing():
    assert difference({}, processor()) == "" and difference(processor(), processor()) == ""
    assert np.char.count(difference({"threads": 0}, processor()), "then") == 4  # no processor has as few
