"""Where a studio listens, and what it tells."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from served import Client

from lsap_jax import cli
from lsap_jax.errors import LsapError
from lsap_jax.live.server import bound, serve
from lsap_jax.storage.file_bytes import png_bytes
from lsap_jax.testing import tiny_generator, tiny_images

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def served_apps(monkeypatch):
    """The applications that would be served; nothing is."""
    uvicorn = pytest.importorskip("uvicorn", reason="the extra `studio` is not installed")
    apps = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: apps.append(self.config.app))
    return apps


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_on_loopback_there_is_no_token(studio, served_apps, host):
    told: list[str] = []
    serve(studio, host, 0, told.append)
    assert re.fullmatch(rf"http://{host}:\d+/", told[0])
    assert served_apps[0].token is None


def test_beyond_it_a_new_token_is_told_each_time(studio, served_apps):
    told: list[str] = []
    for _ in range(2):
        serve(studio, "0.0.0.0", 0, told.append)
    tokens = [re.fullmatch(r"http://[^/]+:\d+/\?token=([\w-]{32,})", line)[1] for line in told]
    assert tokens == [app.token for app in served_apps] and tokens[0] != tokens[1]


def test_what_cannot_be_listened_at_is_refused(studio):
    with bound("127.0.0.1", 0) as own, pytest.raises(LsapError, match="--port=0"):
        serve(studio, "127.0.0.1", own.getsockname()[1])
    with pytest.raises(LsapError, match="--host="):
        bound("no.such.host.invalid", 0)


def test_without_the_extra_the_command_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr("lsap_jax.live.server.find_spec", lambda name: None)
    assert cli.main(["studio"]) == cli.UNUSABLE
    assert "pip install '.[studio]'" in capsys.readouterr().err


def test_the_command_opens_what_it_is_given(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("lsap_jax.live.server.serve", lambda studio, host, port, tell: tell(f"http://{host}:{port}/"))
    assert cli.main(["studio", str(tmp_path / "none")]) == cli.UNUSABLE
    assert "run.json" in capsys.readouterr().err
    assert cli.main(["studio", "a", "b"]) == cli.UNUSABLE
    tiny_generator().save(tmp_path / "tiny.safetensors")
    assert cli.main(["studio", "--generator", str(tmp_path / "tiny.safetensors"), "--port", "1234"]) == cli.OK
    assert "http://127.0.0.1:1234/" in capsys.readouterr().out


def test_a_session_outlives_its_connection(port):
    client = Client(port)
    first = client.begin()["client"]
    assert client.begin()["client"] == first
    client.headers["studio-client"] = "another"
    assert client.begin()["client"] not in (first, "another")


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT")
def test_ctrl_c_ends_an_inversion_and_the_command(tmp_path):
    tiny_generator().save(tmp_path / "tiny.safetensors")
    command = [sys.executable, "-m", "lsap_jax", "studio", "--generator", "tiny.safetensors", "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        client = Client(int(re.search(r":(\d+)/", process.stdout.readline())[1]))
        client.begin()
        photo = client.photo(png_bytes(tiny_images(1, 16)[0]))["key"]
        body = json.dumps({"photo": photo, "way": "w+", "steps": 10_000}).encode()
        connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=300)
        connection.request("POST", "/api/take", body, {**client.headers, "content-type": "application/json"})
        answer = connection.getresponse()
        while b"loss" not in answer.readline():
            continue
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == cli.OK
        answer.close()
        connection.close()
        assert "Traceback" not in process.stderr.read()
