"""A production server as strangers meet it: real processes, real sockets, every line that they log."""

import json
import re
import secrets
import socket
from collections.abc import Iterator

import pytest
import requests

from tests.program import ROOT, Program
from tests.security.production import HOST, PASSWORD, TIMEOUT, ask, production_program

APP = "https://app.example"
CANARY = secrets.token_hex(8)
BODY_SECONDS = 1.0


@pytest.fixture(scope="module")
def production(tmp_path_factory) -> Iterator[Program]:
    folder = tmp_path_factory.mktemp("production")
    with production_program(folder, SUTAZAI_CORS_ORIGINS=APP, SUTAZAI_BODY_SECONDS=str(BODY_SECONDS)) as running:
        yield running


@pytest.fixture(scope="module")
def keys() -> dict[str, str]:
    return {}


@pytest.fixture
def key(production, keys) -> str:
    if "operator" not in keys:
        keys["operator"] = production.manage("create_api_key", "--user", "operator")
    return keys["operator"]


def exchange(program: Program, *parts: bytes) -> bytes:
    """Send bytes and read until the server ends the connection, or says no more."""
    with socket.create_connection(("127.0.0.1", program.port), timeout=TIMEOUT) as connection:
        answer = b""
        try:
            for part in parts:
                connection.sendall(part)
            connection.settimeout(5)
            while piece := connection.recv(65_536):
                answer += piece
        except (TimeoutError, ConnectionError):
            pass
        return answer


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3})", answer)]


# Headers ------------------------------------------------------------------------------------------------------------

EVERYWHERE = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "strict-transport-security": "max-age=31536000; includeSubDomains; preload",
}
NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
PAGE = {
    "default-src": "'self'",
    "script-src": "'self'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data:",
    "font-src": "'self'",
    "connect-src": "'self'",
    "object-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}


def guarding(response: requests.Response) -> dict[str, str]:
    """The headers that guard, in small letters."""
    names = {*EVERYWHERE, "content-security-policy"}
    return {name.lower(): value for name, value in response.headers.items() if name.lower() in names}


def test_a_page_is_guarded(production):
    response = ask(production, "GET", "/login")
    found = guarding(response)
    policy = found.pop("content-security-policy")
    assert response.status_code == 200
    assert found == EVERYWHERE
    assert dict(part.split(" ", 1) for part in policy.split("; ")) == PAGE
    cookie = response.headers["set-cookie"]
    assert re.search(r"sutazai_csrf=.*; SameSite=Lax; Secure", cookie)
    assert "geolocation=()" in response.headers["permissions-policy"]


def test_an_answer_of_the_api_is_guarded(production, key):
    response = ask(production, "GET", "/api/v1/nodes/", headers={"Authorization": f"Bearer {key}"})
    assert response.status_code == 200
    assert guarding(response) == {**EVERYWHERE, "content-security-policy": NOTHING}


def test_a_stream_is_guarded_and_told_to_a_listed_origin(production, key):
    response = ask(
        production,
        "POST",
        "/api/v1/chat/",
        json={"message": "hello", "stream": True},
        headers={"Authorization": f"Bearer {key}", "Origin": APP},
    )
    assert response.headers["content-type"].startswith("text/event-stream")
    assert b"event:" in response.content
    assert guarding(response) == {**EVERYWHERE, "content-security-policy": NOTHING}
    assert response.headers["access-control-allow-origin"] == APP


def test_an_answer_that_was_awaited_is_guarded_and_told_to_a_listed_origin(production, key):
    headers = {"Authorization": f"Bearer {key}", "Origin": APP}
    response = ask(production, "POST", "/api/v1/chat/", json={"message": "hello"}, headers=headers)
    assert response.status_code == 200
    assert guarding(response) == {**EVERYWHERE, "content-security-policy": NOTHING}
    assert response.headers["access-control-allow-origin"] == APP


@pytest.mark.parametrize("path", ["/health", "/health/ready", "/api/health"])
def test_health_is_guarded_and_needs_neither_host_nor_https(production, path):
    response = requests.get(f"{production.url}{path}", timeout=TIMEOUT)
    assert response.status_code == 200
    assert guarding(response) == {"x-content-type-options": "nosniff", "content-security-policy": NOTHING}
    told = ask(production, "GET", path, headers={"Origin": APP})
    assert told.headers.get("access-control-allow-origin") == (APP if path.startswith("/api/") else None)


def test_a_static_file_is_guarded_and_taken_again_only_when_it_has_changed(production):
    path = "/static/console/console.js"
    response = ask(production, "GET", path)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/javascript; charset=utf-8"
    assert response.headers["cache-control"] == "max-age=600"
    assert "set-cookie" not in response.headers
    rest = {name: value for name, value in EVERYWHERE.items() if name != "strict-transport-security"}
    assert guarding(response) == {**rest, "content-security-policy": NOTHING}
    assert response.content == (ROOT / "templates" / path.strip("/")).read_bytes()

    again = ask(production, "GET", path, headers={"If-None-Match": response.headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", response.headers["etag"])
    assert ask(production, "HEAD", path).content == b""


@pytest.mark.parametrize(
    "path", ["/static/../db.sqlite3", "/static/%2e%2e/db.sqlite3", "/static/..%2f..%2fetc/passwd"]
)
def test_no_address_leads_out_of_the_folder_of_static_files(production, path):
    request = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode()
    assert b" 200 " not in exchange(production, request)


def test_plain_http_is_sent_to_https(production):
    response = requests.get(f"{production.url}/admin/", headers={"Host": HOST}, allow_redirects=False, timeout=TIMEOUT)
    assert (response.status_code, response.headers["location"]) == (301, f"https://{HOST}/admin/")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", f"{HOST}.evil.example", f"{HOST}@evil.example"])
def test_a_host_that_is_not_ours_is_refused(production, host):
    response = ask(production, "GET", "/api/v1/nodes/", headers={"Host": host})
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"


# Framing ------------------------------------------------------------------------------------------------------------


def request(*headers: str, body: str = "", method: str = "POST", path: str = "/api/v1/chat/") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}", "X-Forwarded-Proto: https", f"Origin: {APP}", *headers]
    return ("\r\n".join([*lines, "", ""]) + body).encode()


SMUGGLED = "GET /admin/ HTTP/1.1\r\nHost: sutazai.example\r\n\r\n"


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Length: 5", f"Content-Length: {5 + len(SMUGGLED)}"),
        ("Content-Length: +5",),
        ("Content-Length: 5, 6",),
        ("Content-Length : 5",),
        ("Transfer-Encoding: xchunked",),
        ("Transfer-Encoding: chunked, identity",),
        ("Transfer-Encoding : chunked",),
    ],
)
def test_a_body_whose_length_is_not_clear_is_refused(production, headers):
    assert statuses(exchange(production, request(*headers, body=f"0\r\n\r\n{SMUGGLED}"))) == [400]


