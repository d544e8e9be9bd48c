"""Serves a studio at an address of this machine."""

import secrets
import socket
from collections.abc import Callable
from importlib.util import find_spec

from lsap_jax.errors import LsapError
from lsap_jax.live.desk import Desk
from lsap_jax.live.guard import is_loopback
from lsap_jax.live.studio import Studio

HOST, PORT = "127.0.0.1", 8008
ANY = ("0.0.0.0", "::")  # all addresses of this machine


def check_installed() -> None:
    """Raises LsapError where the extra `studio` is not installed."""
    if missing := [name for name in ("starlette", "uvicorn") if find_spec(name) is None]:
        raise LsapError(f"the studio needs {' and '.join(missing)}: pip install '.[studio]' in lsap_jax's checkout")


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 is any free one.

    Raises:
        LsapError: the address is not of this machine, or the port is taken.
    """
    try:
        (family, kind, protocol, _, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        own = socket.socket(family, kind, protocol)
    except OSError as error:
        raise LsapError(f"--host={host}: is no address ({error.strerror})") from None
    try:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        own.bind(address)
        own.listen(128)
    except OSError as error:
        own.close()
        raise LsapError(
            f"--host={host} --port={port}: cannot be listened at ({error.strerror}); try --port=0"
        ) from None
    return own


def serve(studio: Studio, host: str = HOST, port: int = PORT, tell: Callable[[str], None] = print) -> None:
    """Serves until it is interrupted.

    Args:
        host: a name or an address of this machine; beyond loopback every request needs a token, which is told.
        port: 0 is any free one.
        tell: told the address.

    Raises:
        LsapError: the extra `studio` is not installed, or the address cannot be listened at.
    """
    check_installed()
    import uvicorn

    from lsap_jax.live.app import make_app

    own, desk = bound(host, port), Desk(studio)

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            desk.close()  # ends the answers that are waited for
            await super().shutdown(sockets)

    token = None if is_loopback(own.getsockname()[0]) else secrets.token_urlsafe(24)
    config = uvicorn.Config(
        make_app(desk, token),
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=256,
        timeout_graceful_shutdown=5,
    )
    name = socket.gethostname() if own.getsockname()[0] in ANY else f"[{host}]" if ":" in host else host
    tell(f"http://{name}:{own.getsockname()[1]}/" + ("" if token is None else f"?token={token}"))
    try:
        Server(config).run(sockets=[own])
    finally:
        desk.close()
        own.close()
