"""Files of addresses: streamed, resumed, checked, and what is refused."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from web_server import Site, served

from lsap_jax.cli import COMMANDS, main
from lsap_jax.cli.addresses import with_files
from lsap_jax.cli.arguments import ADDRESSES, parse
from lsap_jax.errors import LsapError
from lsap_jax.storage import fetch as fetching
from lsap_jax.storage.atomic import lock_folder
from lsap_jax.storage.fetch import cached_files, downloads, fetch
from lsap_jax.storage.web import is_address, parsed
from lsap_jax.testing import tiny_generator

BODY = bytes(range(256)) * 5000
DIGEST = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(fetching, "PAUSE", 0.0)


@pytest.fixture
def site():
    with served(Site(files={"/a/model.pt": BODY, "/page": b"<!DOCTYPE html><title>Quota\n exceeded</title>"})) as found:
        yield found


def refused(text):
    with pytest.raises(LsapError) as caught:
        fetch(text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_is_fetched_once_and_recorded(site):
    seen = []
    path = fetch(f"{site.address}/a/model.pt?token=secret", lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == BODY and path.name == "model.pt" and path.is_relative_to(downloads())
    assert seen[-1] == (len(BODY), len(BODY)) and seen == sorted(seen)
    record = {"address": f"{site.address}/a/model.pt", "bytes": len(BODY), "sha256": DIGEST}
    assert json.loads((path.parent / "model.pt.json").read_text()) == record
    assert cached_files() == [{**record, "path": str(path)}]
    assert {p.name for p in path.parent.iterdir()} == {"model.pt", "model.pt.json", ".lock"}
    assert fetch(f"{site.address}/a/model.pt?token=secret") == path and len(site.asked) == 1
    assert fetch(f"{site.address}/a/model.pt") != path  # another query may be another file


def test_a_digest_that_is_asked_for(site):
    address = f"{site.address}/a/model.pt"
    assert "its SHA-256 is " + DIGEST in refused(f"{address}#sha256={'0' * 64}")
    assert not cached_files() and not list(downloads().rglob("*.part"))
    assert fetch(f"{address}#sha256={DIGEST.upper()}").read_bytes() == BODY
    assert "not " + "0" * 64 in refused(f"{address}#sha256={'0' * 64}")  # of a file in the cache, too
    assert "64 hexadecimal digits" in refused(f"{address}#sha256=12")


def test_a_file_of_the_cache_that_has_changed_is_refused(site):
    path = fetch(f"{site.address}/a/model.pt")
    data = bytearray(BODY)
    data[1234] ^= 1
    path.write_bytes(data)
    assert f"{path}: has changed since it was fetched; delete the file" in refused(f"{site.address}/a/model.pt")
    path.unlink()
    assert fetch(f"{site.address}/a/model.pt").read_bytes() == BODY


@given(
    breaks=st.lists(st.integers(1, len(BODY) - 1), max_size=3),
    ranges=st.booleans(),
    etag=st.sampled_from(["", '"x"', 'W/"x"']),
)
def test_broken_transfers_end_in_the_same_file(tmp_path_factory, breaks, ranges, etag):
    """Wherever connections break, whether or not the server can go on, and whether or not it tells versions."""
    with pytest.MonkeyPatch.context() as patch, served(Site({"/x.pkl": BODY}, etag or None, ranges)) as site:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        site.breaks = list(breaks)
        assert fetch(f"{site.address}/x.pkl").read_bytes() == BODY
        gone_on = [one for one in site.asked if one[1]]
        assert bool(gone_on) == (bool(breaks) and etag == '"x"')
        assert 1 <= len(site.asked) <= len(breaks) + 1


def test_what_was_got_is_kept_for_the_next_command(site, monkeypatch):
    monkeypatch.setattr(fetching, "BREAKS", 0)
    site.breaks = [700_000]
    message = refused(f"{site.address}/a/model.pt")
    assert "broke off after 700,000 bytes" in message and "run the same command again" in message
    assert not cached_files()
    part = next(downloads().glob("*/model.pt.part"))
    with open(part, "ab") as file:  # what a power loss left behind the synced bytes
        file.write(bytes(5000))
    assert fetch(f"{site.address}/a/model.pt").read_bytes() == BODY
    assert [one[1] for one in site.asked] == [None, "bytes=700000-"]


def test_a_page_does_not_cost_what_was_got(site, monkeypatch):
    """A quota that is used up in between is no reason to begin again."""
    monkeypatch.setattr(fetching, "BREAKS", 0)
    address = f"{site.address}/a/model.pt"
    site.breaks = [700_000]
    refused(address)
    site.ranges, site.files["/a/model.pt"] = False, site.files["/page"]
    assert "answers with a web page" in refused(address)
    site.ranges, site.files["/a/model.pt"] = True, BODY
    assert fetch(address).read_bytes() == BODY and site.asked[-1][1] == "bytes=700000-"


def test_a_killed_process_is_gone_on_from(site):
    """From what it had noted, which is less than it had written."""
    code = f"""
