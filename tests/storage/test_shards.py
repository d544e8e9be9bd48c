"""Shares of a run: who takes what, writers side by side, and processes that die."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_results import IDS, RUN, result

from lsap_jax.cli import main
from lsap_jax.errors import LsapError
from lsap_jax.storage import atomic
from lsap_jax.storage.results import read_failures, read_manifest, read_run
from lsap_jax.storage.run_folder import RunFolder, put_together
from lsap_jax.storage.shards import Shard, joined_shard, parse_shard
from lsap_jax.testing import tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation")


@given(st.integers(1, 12), st.integers(0, 60))
def test_shares_are_everything_once(count, batches):
    shards = [parse_shard(f"{i}/{count}", {}) for i in range(count)]
    owners = [sum(shard.owns(k) for shard in shards) for k in range(batches)]
    assert owners == [1] * batches
    sizes = [sum(shard.owns(k) for k in range(batches)) for shard in shards]
    assert max(sizes) - min(sizes) <= 1
    assert len({shard.name for shard in shards}) == count


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8", "SLURM_ARRAY_TASK_MIN": "1"}, (2, 8)),
        ({"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, (0, 2)),
        ({"SLURM_PROCID": "5", "SLURM_NTASKS": "6"}, (5, 6)),
        ({"JOB_COMPLETION_INDEX": "1", "JOB_COMPLETIONS": "4"}, (1, 4)),
        ({"TPU_WORKER_ID": "1", "TPU_WORKER_HOSTNAMES": "10.0.0.1,10.0.0.2"}, (1, 2)),
    ],
)
def test_launchers_tell_rank_and_count(environment, expected):
    assert parse_shard("auto", environment) == Shard(index=expected[0], count=expected[1])


@pytest.mark.parametrize(
    ("text", "environment", "message"),
    [
        ("2/2", {}, "--shard=2/2: shares are counted from 0, the last of 2 is 1"),
        ("0/0", {}, "counted from 0"),
        ("1-2", {}, "--shard=1-2: give i/n, shares counted from 0"),
        ("-1/2", {}, "give i/n"),
        ("auto", {}, "no launcher's variable is set .SLURM_ARRAY_TASK_ID"),
        ("auto", {"JOB_COMPLETION_INDEX": "1"}, "JOB_COMPLETION_INDEX is set and JOB_COMPLETIONS is not"),
        ("auto", {"SLURM_PROCID": "x", "SLURM_NTASKS": "2"}, "are not numbers"),
        ("auto", {"SLURM_PROCID": "2", "SLURM_NTASKS": "2"}, "SLURM_PROCID=2, SLURM_NTASKS=2.: shares are counted"),
    ],
)
def test_what_is_no_share_is_refused(text, environment, message):
    with pytest.raises(LsapError, match=message):
        parse_shard(text, environment)


def test_parts_are_written_side_by_side_and_put_together(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "PATIENCE", 0.1)
    monkeypatch.setattr(atomic, "SILENCE", 0.05)
    folder = tmp_path / "run"
    with RunFolder.open(folder, RUN, part="0-of-2") as a, RunFolder.open(folder, RUN, part="1-of-2") as b:
        a.write("a", **result("a"))
        b.fail("deep/er/b", "not yet", "b.jpg")
        b.write("deep/er/b", **result("deep/er/b"))
        a.fail("bad", "the file is empty", "bad.jpg")
        assert set(read_manifest(folder)) == {"a", "deep/er/b"} and set(read_failures(folder)) == {"bad"}
        for part in ("", "1-of-2"):
            with pytest.raises(atomic.InUse, match="another process is writing there"):
                RunFolder.open(folder, RUN, part=part)
        with pytest.raises(ValueError, match="'0-of-2' cannot finish the whole"):
            a.finish()
    with RunFolder.open(folder, RUN) as whole:
        with pytest.raises(atomic.InUse), pytest.warns(UserWarning, match="waiting for another process"):
            RunFolder.open(folder, RUN, part="0-of-3")
        assert set(whole.finished(ids=["a", "ü"])) == {"a"}
        before = read_manifest(folder), read_failures(folder)
        whole.finish()
    assert (read_manifest(folder), read_failures(folder)) == before
    assert not list(folder.glob("*.*.jsonl"))
    with RunFolder.open(folder, RUN) as whole:  # once more changes nothing
        files = {name: (folder / name).read_bytes() for name in ("manifest.jsonl", "failures.jsonl", "metrics.csv")}
        whole.finish()
    assert files == {name: (folder / name).read_bytes() for name in files}
    assert files["metrics.csv"].count(b"\n") == 3


def test_nobody_comes_between_the_whole_and_its_report(tmp_path):
    """Else a slower process's report could hide what a faster one added, or its unfinished file be swept away."""
    folder, seen = tmp_path / "run", []

    def conclude(path):
        with pytest.raises(atomic.InUse):
            RunFolder.open(path, RUN)
        assert not put_together(path, RUN, lambda _: seen.append("another's"))
        seen.append(sorted(read_manifest(path)))

    for n, id in enumerate("ab"):
        with RunFolder.open(folder, RUN, part=f"{n}-of-2") as part:
            part.write(id, **result(id))
    assert put_together(folder, RUN, conclude)
    assert seen == [["a", "b"]]


