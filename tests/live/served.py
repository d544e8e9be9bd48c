"""A studio at a port of this machine, and a client that asks it."""

import base64
import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from lsap_jax.editing.direction import Direction
from lsap_jax.live.desk import Desk
from lsap_jax.live.studio import Studio


def tiny_directions(dim: int = 16) -> list[Direction]:
    """Directions of w and z for the tiny generator."""
    rng = np.random.default_rng(3)
    names = [("smile", "w"), ("beard", "w"), ("smile", "z"), ("beard", "z"), ("pose", "z")]
    return [Direction(name=n, space=s, vector=rng.standard_normal(dim, np.float32), scale=0.5) for n, s in names]


@dataclass
class Client:
    """Asks a studio as its page does; `headers` go with every request."""

    port: int
    headers: dict[str, str] = field(default_factory=dict)

    def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers of any request; `host` replaces that of the connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        sent = {name.replace("_", "-"): value for name, value in {**self.headers, **headers}.items()}
        connection.putrequest(method, path, skip_host="host" in sent, skip_accept_encoding=True)
        for name, value in {**sent, "content-length": str(len(body))}.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        found = answer.status, answer.read(), {k.lower(): v for k, v in answer.getheaders()}
        connection.close()
        return found

    def lines(self, operation: str, **asked: Any) -> list[dict[str, Any]]:
        """The lines of an operation's answer."""
        body = json.dumps(asked).encode()
        status, data, _ = self.request("POST", f"/api/{operation}", body, content_type="application/json")
        assert status == 200, data
        return [json.loads(line) for line in data.splitlines() if line]

    def ask(self, operation: str, **asked: Any) -> dict[str, Any]:
        """The answer of an operation that must succeed."""
        *_, last = self.lines(operation, **asked)
        assert "done" in last, last
        return last["done"]

    def refused(self, operation: str, **asked: Any) -> str:
        """The error of an operation that must fail."""
        *_, last = self.lines(operation, **asked)
        assert "error" in last, last
        return last["error"]

    def begin(self) -> dict[str, Any]:
        """Opens a session, or the own one again."""
        found = self.ask("begin")
        self.headers["studio-client"] = found["client"]
        return found

    def photo(self, data: bytes, name: str = "a.png", **asked: Any) -> dict[str, Any]:
        """The photograph of a file."""
        return self.ask("photo", name=name, data=base64.b64encode(data).decode(), **asked)["photo"]


@contextmanager
def serving(studio: Studio, token: str | None = None) -> Iterator[int]:
    """The port of a studio that is served by a thread."""
    uvicorn = pytest.importorskip("uvicorn", reason="the extra `studio` is not installed")
    from lsap_jax.live.app import make_app
    from lsap_jax.live.server import bound

    desk = Desk(studio)
    with bound("127.0.0.1", 0) as own:
        server = uvicorn.Server(uvicorn.Config(make_app(desk, token), log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [own]})
        thread.start()
        try:
            yield own.getsockname()[1]
        finally:
            desk.close()
            server.should_exit = True
            thread.join()