def test_what_follows_a_body_with_two_lengths_is_never_a_request(production):
    """The server goes by the chunks, as HTTP demands, and closes: nothing can be smuggled behind them."""
    both = "Content-Length: 4", "Transfer-Encoding: chunked"
    for headers in (both, both[::-1]):
        answer = exchange(production, request(*headers, body=f"0\r\n\r\n{SMUGGLED}"))
        assert statuses(answer) == [401]
        assert b"connection: close" in answer.lower()
    allowed = exchange(production, request("Transfer-Encoding: chunked", body=f"0\r\n\r\n{SMUGGLED}"))
    assert statuses(allowed) == [401, 301]


def test_a_sender_who_takes_too_long_is_sent_away(production):
    answer = exchange(production, request("Content-Length: 100"), b"{")
    assert statuses(answer) == [408]
    assert b'"code": "body-too-slow"' in answer
    assert f"access-control-allow-origin: {APP}".encode() in answer.lower()
    assert b"connection: close" in answer.lower()


def test_too_many_headers_are_refused(production):
    assert statuses(exchange(production, request(*(f"X-{number}: y" for number in range(200))))) == [431]


def test_headers_that_are_too_large_are_refused(production):
    answer = exchange(production, request(f"X-Large: {'y' * 100_000}", "Connection: close"))
    assert statuses(answer) == [431]


def test_an_address_that_is_too_long_is_refused(production):
    answer = exchange(production, request("Connection: close", method="GET", path=f"/api/v1/nodes/?q={'y' * 20_000}"))
    assert statuses(answer) == [414]
    assert b'"code": "address-too-long"' in answer


