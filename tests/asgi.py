"""Calling the web process's dispatcher without a socket: the protocol's messages in, the protocol's messages out."""

import asyncio
from collections.abc import Callable, Iterable

from sutazai.asgi import application

CUT = b"the connection ends here"


class Answer:
    """What the application sent."""

    def __init__(self) -> None:
        self.messages: list[dict] = []

    @property
    def status(self) -> int:
        return self.messages[0]["status"]

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.messages[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages[1:])


def call(
    method: str,
    path: str,
    *parts: bytes,
    headers: Iterable[tuple[str, str]] = (),
    on_body: Callable[[Answer], object] = lambda _: None,
    is_whole: bool = True,
) -> Answer:
    """Send a request whose body comes in parts. `on_body` sees the answer grow; if it says so, the client leaves.

    is_whole: whether the last part ends the body; else the client falls silent.
    """
    answer = Answer()
    waiting = [
        {"type": "http.disconnect"}
        if part is CUT
        else {"type": "http.request", "body": part, "more_body": number < len(parts) or not is_whole}
        for number, part in enumerate(parts, 1)
    ] or [{"type": "http.request", "body": b"", "more_body": False}]
    left = asyncio.Event()

    async def receive() -> dict:
        if waiting:
            return waiting.pop(0)
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict) -> None:
        answer.messages.append(message)
        if message["type"] == "http.response.body" and await asyncio.to_thread(on_body, answer):
            left.set()

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in (("host", "localhost"), *headers)],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }

    async def run() -> None:
        async with asyncio.timeout(30):
            await application(scope, receive, send)

    asyncio.run(run())
    return answer