import os
from lsap_jax.storage import fetch
fetch.CHUNK, fetch.SYNCED = 10_000, 200_000
fetch.fetch("{site.address}/a/model.pt", lambda done, total: os.kill(os.getpid(), 9) if done > 500_000 else None)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    assert not cached_files() and next(downloads().glob("*/model.pt.part")).stat().st_size > 200_000
    assert fetch(f"{site.address}/a/model.pt").read_bytes() == BODY
    start = int(site.asked[-1][1].removeprefix("bytes=").rstrip("-"))
    assert 400_000 <= start < 500_000


def test_a_file_that_has_changed_meanwhile_begins_again(site, monkeypatch):
    for change in ({"etag": '"2"'}, {}):  # a server that knows, and one that goes on as if nothing had happened
        monkeypatch.setattr(fetching, "BREAKS", 0)
        site.files["/b.pt"], site.breaks = BODY[::-1], [300_000]
        address = f"{site.address}/b.pt?{len(change)}"
        refused(address)
        site.files["/b.pt"] = BODY + b"more" if not change else BODY
        site.etag = change.get("etag", site.etag)
        monkeypatch.setattr(fetching, "BREAKS", 3)
        assert fetch(address).read_bytes() == site.files["/b.pt"]
    site.files["/c.pt"], site.breaks = BODY, [300_000]
    monkeypatch.setattr(fetching, "BREAKS", 0)
    refused(f"{site.address}/c.pt")
    site.files["/c.pt"] = BODY[:1000]  # shorter than what is there: 416
    monkeypatch.setattr(fetching, "BREAKS", 3)
    assert fetch(f"{site.address}/c.pt").read_bytes() == BODY[:1000]


def test_a_server_that_is_not_there_is_not_asked_again(site, monkeypatch):
    monkeypatch.setattr(fetching, "PAUSE", 1e9)
    site.status["/busy"] = 503, {}
    assert "cannot be fetched (the server answers 503" in refused(f"{site.address}/busy")
    assert len(site.asked) == 1
    assert "cannot be fetched" in refused("http://127.0.0.1:9/x.pt")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((404, {}), "there is no such file \\(404\\)"),
        ((403, {}), "not given to everybody \\(403\\): it asks for a login, or its quota is used up"),
        ((429, {}), "answers 429 .*; try again later"),
        ((302, {"Location": "file:///etc/passwd"}), "leads to file:///etc/passwd, and only https:// is followed"),
        ((302, {"Location": "ftp://127.0.0.1/x"}), "leads to ftp://127.0.0.1/x"),
        ((302, {"Location": "http://example.com/x?key=1"}), "leads to http://example.com/x, and only https://"),
        ((302, {"Location": "//example.com/x"}), "leads to http://example.com/x"),
        ((301, {"Location": "/loop"}), "through more than 5 other addresses"),
        ((302, {"Location": "data:,x"}), "leads to data:,x"),
        ((302, {"Location": "http://[::1/x"}), "is not a whole address"),
        ((302, {"Location": "https://a..b/x"}), "cannot be fetched"),
        ((302, {}), "the server answers 302"),
    ],
)
def test_answers_that_are_not_files(site, answer, reason):
    site.status["/loop"] = answer
    assert re.search(reason, refused(f"{site.address}/loop"))
    assert not list(downloads().rglob("*.part"))


def test_redirections_on_this_machine_are_followed(site):
    site.status["/latest"] = 307, {"Location": "/a/model.pt?x=1"}
    assert fetch(f"{site.address}/latest").read_bytes() == BODY


def test_a_page_in_place_of_a_file_is_told_from_it(site):
    message = refused(f"{site.address}/page")
    assert "answers with a web page (Quota exceeded), not with the file" in message and "in a browser" in message
    site.files |= {"/lfs.pt": b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "/empty": b""}
    assert "a pointer of Git LFS" in refused(f"{site.address}/lfs.pt")
    assert "the answer is empty" in refused(f"{site.address}/empty")
    site.kind = "text/html; charset=utf-8"
    assert "a web page" in refused(f"{site.address}/a/model.pt")
    assert not cached_files()


def test_sizes_are_limited(site, monkeypatch):
    monkeypatch.setattr(fetching, "MOST_BYTES", 1_000_000)
    for length in (None, -1):  # whether or not the server says so
        site.length = length
        assert "more than 1,000,000 bytes" in refused(f"{site.address}/a/model.pt?{length}")
    assert all(path.stat().st_size <= 1_000_000 for path in downloads().rglob("*.part"))
    monkeypatch.undo()
    site.length = 10**17
    monkeypatch.setattr(fetching, "MOST_BYTES", 10**18)
    assert "are still to come and" in refused(f"{site.address}/a/model.pt?disk")


