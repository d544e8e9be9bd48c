"""The run folder when the writer is killed, the disk is full, or two writers meet.

Run as a program (`python tests/storage/test_results_crash.py FOLDER`) this kills child processes at every system call
of a small run, and at random moments, and checks what they leave; fork needs a process without JAX in it.
"""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from test_results import RUN, do_run, result, tree

from lsap_jax.errors import LsapError
from lsap_jax.storage import atomic
from lsap_jax.storage.results import read_code, read_manifest
from lsap_jax.storage.run_folder import RunFolder

FEW = ["a", "deep/b"]


def test_nothing_is_half_there_after_sigkill_anywhere(tmp_path):
    """Every system call of a run is a place to die at; the program below this module kills at each and checks."""
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path)], capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["stages"] > 80 and report["torn_lines"] > 0 and report["random_kills"] == 12
    assert report["images_kept"] > 0


def test_a_line_is_written_only_after_its_files_are_on_the_disk(tmp_path, monkeypatch):
    """What SIGKILL cannot show, a power loss would: every file and folder is synced before the manifest names it."""
    events, names = [], {}
    real = {name: getattr(os, name) for name in ("open", "write", "fsync", "replace", "mkdir")}

    def opened(path, *args, **kwargs):
        descriptor = real["open"](path, *args, **kwargs)
        names[descriptor] = str(path)
        return descriptor

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "write", lambda fd, data: events.append(("write", names[fd])) or real["write"](fd, data))
    monkeypatch.setattr(os, "fsync", lambda fd: events.append(("fsync", names[fd])) or real["fsync"](fd))
    monkeypatch.setattr(os, "replace", lambda a, b: events.append(("replace", str(a), str(b))) or real["replace"](a, b))
    monkeypatch.setattr(os, "mkdir", lambda path: events.append(("mkdir", str(path))) or real["mkdir"](path))
    with RunFolder.open(tmp_path / "run", RUN) as run:
        run.write("deep/b", **result("b"))
    manifest = str(tmp_path / "run/manifest.jsonl")
    end = events.index(("write", manifest))
    assert events[end + 1] == ("fsync", manifest)
    renamed = [(i, *event[1:]) for i, event in enumerate(events[:end]) if event[0] == "replace"]
    assert len(renamed) == 5
    for i, temporary, final in renamed:
        assert events.index(("write", temporary)) < events.index(("fsync", temporary)) < i
        assert ("fsync", str(Path(final).parent)) in events[i:end]
    for i, (kind, path, *_) in enumerate(events[:end]):
        if kind == "mkdir":
            assert ("fsync", str(Path(path).parent)) in events[i:end]


def fail_at(monkeypatch, call: int, name: str = "write", code: int = 28, share: float = 0.5) -> None:
    """The disk is full at the given call: part of the data goes in, and then no more."""
    real, calls = getattr(os, name), [0]

    def failing(*args):
        calls[0] += 1
        if calls[0] == call and name == "write":
            return real(args[0], bytes(args[1])[: max(1, int(len(args[1]) * share))])
        if calls[0] >= call:
            raise OSError(code, os.strerror(code))
        return real(*args)

    monkeypatch.setattr(os, name, failing)


@pytest.mark.parametrize("call", range(1, 6))
@pytest.mark.parametrize("name", ["write", "fsync"])
def test_a_full_disk_stops_clearly_and_damages_nothing(tmp_path, monkeypatch, call, name):
    with RunFolder.open(tmp_path / "run", RUN) as run:
        run.write("a", **result("a"))
        before = tree(tmp_path / "run")
        fail_at(monkeypatch, call, name)
        with pytest.raises(LsapError, match="no space left; what is finished is kept: make room"):
            run.write("ü", **result("ü"))
        monkeypatch.undo()
        after = tree(tmp_path / "run")
        assert before.items() <= after.items()
        assert not any(atomic.is_temporary(os.path.basename(path)) for path in after)
        assert after["manifest.jsonl"] == before["manifest.jsonl"]
        run.fail("x", "y", "z")  # the writer can go on once there is room
    do_run(tmp_path / "run", ["a", "ü"])
    do_run(tmp_path / "whole", ["a", "ü"])
    again, whole = tree(tmp_path / "run"), tree(tmp_path / "whole")
    assert again.pop("failures.jsonl") != whole.pop("failures.jsonl")
    assert again == whole


