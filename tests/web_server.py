"""A server on this machine for tests of what is fetched, and its faults."""

import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Site:
    """What a server answers, by path; a test may change it between two requests.

    Attributes:
        files: path -> content.
        etag: version of the files; None has none.
        ranges: whether parts are served.
        breaks: bytes after which answers end, one for each request; those after them are whole.
        length: what Content-Length says; None is the truth, -1 leaves it out.
        kind: Content-Type.
        status: other answers than files, by path: status and headers.
        asked: (path, Range, If-Range) of every request.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    etag: str | None = '"1"'
    ranges: bool = True
    breaks: list[int] = field(default_factory=list)
    length: int | None = None
    kind: str = "application/octet-stream"
    status: dict[str, tuple[int, dict[str, str]]] = field(default_factory=dict)
    asked: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    address: str = ""


@contextmanager
def served(site: Site, certificate: Path | None = None) -> Iterator[Site]:
    """The site on a free port of 127.0.0.1, of https with a certificate and its key; `address` is where."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, wanted, version = self.path.partition("?")[0], self.headers["Range"], self.headers["If-Range"]
            site.asked.append((path, wanted, version))
            if path in site.status:
                code, headers = site.status[path]
                self.send_response(code)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                return
            body = site.files[path]
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted else 0
            part = site.ranges and start and version == site.etag
            if part and start >= len(body):
                self.send_error(416)
                return
            self.send_response(206 if part else 200)
            rest = body[start:] if part else body
            if part:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            if site.etag:
                self.send_header("ETag", site.etag)
            if site.length != -1:
                self.send_header("Content-Length", str(len(rest) if site.length is None else site.length))
            self.send_header("Content-Type", site.kind)
            self.end_headers()
            with suppress(ConnectionError):  # who asked has gone
                self.wfile.write(rest[: site.breaks.pop(0)] if site.breaks else rest)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        site.address = f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()