def test_a_length_that_is_not_true(site, monkeypatch):
    monkeypatch.setattr(fetching, "BREAKS", 1)
    site.length = len(BODY) + 5
    assert "broke off after" in refused(f"{site.address}/a/model.pt")
    assert not cached_files()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("http://example.com/x.pt", "only https:// addresses are fetched"),
        ("http://10.0.0.1/x.pt", "only https://"),
        ("http://127.0.0.1.example.com/x", "only https://"),
        ("ftp://127.0.0.1/x", "only https://"),
        ("file:///etc/passwd", "only https://"),
        ("file://localhost/etc/passwd", "only https://"),
        ("https://", "is not a whole address"),
        ("https://example.com:port/x", "is not a whole address"),
        ("https://example.com/a b", "is not a whole address"),
        ("https://example.com/\r\nHost: x", "is not a whole address"),
        ("https://me:word@example.com/x", "https://example.com/x: has a name or a password in it"),
    ],
)
def test_addresses_that_are_not_fetched(text, reason):
    assert reason in refused(text) and not downloads().exists()


@given(st.text(max_size=60))
def test_any_text_is_a_safe_name_or_refused(text):
    try:
        address = parsed(f"https://example.com/{text}")
    except LsapError as error:
        assert "\n" not in str(error)
        return
    assert address.name and "/" not in address.name and not address.name.startswith(".") and len(address.name) <= 100


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate of 127.0.0.1 that nobody has signed, with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not here to make a certificate")
    folder = tmp_path_factory.mktemp("certificate")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem", "-out", folder / "one.pem"]
    subprocess.run(command, check=True, capture_output=True)
    (folder / "both.pem").write_bytes((folder / "one.pem").read_bytes() + (folder / "key.pem").read_bytes())
    return folder / "both.pem"


def test_certificates_are_checked(certificate, monkeypatch):
    with served(Site({"/x.pt": BODY}), certificate) as site:
        assert "cannot be fetched (its certificate is not valid: " in refused(f"{site.address}/x.pt")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert fetch(f"{site.address}/x.pt").read_bytes() == BODY
        with served(Site({"/x.pt": BODY})) as plain:
            site.status["/to-http"] = 302, {"Location": f"{plain.address}/x.pt"}
            assert "and only https:// is followed" in refused(f"{site.address}/to-http")
            assert not plain.asked
            plain.status["/to-https"] = 302, {"Location": f"{site.address}/x.pt"}
            assert fetch(f"{plain.address}/to-https").read_bytes() == BODY


def test_what_is_an_address():
    assert is_address("https://a/b") and is_address("file:///x") and is_address("HTTP://x")
    assert not any(map(is_address, ["toonhead64", "a/b.pt", "/a//b", "tfds:x/y", "C:\\x", "", "1://x"]))


def test_several_processes_share_one_file(site):
    found = []
    threads = [threading.Thread(target=lambda: found.append(fetch(f"{site.address}/a/model.pt"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1 and found[0].read_bytes() == BODY and len(site.asked) == 1


def test_another_process_that_fetches_is_waited_for(site, monkeypatch):
    monkeypatch.setattr(fetching, "PATIENCE", 0.1)
    address = f"{site.address}/a/model.pt"
    folder = fetch(address).parent
    (lock,) = lock_folder(folder)
    threading.Timer(0.5, os.close, [lock]).start()
    with pytest.warns(UserWarning, match="waiting for another process"):
        assert fetch(address).read_bytes() == BODY


def test_commands_take_addresses(site, tmp_path, capsys):
    tiny_generator(discriminator=False).save(tmp_path / "g.safetensors")
    site.files["/g.safetensors"] = (tmp_path / "g.safetensors").read_bytes()
    address = f"{site.address}/g.safetensors"
    assert main(["generate", "--generator", address, "--seeds", "0", "--out", str(tmp_path / "s")]) == 0
    assert f"g.safetensors: {downloads()}" in capsys.readouterr().err
    assert (tmp_path / "s" / "seed0000.png").is_file()
    assert main(["convert", f"{site.address}/page", str(tmp_path / "dst")]) == 2
    assert "answers with a web page" in capsys.readouterr().err
    assert main(["generate", "--generator", "http://example.com/g.pkl", "--out", str(tmp_path / "t")]) == 2
    assert "only https://" in capsys.readouterr().err


def test_every_flag_of_weights_takes_addresses(site):
    """By one table, for every command that has such a flag; other arguments stay as they are."""
    seen = set()
    for name in COMMANDS:
        module = import_module(f"lsap_jax.cli.{name.replace('-', '_')}")
        for flag in set(ADDRESSES) & set(module.flags()):
            others = ("here.pt", "gs://bucket/run")
            args = with_files(name, parse(module, [f"--{flag}={site.address}/a/model.pt", *others]))
            assert Path(args.flags[flag].value).read_bytes() == BODY and args.positional == others
            seen.add(flag)
    assert seen == set(ADDRESSES) and len(site.asked) == 1
