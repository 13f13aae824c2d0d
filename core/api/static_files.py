"""The program's own files, scripts and styles and pictures, answered by the dispatcher ahead of Django.

The server could give them without us, for 0.05 to 0.1 ms of a core less each, but sends no header of ours: nothing
that keeps browsers from guessing types, and nothing by which they could ask whether a file has changed. So they would
take all of it again, a megabyte for a page of the console, whenever their copies are ten minutes old.
"""

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.api import early

MAX_AGE_SECONDS = 600  # afterwards a browser asks, and hears in a few bytes that nothing has changed
# What browsers ask for where a page names no icon, such as the pages of the API; and what they get.
ICON_ADDRESS, ICON = "/favicon.ico", "console/logo.svg"
PATHSEND = "http.response.pathsend"  # the server reads the file itself
# Python's own table depends on the machine, and a script of another type is not run.
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".md": "text/plain; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".ttf": "font/ttf",
    ".txt": "text/plain; charset=utf-8",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
}

Send = Callable[[Any], Awaitable[None]]


@dataclass(frozen=True)
class StaticFile:
    path: Path
    content_type: bytes
    tag: bytes


def collected(root: Path, url: str) -> dict[str, StaticFile]:
    """Read which files there are, by their addresses; no other address ever leads to a file."""
    paths = [Path(folder) / name for folder, _, names in os.walk(root) for name in names]
    found = {f"{url}{path.relative_to(root).as_posix()}": _read(path) for path in paths}
    if icon := found.get(f"{url}{ICON}"):
        found[ICON_ADDRESS] = icon
    return found


def _read(path: Path) -> StaticFile:
    content_type = TYPES.get(path.suffix, "application/octet-stream")
    digest = hashlib.blake2b(path.read_bytes(), digest_size=12).hexdigest()
    return StaticFile(path, content_type.encode(), f'"{digest}"'.encode())


async def answer(scope: Mapping[str, Any], send: Send, file: StaticFile) -> None:
    """Give a file, or tell that it has not changed. scope: ASGI's, of a GET or a HEAD."""
    has_changed = not _is_known(file, dict(scope["headers"]).get(b"if-none-match", b""))
    headers = [
        *early.plain_headers(scope["scheme"]),
        (b"content-type", file.content_type),
        (b"cache-control", f"max-age={MAX_AGE_SECONDS}".encode()),
        (b"etag", file.tag),
    ]
    await send({"type": "http.response.start", "status": 200 if has_changed else 304, "headers": headers})
    if not has_changed or scope["method"] == "HEAD":
        await send({"type": "http.response.body", "body": b""})
    elif PATHSEND in scope.get("extensions", {}):
        await send({"type": PATHSEND, "path": str(file.path)})
    else:
        await send({"type": "http.response.body", "body": await asyncio.to_thread(file.path.read_bytes)})


def _is_known(file: StaticFile, tags: bytes) -> bool:
    return any(tag.strip().removeprefix(b"W/") in {file.tag, b"*"} for tag in tags.split(b","))
