"""The studio of notebooks: the same operations by messages, and its absence."""

import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest

import lsap_jax
from lsap_jax.encoding.attach import with_encoder
from lsap_jax.errors import LsapError
from lsap_jax.live import page
from lsap_jax.live.widget import answering
from lsap_jax.pixels import to_uint8
from lsap_jax.testing import colour_encoder, tiny_generator, tiny_images

ROOT = Path(__file__).resolve().parents[2]


class Kernel:
    """Keeps what is sent, and waits for the answer of a call."""

    def __init__(self):
        self.sent, self.changed = [], threading.Condition()

    def send(self, message: dict) -> None:
        with self.changed:
            self.sent.append(message)
            self.changed.notify_all()

    def answer(self, call: int) -> dict:
        def found():
            return [one for one in self.sent if one["call"] == call and "progress" not in one]

        with self.changed:
            assert self.changed.wait_for(found, 60)
            return found()[0]


@pytest.fixture(scope="module")
def encoded(quick_compilation):
    G = tiny_generator()
    G = with_encoder(G, colour_encoder(G))
    return G, lsap_jax.encode(G, None, tiny_images(3, 16), ids=["a", "b", "c"])


def test_a_widget_answers_as_the_page_does(encoded):
    pytest.importorskip("anywidget", reason="the extra `studio` is not installed")
    G, inv = encoded
    widget = lsap_jax.studio(G, inv, tiny_images(3, 16))
    assert widget._esm == page.script() and "--accent" in widget._css
    kernel = Kernel()
    widget.send = kernel.send
    widget._handle_custom_msg({"call": 1, "name": "begin", "request": {}}, [])  # what the front end sends
    assert [one["id"] for one in kernel.answer(1)["done"]["takes"]] == ["a", "b", "c"]


def test_messages_reach_the_operations(encoded, studio):
    kernel = Kernel()
    answer = answering(studio, kernel.send)
    answer({"call": 1, "name": "begin", "request": {}})
    assert kernel.answer(1)["done"]["generator"]["resolution"] == 16
    answer({"call": 2, "name": "sample", "request": {"seed": 1}})
    take = kernel.answer(2)["done"]["take"]
    answer({"call": 3, "name": "picture", "request": {"takes": [{"take": take["key"]}]}})
    assert kernel.answer(3)["done"]["pictures"][0]["picture"] == take["picture"]
    answer({"call": 4, "name": "picture", "request": {"takes": [{"take": "t9"}]}})
    assert "no longer there" in kernel.answer(4)["error"]
    answer({"call": 5, "name": "nothing"})
    assert "no such operation" in kernel.answer(5)["error"]


def test_an_inversion_is_there_at_once(encoded):
    pytest.importorskip("anywidget", reason="the extra `studio` is not installed")
    from lsap_jax.live.bench import Bench, data_url
    from lsap_jax.live.operations import begin
    from lsap_jax.live.session import Session
    from lsap_jax.live.studio import make_studio
    from lsap_jax.live.widget import _takes

    G, inv = encoded
    bench = Bench(G=G)
    made = make_studio(G, "g", opened=_takes(bench, inv, None), bench=bench)
    takes = begin(made, Session(), {}, print)["takes"]
    assert [one["id"] for one in takes] == ["a", "b", "c"]
    assert takes[1]["picture"] == data_url(to_uint8(inv.images[1]))
    with pytest.raises(LsapError, match="give the uint8 targets"):
        lsap_jax.studio(G, inv, np.zeros((3, 8, 8, 3), np.uint8))


def test_without_the_extra_the_message_says_what_to_install():
    code = (
        "import sys; sys.modules['anywidget'] = None\n"
        "import lsap_jax\nfrom lsap_jax.testing import tiny_generator\n"
        "try: lsap_jax.studio(tiny_generator())\n"
        "except lsap_jax.LsapError as error: print(error)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert "pip install '.[studio]'" in found.stdout, found.stderr


@pytest.mark.slow
def test_a_kernel_answers_the_messages_of_a_front_end(tmp_path, monkeypatch):
    """In a real kernel, whose threads send the answers."""
    manager = pytest.importorskip("jupyter_client.manager", reason="jupyter_client is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    pytest.importorskip("anywidget", reason="the extra `studio` is not installed")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with warnings.catch_warnings(action="ignore"):  # the client's own
        kernel, client = manager.start_new_kernel(cwd=str(tmp_path))

    def wait(found):
        for _ in range(1000):
            message = client.get_iopub_msg(timeout=60)
            assert message["msg_type"] != "error", message["content"]
            if (value := found(message)) is not None:
                return value
        raise AssertionError("the kernel sent other messages alone")

    def opened(message):
        content = message["content"]
        is_widget = message["msg_type"] == "comm_open" and "_esm" in content["data"].get("state", {})
        return content["comm_id"] if is_widget else None

    def done(message):
        content = message["content"].get("data", {}).get("content", {}) if message["msg_type"] == "comm_msg" else {}
        return content.get("done")

    def ask(call: int, name: str, **request):
        data = {"method": "custom", "content": {"call": call, "name": name, "request": request}}
        client.shell_channel.send(client.session.msg("comm_msg", {"comm_id": comm, "data": data}))
        return wait(done)

    try:
        code = "import lsap_jax; from lsap_jax.testing import tiny_generator; w = lsap_jax.studio(tiny_generator())"
        client.execute(code)
        comm = wait(opened)
        assert ask(1, "begin")["generator"]["resolution"] == 16
        take = ask(2, "sample", seed=1)["take"]
        assert ask(3, "picture", takes=[{"take": take["key"]}])["pictures"][0]["picture"] == take["picture"]
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
