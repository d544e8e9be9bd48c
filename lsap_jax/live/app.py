"""The studio over HTTP: three files of the page, and every operation as one POST whose answer is lines of JSON.

A line is {"progress": ...}, any number of them, then {"done": ...} or {"error": "..."}; empty lines keep the connection
alive, and find out when the tab is closed.
"""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lsap_jax.live import guard, page
from lsap_jax.live.desk import Busy, Desk, Stopped
from lsap_jax.live.messages import explained
from lsap_jax.live.operations import OPERATIONS
from lsap_jax.live.session import Session, Sessions

CLIENT = "studio-client"  # the header of a session; pages of other sites cannot set it without being asked for
FILES = {
    "/": (page.html, "text/html"),
    "/studio.js": (page.script, "text/javascript"),
    "/studio.css": (page.style, "text/css"),
}
ALIVE = 1.0  # seconds between two lines
GRACE, STEP = 3.0, 0.1  # seconds that a client who is busy has to wait for a refusal, and between two tries
LARGE, AT_ONCE = 2**20, 4  # bytes of a request that shares the memory with so many others
PATIENCE = 120.0  # seconds in which a request has to arrive


class Guard:
    """Refuses what `guard.refusal` refuses, and gives every answer its headers."""

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(name.encode(), value.encode()) for name, value in guard.HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *extra]}
            await send(message)

        answer: ASGIApp = self.app
        if (refused := guard.refusal(scope, self.token)) is not None:
            answer = _refused(*refused)
        elif self.token is not None and guard.brings_token(scope, self.token) and scope["path"] == "/":
            answer = RedirectResponse("/", 303)
            answer.set_cookie(guard.COOKIE, self.token, httponly=True, samesite="strict")
        await answer(scope, receive, sent)


def make_app(desk: Desk, token: str | None = None) -> ASGIApp:
    """The ASGI application of a studio.

    Args:
        desk: of the studio; answers end when it is closed.
        token: that every request needs; None where the studio is bound to loopback.
    """
    sessions, large = Sessions(), asyncio.Semaphore(AT_ONCE)

    async def operate(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in OPERATIONS:
            return _refused(404, "there is no such operation")
        if not request.headers.get("content-type", "").startswith("application/json"):
            return _refused(415, "requests are JSON")
        session = sessions.find(request.headers.get(CLIENT, ""))
        if session is None and name != "begin":
            return _refused(410, "the session is no longer there; load the page again")
        try:
            async with large if OPERATIONS[name].most > LARGE else nullcontext():
                asked = await asyncio.wait_for(_asked(request, OPERATIONS[name].most), PATIENCE)
        except ValueError as error:
            return _refused(413 if isinstance(error, TooLarge) else 400, str(error))
        except (TimeoutError, ClientDisconnect):
            return _refused(408, "the request did not arrive")
        if session is None:
            session = sessions.new()
        return StreamingResponse(_lines(desk, session, name, asked), media_type="application/x-ndjson")

    routes = [Route(path, _file(*file), methods=["GET"]) for path, file in FILES.items()]
    return Guard(Starlette(routes=[*routes, Route("/api/{name}", operate, methods=["POST"])]), token)


async def _lines(desk: Desk, session: Session, name: str, asked: Any) -> AsyncIterator[bytes]:
    """The lines of an operation's answer; the operation is stopped when nobody reads them."""
    loop, queue, gone = asyncio.get_running_loop(), asyncio.Queue[dict[str, Any]](), threading.Event()

    def put(kind: str, value: Any) -> None:
        loop.call_soon_threadsafe(queue.put_nowait, {kind: value})

    def ended(future: Any) -> None:
        error = None if future.cancelled() else future.exception()
        if gone.is_set() or future.cancelled() or isinstance(error, Stopped):
            return
        put(*(("done", future.result()) if error is None else ("error", explained(error))))

    try:
        for last in [False] * round(GRACE / STEP) + [True]:
            try:
                future = desk.ask(session, name, asked, lambda progress: put("progress", progress), gone.is_set)
                break
            except Busy as error:  # perhaps the one before was stopped, which is noticed within ALIVE
                if last:
                    yield _line({"error": str(error)})
                    return
                await asyncio.sleep(STEP)
        future.add_done_callback(ended)
        while not desk.closed:
            try:
                found = await asyncio.wait_for(queue.get(), ALIVE)
            except TimeoutError:
                yield b"\n"
                continue
            yield _line(found)
            if "progress" not in found:
                return
    finally:
        gone.set()


class TooLarge(ValueError):
    """A request has too many bytes."""


async def _asked(request: Request, most: int) -> dict[str, Any]:
    """The JSON object of a request; what is too large is not read to its end.

    Raises:
        TooLarge, ValueError: more than `most` bytes, or something else.
    """
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > most:
            raise TooLarge(f"the request is larger than {most} bytes; scale the picture down")
    try:
        asked = await asyncio.to_thread(json.loads, bytes(data))
    except (ValueError, RecursionError):
        asked = None
    if not isinstance(asked, dict):
        raise ValueError("the request is not a JSON object")
    return asked


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, allow_nan=False).encode() + b"\n"


def _refused(status: int, why: str) -> Response:
    return JSONResponse({"error": why}, status)


def _file(text: Callable[[], str], kind: str) -> Any:
    data = text().encode()

    async def answer(request: Request) -> Response:
        return Response(data, media_type=kind)

    return answer
