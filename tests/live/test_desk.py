"""Who is served when: turns of long operations, sliders in between, and tabs that are closed."""

import http.client
import json
import threading
import time

import pytest
from served import Client

from lsap_jax.live import operations
from lsap_jax.live.desk import OF_CLIENT, Busy, Desk, Stopped, Turns
from lsap_jax.live.operations import Operation
from lsap_jax.live.session import Session
from lsap_jax.storage.file_bytes import png_bytes
from lsap_jax.testing import tiny_images

PNG = png_bytes(tiny_images(1, 16)[0])


def never() -> bool:
    return False


def test_turns_go_round():
    turns, order, ready = Turns(), [], threading.Barrier(3)

    def work(name: str) -> None:
        ready.wait()
        with turns.held():
            for _ in range(4):
                order.append(name)
                time.sleep(0.02)  # the others are in the queue by then
                turns.pass_on()

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(order) == sorted("abc" * 4)
    assert all(len(set(order[i : i + 3])) == 3 for i in range(3, 9, 3)), order


@pytest.fixture
def counting(monkeypatch):
    """An operation "count" that reports until it is stopped, and a quick one, "now"; and how far the first has come."""
    seen = {"steps": 0, "ended": threading.Event()}

    def count(studio, session, asked, say):
        try:
            for step in range(asked["steps"]):
                seen["steps"] = step
                time.sleep(0.005)
                say({"step": step})
            return {"steps": asked["steps"]}
        finally:
            seen["ended"].set()

    table = {"count": Operation(do=count, long=True), "now": Operation(do=lambda *_: {"now": True})}
    monkeypatch.setattr("lsap_jax.live.desk.OPERATIONS", {**operations.OPERATIONS, **table})
    monkeypatch.setattr("lsap_jax.live.app.OPERATIONS", {**operations.OPERATIONS, **table})
    return seen


def test_quick_operations_pass_long_ones_and_long_ones_share(studio, counting):
    desk, said = Desk(studio), {"a": 0, "b": 0}

    def told(name: str):
        def say(progress: dict) -> None:
            said[name] = progress["step"]

        return say

    a, b = Session(client="a"), Session(client="b")
    first = desk.ask(a, "count", {"steps": 200}, told("a"), never)
    second = desk.ask(b, "count", {"steps": 20}, told("b"), never)
    with pytest.raises(Busy, match="under way"):
        desk.ask(a, "count", {"steps": 1}, told("a"), never)
    assert desk.ask(a, "now", {}, print, never).result(5) == {"now": True} and not first.done()
    assert second.result(20) == {"steps": 20} and not first.done() and abs(said["a"] - 20) < 15
    desk.close()
    with pytest.raises(Stopped):
        first.result(5)


def test_a_client_has_few_things_under_way(studio, counting):
    desk, gate = Desk(studio), threading.Event()
    blocker = desk.ask(Session(client="other"), "now", {}, print, never)
    blocker.result(5)
    desk._quick.submit(gate.wait, 5)
    session = Session(client="a")
    waiting = [desk.ask(session, "now", {}, print, never) for _ in range(OF_CLIENT[False])]
    with pytest.raises(Busy):
        desk.ask(session, "now", {}, print, never)
    desk.ask(Session(client="b"), "now", {}, print, never)
    gate.set()
    assert [one.result(5) for one in waiting] and desk.ask(session, "now", {}, print, never).result(5)
    desk.close()


def test_a_closed_tab_stops_its_work(client, counting):
    body = json.dumps({"steps": 100_000}).encode()
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=30)
    connection.request("POST", "/api/count", body, {**client.headers, "content-type": "application/json"})
    answer = connection.getresponse()
    assert json.loads(answer.readline())["progress"]["step"] == 0
    assert "under way" in client.refused("count", steps=1)
    answer.close()
    connection.close()
    assert counting["ended"].wait(10) and counting["steps"] < 5000
    assert client.ask("count", steps=2) == {"steps": 2}


@pytest.mark.slow  # the tests above hold its parts
def test_two_clients_invert_at_once_while_a_third_moves_a_slider(port):
    clients = [Client(port) for _ in range(3)]
    [one.begin() for one in clients]
    take = clients[2].ask("take", photo=clients[2].photo(PNG)["key"], way="encode")["take"]
    done: dict[int, list] = {}

    def invert(index: int) -> None:
        own = clients[index]
        done[index] = own.lines("take", photo=own.photo(PNG)["key"], way="w+", steps=150)

    threads = [threading.Thread(target=invert, args=(index,)) for index in (0, 1)]
    [thread.start() for thread in threads]
    moved = 0
    while len(done) < 2 and all(thread.is_alive() for thread in threads):
        asked = {"takes": [{"take": take["key"]}], "sliders": [{"name": "smile", "strength": 0.1 * moved}]}
        assert clients[2].ask("picture", **asked)["pictures"]
        moved += 1
    [thread.join() for thread in threads]
    assert moved > 1
    first, second = (lines[-1]["done"]["take"] for lines in (done[0], done[1]))
    assert first["picture"] == second["picture"] and first["metrics"] == second["metrics"]


def test_what_is_not_written_for_users_goes_to_the_terminal(client, monkeypatch, capfd):
    def broken(*_):
        raise RuntimeError("at /secret/path/of/the/machine")

    table = {**operations.OPERATIONS, "now": Operation(do=broken)}
    monkeypatch.setattr("lsap_jax.live.desk.OPERATIONS", table)
    monkeypatch.setattr("lsap_jax.live.app.OPERATIONS", table)
    text = client.refused("now")
    assert "secret" not in text and "terminal" in text
    assert "/secret/path" in capfd.readouterr().err