def test_a_file_size_limit_counts_as_full(tmp_path):
    with RunFolder.open(tmp_path, RUN) as run:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (600, hard))
        try:
            with pytest.raises(LsapError, match="file size limit reached"):
                run.write("a", **result("a"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert sorted(tree(tmp_path)) == [".lock", "run.json"]
        run.write("a", **result("a"))


def test_other_failures_of_the_disk_are_explained(tmp_path, monkeypatch):
    with RunFolder.open(tmp_path, RUN) as run:
        fail_at(monkeypatch, 1, "replace", code=5)
        with pytest.raises(LsapError, match=r"cannot be read or written \(Input/output error\)"):
            run.write("a", **result("a"))


def test_an_interrupted_line_is_taken_back(tmp_path, monkeypatch):
    path = tmp_path / "lines.jsonl"
    atomic.append_record(path, {"id": "a"})
    before, real = path.read_bytes(), os.write

    def interrupted(descriptor, data):
        real(descriptor, bytes(data)[:5])
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        atomic.append_record(path, {"id": "b"})
    assert path.read_bytes() == before


def test_leftovers_of_a_killed_run_are_removed_and_nothing_else(tmp_path):
    do_run(tmp_path)
    before = tree(tmp_path)
    for name in ("codes/deep/.lsap-12-3.tmp", ".lsap-1-0.tmp"):
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / "report.html").write_text("mine")
    RunFolder.open(tmp_path, RUN).close()
    assert tree(tmp_path) == {**before, "report.html": b"mine"}


def test_leftovers_in_a_folder_with_a_lock_of_its_own_are_left_to_who_takes_that(tmp_path):
    do_run(tmp_path)
    do_run(tmp_path / "edits")
    half = tmp_path / "edits" / ".lsap-1-0.tmp"
    half.write_bytes(b"being written")
    with RunFolder.open(tmp_path, RUN):
        assert half.exists()
    with RunFolder.open(tmp_path / "edits", RUN):
        assert not half.exists()


def test_two_writers_in_one_folder_are_refused(tmp_path):
    with RunFolder.open(tmp_path, RUN) as run:
        with pytest.raises(LsapError, match="another process is writing there"):
            RunFolder.open(tmp_path, RUN)
        run.write("a", **result("a"))
        assert list(read_manifest(tmp_path)) == ["a"]  # readers are welcome
    run.close()
    RunFolder.open(tmp_path, RUN).close()


def test_a_file_system_without_locks_is_warned_about(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(atomic.fcntl, "flock", unsupported)
    with pytest.warns(UserWarning, match="only one process"):
        RunFolder.open(tmp_path, RUN).close()


def test_writing_from_several_threads(tmp_path):
    ids = [f"{i % 3}/{i}" for i in range(24)]
    with RunFolder.open(tmp_path, RUN) as run, ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(run.write, id, **result(id)) for id in ids]:
            done.result()
        assert sorted(run.finished()) == sorted(ids)
    assert sorted(read_manifest(tmp_path)) == sorted(ids)


# The program that kills


def fork(action) -> int:
    child = os.fork()
    if child == 0:
        try:
            action()
        except BaseException as error:
            print(f"child: {error!r}", file=sys.stderr, flush=True)
            os._exit(3)
        os._exit(0)
    return child


def killed_at(stage: int, folder: Path) -> None:
    """Runs until the given system call, does half of it where it can be halved, and dies of SIGKILL."""
    calls = [0]

    def wrap(name: str):
        real = getattr(os, name)

        def call(*args, **kwargs):
            calls[0] += 1
            if calls[0] == stage:
                if name == "write":
                    real(args[0], bytes(args[1])[: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        setattr(os, name, call)

    for name in ("open", "write", "fsync", "replace", "mkdir", "unlink", "truncate"):
        wrap(name)
    do_run(folder, FEW)


def check_after_death(folder: Path, whole: dict[str, bytes], report: dict) -> None:
    """What is listed is whole; what is there under a final name is whole; running again gives the same tree."""
    found = tree(folder) if folder.exists() else {}
    for name, data in found.items():
        if name.endswith((".npz", ".png", "run.json", "metrics.csv")):
            assert data == whole[name], f"{name} is not as it should be"
    if "manifest.jsonl" in found:
        report["torn_lines"] += not found["manifest.jsonl"].endswith(b"\n")
        manifest = read_manifest(folder)
        report["images_kept"] += len(manifest)
        for id in manifest:
            read_code(folder, id, manifest=manifest)
    do_run(folder, FEW)
    assert tree(folder) == whole, f"{sorted(tree(folder))}"


def main(scratch: Path) -> None:
    do_run(scratch / "whole", FEW)
    whole = tree(scratch / "whole")
    report = {"stages": 0, "torn_lines": 0, "images_kept": 0, "random_kills": 0, "attempts": 0}
    while True:
        folder = scratch / f"stage{report['stages']}"
        _, status = os.waitpid(fork(lambda folder=folder: killed_at(report["stages"] + 1, folder)), 0)
        if not os.WIFSIGNALED(status):
            assert os.WEXITSTATUS(status) == 0
            break
        check_after_death(folder, whole, report)
        report["stages"] += 1
    rng, longest = random.Random(0), 0.2
    while report["random_kills"] < 12:
        folder = scratch / f"random{report['attempts']}"
        report["attempts"] += 1
        child = fork(lambda folder=folder: do_run(folder, FEW))
        time.sleep(rng.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        died = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        longest *= 1.2 if died else 0.8  # finds out how long a run takes on this disk
        report["random_kills"] += died
        check_after_death(folder, whole, report)
    print(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
