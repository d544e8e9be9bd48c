"""Who may ask. On loopback nobody is asked for a token, so requests must come from the studio's own page: a Host of
another name is a page that was rebound to this machine, and an Origin that is not the Host is a page of another site.
Beyond loopback, every request needs the token that the studio prints: once as `?token=`, from then on as a cookie.
"""

import hmac
import ipaddress
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

COOKIE = "lsap_jax_studio"
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}

Scope = Mapping[str, Any]


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine alone."""
    bare = host.strip("[]").rstrip(".").lower()
    if bare == "localhost":
        return True
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return False


def refusal(scope: Scope, token: str | None) -> tuple[int, str] | None:
    """Why a request is refused, as a status and a sentence; None if it is not.

    Args:
        scope: of ASGI.
        token: None on loopback.
    """
    headers: dict[str, list[str]] = {}
    for name, value in scope.get("headers", ()):
        headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    hosts = headers.get("host", [])
    if len(hosts) != 1 or (host := _host(hosts[0])) is None:
        return 400, "a request needs one Host"
    if token is None and not is_loopback(host):
        return 403, f"the studio answers to localhost, not to {host[:80]!r}"
    if any(origin.partition("://")[2].lower() != hosts[0].lower() for origin in headers.get("origin", [])):
        return 403, "pages of other sites may not ask"
    if token is not None and not any(_same(given, token) for given in (*_cookies(headers), *_asked(scope))):
        return 403, "the token is missing or another one: open the address that the studio has printed"
    return None


def brings_token(scope: Scope, token: str | None) -> bool:
    """Whether the address of a request has the right token, so that a cookie is set."""
    return token is not None and any(_same(given, token) for given in _asked(scope))


def _host(value: str) -> str | None:
    """The name of a Host header, without its port."""
    try:
        parts = urlsplit(f"//{value}")
        _ = parts.port
    except ValueError:
        return None
    return parts.hostname if parts.netloc == value and "@" not in value else None


def _cookies(headers: Mapping[str, list[str]]) -> list[str]:
    found = []
    for line in headers.get("cookie", []):
        try:
            found += [one.value for name, one in SimpleCookie(line).items() if name == COOKIE]
        except CookieError:
            continue
    return found


def _asked(scope: Scope) -> list[str]:
    return parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [])


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(), token.encode())