def test_a_body_that_is_too_large_is_refused_and_a_listed_page_may_read_why(production):
    size = 3 * 2**20
    answer = exchange(production, request(f"Content-Length: {size}", "Content-Type: application/json"), b"x" * size)
    assert statuses(answer) == [413]
    assert f"access-control-allow-origin: {APP}".encode() in answer.lower()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('{"message": ' + "[" * 100 + "]" * 100 + "}", 400),
        ('{"message": "a", "message": "b"}', 400),
        ("[" * 100_000, 400),
    ],
)
def test_json_that_others_read_differently_is_refused(production, key, body, status):
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    assert ask(production, "POST", "/api/v1/chat/", data=body, headers=headers).status_code == status


def test_files_and_endless_forms_are_refused(production, key):
    headers = {"Authorization": f"Bearer {key}"}
    files = {"message": ("a.txt", b"hello")}
    assert ask(production, "POST", "/api/v1/chat/", files=files, headers=headers).status_code == 415
    first = ask(production, "GET", "/login")
    token = first.cookies["sutazai_csrf"]
    console = {"Cookie": f"sutazai_csrf={token}", "X-CSRFToken": token, "Referer": f"https://{HOST}/admin/"}
    assert ask(production, "POST", "/login", files=files, headers=console).status_code == 400
    many = "&".join(f"f{number}=1" for number in range(2_000))
    form = {**console, "Content-Type": "application/x-www-form-urlencoded"}
    assert ask(production, "POST", "/login", data=many, headers=form).status_code == 400


def test_five_hundred_slow_senders_keep_nobody_else_waiting(production, key):
    """Each holds a connection and no thread, and is gone when its time is up."""
    slow = []
    try:
        for _ in range(500):
            connection = socket.create_connection(("127.0.0.1", production.port), timeout=TIMEOUT)
            connection.sendall(request("Content-Length: 100") + b"{")
            slow.append(connection)
        for _ in range(5):
            response = ask(production, "GET", "/api/v1/nodes/", headers={"Authorization": f"Bearer {key}"})
            assert response.status_code == 200
            assert response.elapsed.total_seconds() < 2
        assert all(b" 408 " in connection.recv(65_536) for connection in slow)
    finally:
        for connection in slow:
            connection.close()


# What is left in the log --------------------------------------------------------------------------------------------


def test_every_line_of_the_log_is_json_and_holds_no_secret(production, key, wait_until):
    secret = key.split("_", 2)[2]
    jwt = f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.{CANARY}"
    for path in (f"/api/v1/nowhere/{key}", f"/api/v1/nowhere/{jwt}", f"/nowhere?password={CANARY}"):
        ask(production, "GET", path, headers={"Authorization": f"Bearer {jwt}", "Accept": "application/json"})
    ask(production, "POST", "/login", data={"login": "operator", "password": CANARY})
    ask(
        production,
        "GET",
        f"/api/v1/%0d%0aERROR%20forged%1b[31m{CANARY[:4]}",
        headers={"X-Request-Id": "canary-request"},
    )
    wait_until(lambda: production.says("canary-request"))

    lines = production.log.read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert all({"time", "level", "message"} <= record.keys() for record in records)
    text = "\n".join(lines)
    environment = production.environment
    guarded = {name: environment[name] for name in ("SUTAZAI_API_KEY_PEPPER", "SUTAZAI_ENCRYPTION_KEYS")}
    for name, value in {**guarded, "key": secret, "canary": CANARY, "password": PASSWORD}.items():
        assert value not in text, name
    forged = [record for record in records if record.get("request_id") == "canary-request"]
    assert len(forged) == 1
    assert "forged" in forged[0]["message"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SUTAZAI_API_KEY_PEPPER", ""),
        ("SUTAZAI_ENCRYPTION_KEYS", ""),
        ("SUTAZAI_API_KEY_PEPPER", "short"),
        ("SUTAZAI_API_KEY_PEPPER", "a" * 64),
        ("SUTAZAI_API_KEY_PEPPER", "change-me-change-me-change-me-change-me"),
        ("SUTAZAI_OPERATOR_PASSWORD", "admin"),
    ],
)
def test_production_does_not_start_with_a_secret_that_is_none(production, name, value):
    refused = production.try_another(**{name: value})
    assert refused.returncode == 1
    assert name in refused.stderr
