"""Static files as the dispatcher answers them; tests/security/test_production.py meets them over real sockets."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from core.api import static_files
from core.api.static_files import PATHSEND

ADDRESS = "/static/console/page.js"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, static_files.StaticFile]:
    (tmp_path / "console").mkdir()
    (tmp_path / "console" / "page.js").write_text("alert(1)")
    (tmp_path / "page.svg").write_text("<svg/>")
    (tmp_path / "LICENSE").write_text("Free.")
    return static_files.collected(tmp_path, "/static/")


def answer(
    file: static_files.StaticFile, *, method: str = "GET", known: bytes = b"", sends_paths: bool = False
) -> tuple[int, dict[bytes, bytes], Any]:
    """Ask for a file; returns status, headers, and the body or the path that the server is to send."""
    messages: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    scope = {
        "method": method,
        "scheme": "http",
        "headers": [(b"if-none-match", known)] if known else [],
        "extensions": {PATHSEND: {}} if sends_paths else {},
    }
    asyncio.run(static_files.answer(scope, send, file))
    start, end = messages
    return start["status"], dict(start["headers"]), end.get("path") or end["body"]


def test_each_file_has_an_address_and_nothing_else_has(files):
    assert files.keys() == {ADDRESS, "/static/page.svg", "/static/LICENSE"}


def test_pages_that_name_no_icon_have_one_too(tmp_path):
    (tmp_path / "console").mkdir()
    (tmp_path / "console" / "logo.svg").write_text("<svg/>")
    icon = static_files.collected(tmp_path, "/static/")["/favicon.ico"]
    status, headers, body = answer(icon)
    assert (status, headers[b"content-type"], body) == (200, b"image/svg+xml", b"<svg/>")


def test_a_file_comes_with_its_type_and_what_guards_it(files):
    status, headers, body = answer(files[ADDRESS])
    assert (status, body) == (200, b"alert(1)")
    assert headers[b"content-type"] == b"text/javascript; charset=utf-8"
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert headers[b"content-security-policy"].startswith(b"default-src 'none'")
    assert answer(files["/static/page.svg"])[1][b"content-type"] == b"image/svg+xml"
    assert answer(files["/static/LICENSE"])[1][b"content-type"] == b"application/octet-stream"


def test_a_server_that_sends_files_by_itself_is_told_where_it_is(files):
    assert answer(files[ADDRESS], sends_paths=True)[2] == str(files[ADDRESS].path)


@pytest.mark.parametrize("spelling", ["{}", "W/{}", '"old", {}', "*"])
def test_whoever_has_the_file_hears_that_it_has_not_changed(files, spelling):
    tag = files[ADDRESS].tag.decode()
    status, headers, body = answer(files[ADDRESS], known=spelling.format(tag).encode(), sends_paths=True)
    assert (status, headers[b"etag"].decode(), body) == (304, tag, b"")


def test_whoever_has_an_older_one_gets_the_new_one(files, tmp_path):
    old = files[ADDRESS].tag
    (tmp_path / "console" / "page.js").write_text("alert(2)")
    file = static_files.collected(tmp_path, "/static/")[ADDRESS]
    assert answer(file, known=old)[::2] == (200, b"alert(2)")


def test_a_head_has_no_body(files):
    assert answer(files[ADDRESS], method="HEAD", sends_paths=True)[2] == b""
