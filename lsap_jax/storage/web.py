"""Answers to https:// addresses, and what is refused: other schemes, redirections out of https, pages without files.

http:// is for this machine alone, where tests have their server.
"""

import http.client
import ipaddress
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib import request
from urllib.error import HTTPError
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from lsap_jax.errors import LsapError

WEB = re.compile("https?://", re.IGNORECASE)
MOST_REDIRECTS = 5
SILENCE = 60.0  # seconds without a byte
REDIRECTS = (301, 302, 303, 307, 308)
SHORTER = 416  # the file is shorter than the part of it that is there already
BY_HAND = "open the address in a browser, save the file, and give its path"
# What stands at the start of an answer that is not the file -> what it is.
ANSWERS = {
    b"<!doctype html": "a web page",
    b"<html": "a web page",
    b"version https://git-lfs": "a pointer of Git LFS",
}


class Broken(Exception):
    """A transfer that ended too early, and can go on."""


class Changed(Broken):
    """The file is not the one that was begun."""


@dataclass(frozen=True)
class Address:
    """An address that may be fetched.

    Attributes:
        url: what is asked for.
        shown: the same without its query, which may have a secret.
        sha256: of `#sha256=...` behind the address, which the file has to have; "" is any.
        name: of the file, safe as a name on this machine.
    """

    url: str
    shown: str
    sha256: str
    name: str


def is_address(text: str) -> bool:
    """Whether a text is an address, of any scheme, and not a path or a name."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def parsed(text: str) -> Address:
    """An address from its text.

    Raises:
        LsapError: nothing is fetched from such an address.
    """
    url, _, fragment = text.partition("#")
    shown = one_line(re.sub(r"//[^/]*@", "//", url.partition("?")[0]))
    other = LsapError(f"{shown}: only https:// addresses are fetched; give one, or the path of a file")
    if not WEB.match(url):
        raise other
    parts = _split(url, shown)
    if parts.username is not None or parts.password is not None:
        raise LsapError(f"{shown}: has a name or a password in it; {BY_HAND}")
    if parts.scheme != "https" and not _is_own(parts):
        raise other
    digest = fragment.removeprefix("sha256=").lower() if fragment.startswith("sha256=") else ""
    if fragment.startswith("sha256=") and not re.fullmatch("[0-9a-f]{64}", digest):
        raise LsapError(f"{shown}#{one_line(fragment)[:80]}: a SHA-256 has 64 hexadecimal digits")
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", unquote(parts.path).rpartition("/")[2]).lstrip(".")[-100:]
    return Address(url, shown, digest, name or "file")


@contextmanager
def answer(address: Address, headers: Mapping[str, str]) -> Iterator[Any]:
    """The server's answer, of status 200 to 299, at the end of its redirections.

    Raises:
        LsapError: it refuses the file, or leads elsewhere than to https.
        Broken: there is no answer, or one that may be another one later.
        Changed: the range that `headers` ask for is not there.
    """
    url = address.url
    for _ in range(MOST_REDIRECTS + 1):
        try:
            response = _opener(url).open(request.Request(url, headers=dict(headers)), timeout=SILENCE)
        except HTTPError as error:
            with error:
                if error.code not in REDIRECTS or not (target := error.headers.get("Location")):
                    raise _refused(address, error) from None
            url = _redirected(address, url, target)
            continue
        except (OSError, ValueError, http.client.HTTPException) as error:  # ValueError: a name that no host can have
            raise Broken(reason(error)) from None
        with response:
            yield response
        return
    raise LsapError(f"{address.shown}: leads through more than {MOST_REDIRECTS} other addresses; {BY_HAND}")


def read_some(response: Any, most: int) -> bytes:
    """The next bytes of an answer, b"" at its end; raises Broken where the connection breaks."""
    try:
        data: bytes = response.read1(most)
    except (OSError, http.client.HTTPException) as error:
        raise Broken(reason(error)) from None
    return data


def check_is_file(address: Address, response: Any, data: bytes) -> None:
    """Raises LsapError if an answer, which begins with these bytes, is not the file but something about it."""
    start = data.lstrip(b"\xef\xbb\xbf \t\r\n")[:64].lower()
    what = next((what for mark, what in ANSWERS.items() if start.startswith(mark)), None)
    if what is None and response.headers.get_content_type() == "text/html":
        what = "a web page"
    if what is not None:
        title = re.search(rb"<title[^>]*>([^<]{1,200})", data, re.I)
        said = f" ({one_line(title[1].decode('utf-8', 'replace'))})" if title else ""
        raise LsapError(
            f"{address.shown}: answers with {what}{said}, not with the file: it asks for a login or a confirmation, or "
            f"its quota of downloads is used up; {BY_HAND}"
        )


def reason(error: BaseException) -> str:
    """Why a connection failed, in one line."""
    cause = getattr(error, "reason", None) or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {one_line(cause.verify_message)}"
    return one_line(cause) or type(error).__name__


def one_line(text: object) -> str:
    """What a server or a user wrote, in one short line."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(str(text).split()))[:200]


def _split(url: str, shown: str) -> SplitResult:
    """The parts of an address."""
    try:
        parts = urlsplit(url)
        if re.search(r"[\x00-\x20\x7f-\U0010ffff]", url) or not parts.hostname or parts.port == 0:
            raise ValueError
    except ValueError:
        raise LsapError(f"{shown}: is not a whole address; copy it again, with spaces and accents as %XX") from None
    return parts


def _is_own(parts: SplitResult) -> bool:
    """Whether an address is one of http on this machine."""
    host = parts.hostname or ""
    with suppress(ValueError):
        return parts.scheme == "http" and ipaddress.ip_address(host).is_loopback
    return parts.scheme == "http" and host == "localhost"


def _opener(url: str) -> request.OpenerDirector:
    """What opens http and https alone, and follows no redirection by itself."""
    opener = request.OpenerDirector()
    proxies = request.ProxyHandler({} if _is_own(urlsplit(url)) else None)
    for handler in (proxies, request.HTTPHandler(), request.HTTPSHandler(), request.HTTPErrorProcessor()):
        opener.add_handler(handler)
    opener.add_handler(request.HTTPDefaultErrorHandler())
    return opener


def _redirected(address: Address, url: str, target: str) -> str:
    """The address that an answer leads to: another one of https, or of this machine where the first one was."""
    try:
        found = urljoin(url, target).partition("#")[0]
    except ValueError:
        found = target
    shown = one_line(found.partition("?")[0])
    if WEB.match(found):
        parts = _split(found, shown)
        if parts.scheme == "https" or _is_own(parts) and _is_own(urlsplit(address.url)):
            return found
    raise LsapError(f"{address.shown}: leads to {shown}, and only https:// is followed; {BY_HAND}")


def _refused(address: Address, error: HTTPError) -> Exception:
    """A status that is not an answer, in words."""
    told = f"the server answers {error.code} {one_line(error.reason)}"
    if error.code == SHORTER:
        return Changed(told)
    if error.code >= 500:
        return Broken(told)
    if error.code in (404, 410):
        return LsapError(f"{address.shown}: there is no such file ({error.code}); check the address")
    if error.code in (401, 403):
        why = "it asks for a login, or its quota is used up"
        return LsapError(f"{address.shown}: is not given to everybody ({error.code}): {why}; {BY_HAND}")
    return LsapError(f"{address.shown}: {told}; try again later, or {BY_HAND}")
