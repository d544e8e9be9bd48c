"""Who may ask a studio: Host, Origin and token, what is not a file of the page, and what does not fit."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from served import Client, serving

from lsap_jax.live import guard
from lsap_jax.live.messages import without_paths

JSON = {"content_type": "application/json"}


def scope(token: str = "", **headers: str) -> dict:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "headers": pairs, "query_string": f"token={token}".encode() if token else b""}


@pytest.mark.parametrize("host", ["localhost:8008", "127.0.0.1:1", "[::1]:8008", "LOCALHOST", "127.9.9.9"])
def test_loopback_hosts_are_served(host):
    assert guard.refusal(scope(host=host), None) is None
    assert guard.refusal(scope(host=host, origin=f"http://{host}"), None) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "localhost.evil.example:8008"},
        {"host": "127.0.0.1.nip.io"},
        {"host": "192.168.0.7:8008"},
        {"host": "evil.example@localhost"},
        {"host": "localhost:8008", "origin": "http://evil.example"},
        {"host": "localhost:8008", "origin": "http://localhost:3000"},
        {"host": "localhost:8008", "origin": "null"},
        {"host": ""},
        {},
    ],
)
def test_other_hosts_and_origins_are_not(headers):
    found = guard.refusal(scope(**headers), None)
    assert found is not None and found[0] in (400, 403)


def test_beyond_loopback_the_token_decides():
    def asked(**given):
        return guard.refusal(scope(host="box.example:8008", **given), "right")

    assert asked() is not None and asked()[0] == 403 and asked(token="wrong") is not None
    assert asked(token="right") is None and asked(cookie=f"a=b; {guard.COOKIE}=right") is None
    assert asked(cookie=f"{guard.COOKIE}=wrong") is not None
    assert asked(token="right", origin="http://evil.example") is not None


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_no_header_makes_an_error_or_opens_what_a_token_closes(host, origin, cookie):
    headers = [(n, v.encode("utf-8")) for n, v in ((b"host", host), (b"origin", origin), (b"cookie", cookie))]
    asked = {"type": "http", "headers": headers, "query_string": cookie.encode("utf-8")}
    assert guard.refusal(asked, "a token that nobody guesses") is not None


def test_a_page_is_served_with_a_policy_and_a_foreign_one_is_refused(port):
    client = Client(port)
    for path, kind in (("/", "text/html"), ("/studio.js", "text/javascript"), ("/studio.css", "text/css")):
        status, data, headers = client.request("GET", path)
        assert status == 200 and data and headers["content-type"].startswith(kind)
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff" and "access-control-allow-origin" not in headers
    for headers in ({"host": "evil.example"}, {"origin": "http://evil.example"}):
        for method, path in (("GET", "/"), ("POST", "/api/begin"), ("OPTIONS", "/api/begin")):
            status, _, answered = client.request(method, path, b"{}", **JSON, **headers)
            assert status == 403 and "access-control-allow-origin" not in answered


@pytest.mark.parametrize(
    "path",
    ["/../setup.py", "/..%2fsetup.py", "/%2e%2e/%2e%2e/etc/passwd", "/studio.html", "/api/../studio.py", "//etc/hosts"],
)
def test_no_path_leads_to_a_file(port, path):
    status, data, _ = Client(port).request("GET", path)
    assert status in (404, 405) and b"import" not in data and b"root:" not in data


def test_what_is_no_request_of_the_page_is_refused(port):
    client = Client(port)
    session = {"studio_client": client.begin()["client"]}
    assert client.request("POST", "/api/begin", b"{}", content_type="text/plain")[0] == 415
    assert client.request("POST", "/api/nothing", b"{}", **JSON)[0] == 404
    client.headers.clear()
    assert client.request("POST", "/api/picture", b"{}", **JSON)[0] == 410
    assert client.request("POST", "/api/picture", b"{}", studio_client="../guess", **JSON)[0] == 410
    for body in (b"", b"[]", b"{", b"\xff", b"[" * 5000, b'{"takes": ' * 3000):
        assert client.request("POST", "/api/picture", body, **JSON, **session)[0] == 400
    status, data, _ = client.request("POST", "/api/picture", b" " * 2**17, **JSON, **session)
    assert status == 413 and b"larger" in data


def test_a_token_is_needed_and_becomes_a_cookie(studio):
    with serving(studio, token="t0ken") as port:
        client = Client(port)
        for path in ("/", "/studio.js", "/?token=guess"):
            status, data, _ = client.request("GET", path)
            assert status == 403 and b"token" in data
        assert client.request("POST", "/api/begin", b"{}", **JSON)[0] == 403
        status, _, headers = client.request("GET", "/?token=t0ken", host="box.example")
        cookie = headers["set-cookie"]
        assert (
            status == 303
            and headers["location"] == "/"
            and "HttpOnly" in cookie
            and "samesite=strict" in cookie.lower()
        )
        client.headers["cookie"] = cookie.partition(";")[0]
        assert client.request("GET", "/")[0] == 200 and client.begin()["client"]


@given(st.lists(st.text("abcXYZ019_.-", min_size=1, max_size=8), min_size=1, max_size=5), st.sampled_from("/\\"))
def test_messages_name_files_without_their_folders(parts, slash):
    folders, name = [f"f{part}" for part in parts], "face.png"
    path = slash + slash.join([*folders, name])
    for text in (f"{path}: is damaged", f"cannot read {path}", f"it holds '{path}', not a picture"):
        found = without_paths(text)
        assert name in found and not any(f"{folder}{slash}" in found for folder in folders)


def test_ratios_spaces_and_addresses_stay_in_messages():
    text = "space f/z+ has images/second; z <- z/|z| (1/2)"
    assert without_paths(text) == text
    assert without_paths("/home/my name/x.pt: is damaged") == "x.pt: is damaged"
    assert json.dumps(without_paths("a\nb")) == '"a b"'
