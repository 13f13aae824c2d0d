"""A request of a foreign client as the dispatcher got it, and the ways to answer it."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from django.conf import settings
from django.http import HttpResponse

from agents.gateway.formats.base import JSON, Failure
from core.access.principal import Principal
from core.api import early
from core.api.request_id import choose
from core.asgi import Message, Receive, Scope, Send

Headers = Sequence[tuple[str, str]]


class ClientGone(Exception):
    """The connection ended before the request was whole."""


class BodyRefused(Exception):
    """The body is too large, or comes too slowly."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def _too_large(most_bytes: int) -> BodyRefused:
    text = f"The body of a request may have {most_bytes} bytes."
    return BodyRefused(Failure(status=413, message=text, code="body-too-large"))


@dataclass
class Call:
    """One HTTP request. path: below the gateway's prefix, as the foreign server has it.

    principal: who makes it, once that is known.
    """

    scope: Scope
    receive: Receive
    send: Send
    path: str
    principal: Principal | None = None

    @property
    def method(self) -> str:
        return str(self.scope["method"])

    @property
    def prefers(self) -> str:
        return self.headers.get("prefer", "").lower()

    @cached_property
    def headers(self) -> Mapping[str, str]:
        return {str(name, "latin-1"): str(value, "latin-1") for name, value in self.scope["headers"]}

    @cached_property
    def request_id(self) -> str:
        return choose(self.headers.get("x-request-id", ""))

    async def body(self) -> bytes:
        """Read the whole body. Raises BodyRefused, ClientGone."""
        try:
            async with asyncio.timeout(settings.BODY_SECONDS):
                return b"".join([part async for part in self.parts(settings.GATEWAY_BODY_BYTES)])
        except TimeoutError:
            text = f"The body of a request must arrive within {settings.BODY_SECONDS:g} seconds."
            raise BodyRefused(Failure(status=408, message=text, code="body-too-slow")) from None

    async def parts(self, most_bytes: int, *, patience: float | None = None) -> AsyncIterator[bytes]:
        """Read the body as it comes; no part is empty. patience: seconds that each may take.

        Raises BodyRefused, ClientGone.
        """
        size, has_more = int(self.headers.get("content-length", 0)), True
        if size > most_bytes:
            raise _too_large(most_bytes)
        size = 0
        while has_more:
            message = await self._received(patience)
            if message["type"] == "http.disconnect":
                raise ClientGone
            part, has_more = message.get("body", b""), message.get("more_body", False)
            size += len(part)
            if size > most_bytes:
                raise _too_large(most_bytes)
            if part:
                yield part

    async def _received(self, patience: float | None) -> Message:
        if patience is None:
            return await self.receive()
        try:
            async with asyncio.timeout(patience):
                return await self.receive()
        except TimeoutError:
            text = f"Nothing more of the body came within {patience:g} seconds."
            raise BodyRefused(Failure(status=408, message=text, code="body-too-slow")) from None

    async def disconnected(self) -> None:
        """Wait until the client has gone."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def begin(self, status: int, content_type: str, headers: Headers = (), *, length: int | None = None) -> None:
        """Send the status line and the headers."""
        lines = [(b"content-type", content_type.encode()), (b"x-request-id", self.request_id.encode())]
        if length is not None:
            lines.append((b"content-length", str(length).encode()))
        lines += [(name.lower().encode("latin-1"), value.encode()) for name, value in headers]
        lines += self._guarding_headers()
        await self.send({"type": "http.response.start", "status": status, "headers": lines})

    async def write(self, body: bytes, *, has_more: bool = True) -> None:
        await self.send({"type": "http.response.body", "body": body, "more_body": has_more})

    async def answer(self, status: int, body: bytes, headers: Headers = (), *, content_type: str = JSON) -> None:
        await self.begin(status, content_type, headers, length=len(body))
        await self.write(b"" if self.method == "HEAD" else body, has_more=False)

    def _guarding_headers(self) -> list[tuple[bytes, bytes]]:
        if "origin" not in self.headers:
            return early.plain_headers(self.scope.get("scheme", "http"))
        return early.header_lines(early.dress(self.scope, HttpResponse()))  # a page of another origin asks