def test_a_line_torn_in_a_part_is_no_line(tmp_path):
    folder = tmp_path / "run"
    with RunFolder.open(folder, RUN, part="0-of-2") as part:
        for id in IDS[:2]:
            part.write(id, **result(id))
    lines = folder / "manifest.0-of-2.jsonl"
    lines.write_bytes(lines.read_bytes()[:-9])
    assert set(read_manifest(folder)) == {IDS[0]}
    with RunFolder.open(folder, RUN, part="1-of-3") as other:  # does not touch what is another's
        other.write(IDS[1], **result(IDS[1]))
    assert not lines.read_bytes().endswith(b"\n")
    with RunFolder.open(folder, RUN, part="0-of-2") as again:
        assert set(again.finished()) == set(IDS[:2])
    assert lines.read_bytes().endswith(b"\n")


def test_a_part_waits_for_who_puts_the_whole_together(tmp_path):
    folder = tmp_path / "run"
    whole = RunFolder.open(folder, RUN)
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys, time; from lsap_jax.storage.atomic import lock_folder; from pathlib "
         f"import Path; print(flush=True); lock_folder(Path({str(folder)!r}), '0-of-2'); print('locked')"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout is not None
    child.stdout.readline()
    time.sleep(0.3)
    assert child.poll() is None
    whole.close()
    assert child.stdout.read() == "locked\n" and child.wait() == 0
    child.stdout.close()


COUNT = 7
DEADLINE = 180.0  # seconds after which something hangs
QUICK = ("--space=z+", "--steps=4", "--config.chunk=2", "--batch_size=2")


def argv(work, out, *more):
    return ["invert", work / "images", "--generator", work / "g.safetensors", "--out", out, *QUICK, *more]


def invert(*arguments) -> int:
    return main([str(a) for a in argv(*arguments)])


def tree(folder):
    files = (p for part in ("codes", "images", "targets", "curves") for p in (folder / part).rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in [*files, folder / "metrics.csv"]}


@pytest.fixture(scope="module")
def work(quick_compilation, tmp_path_factory):
    """A folder with g.safetensors, images/ (one of them broken) and the run of one process."""
    folder = tmp_path_factory.mktemp("work")
    tiny_generator(discriminator=False).save(folder / "g.safetensors")
    (folder / "images").mkdir()
    for i, image in enumerate(tiny_images(COUNT)):
        Image.fromarray(image).save(folder / "images" / f"{i}.png")
    (folder / "images" / "3.png").write_bytes(b"nothing")
    assert invert(folder, folder / "run") == 1
    return folder


def test_shares_one_after_another_leave_what_one_process_leaves(work, tmp_path, capsys):
    out = tmp_path / "run"
    assert invert(work, out, "--shard=1/2") == 1  # has the broken image
    assert set(read_manifest(out)) == {"2", "6"}
    told = capsys.readouterr()
    assert "2 images done, 1 failed" in told.out and "4 images are still to be done, and no shard is at" in told.err
    assert invert(work, out, "--shard=0/2") == 0
    assert "still to be done" not in capsys.readouterr().err
    assert tree(out) == tree(work / "run")
    assert set(read_failures(out)) == {"3"} and (out / "report.html").is_file()
    capsys.readouterr()
    assert invert(work, out) == 1
    assert f"{COUNT - 1} images done, {COUNT - 1} of them earlier, 1 failed" in capsys.readouterr().out


def test_a_share_that_is_not_the_last_leaves_the_rest_to_others(work, tmp_path, capsys):
    out = tmp_path / "run"
    assert invert(work, out, "--shard=0/3") == 0
    with RunFolder.open(out, read_run(out), part="2-of-3"):
        capsys.readouterr()
        assert invert(work, out, "--shard=1/3") == 1
        assert "other shards are still at work" in capsys.readouterr().out
    assert (out / "manifest.1-of-3.jsonl").is_file()


def start(work, out, *more, **environment):
    """A process of its own; its output is to be read."""
    command = [sys.executable, "-m", "lsap_jax", *map(str, argv(work, out, *more))]
    environment = {**os.environ, **environment}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, text=True)


def finish(processes):
    """Exit statuses, and what was said."""
    said = [process.communicate(timeout=DEADLINE)[0] for process in processes]
    return [process.returncode for process in processes], said


@pytest.mark.slow  # five processes
def test_a_share_that_dies_is_finished_by_any_number(work, tmp_path):
    """Two processes of four devices each on one run, one killed in the middle; the rest by three processes at once, and
    by one, all of two devices.
    """
    four = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    out = tmp_path / "run"
    processes = [start(work, out, f"--shard={i}/2", **four) for i in range(2)]
    victim, until = out / "manifest.1-of-2.jsonl", time.monotonic() + DEADLINE
    while not victim.exists() and processes[1].poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    processes[1].send_signal(signal.SIGKILL)
    statuses, said = finish(processes)
    assert statuses[0] in (0, 1), said[0]
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", out, copy], check=True)
    statuses, said = finish([start(work, out, f"--shard={i}/3") for i in range(3)])
    assert set(statuses) <= {0, 1}, said
    assert invert(work, copy) == 1
    assert tree(out) == tree(copy) == tree(work / "run")


@pytest.mark.slow
def test_processes_that_have_to_meet_share_a_run(work, tmp_path):
    """As on a TPU pod: `jax.distributed` with two processes, every one on its own devices."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    out = tmp_path / "run"
    met = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    statuses, said = finish([start(work, out, "--shard=auto", JAX_PROCESS_ID=str(i), **met) for i in range(2)])
    assert statuses == [0, 1], said  # the second share has the broken image
    assert "4 images done; " in said[0] and "images done, 1 failed" in said[1]
    assert set(read_manifest(out)) == set(read_manifest(work / "run")) and set(read_failures(out)) == {"3"}
    assert tree(out) == tree(work / "run")


def test_only_where_the_platform_demands_it_processes_meet(monkeypatch):
    assert joined_shard({"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}) is None
    assert joined_shard({"TPU_WORKER_ID": "0", "TPU_WORKER_HOSTNAMES": "localhost"}) is None
    asked = []

    def refuses(**options):
        asked.append(options)
        raise RuntimeError("nobody is there")

    monkeypatch.setattr("jax.distributed.initialize", refuses)
    for environment in (
        {"TPU_WORKER_ID": "0", "TPU_WORKER_HOSTNAMES": "a,b"},
        {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_PROCESS_ID": "1", "JAX_NUM_PROCESSES": "2", "SLURM_PROCID": "0"},
        {"JAX_COORDINATOR_ADDRESS": "a:1", "SLURM_PROCID": "3", "SLURM_NTASKS": "4"},
    ):
        with pytest.raises(LsapError, match="jax.distributed did not start .nobody is there"):
            joined_shard(environment)
    told = [{name: n for name, n in options.items() if name != "shutdown_timeout_seconds"} for options in asked]
    assert told == [{}, {"num_processes": 2, "process_id": 1}, {"num_processes": 4, "process_id": 3}]
