"""Pools of a test's own, with room for whatever it does; those of the event loop look like those for threads."""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

from core.net import addresses
from core.net.addresses import Policy
from core.net.async_http import AsyncHttpPool, AsyncHttpResponse
from core.net.calls import Timeouts
from core.net.http import HttpPool
from core.net.places import Counters, Places
from tests.ollama_server import OllamaTestServer

WAIT_SECONDS = 30

PATIENT = Timeouts(connect=20, write=20, pool=20, first_byte=20, gap=20)
QUICK = Timeouts(connect=0.1, write=0.1, pool=0.1, first_byte=0.1, gap=0.1)

# "Within milliseconds", on a machine that may be busy with other things.
PROMPT_SECONDS = 1.0


def some_places(limit: int = 64) -> Places:
    return Places("test", limit=limit, wait_seconds=5)


def thread_pool(policy: Callable[[], Policy] = addresses.nodes, *, limit: int = 64) -> HttpPool:
    return HttpPool(policy, some_places(limit))


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="test-loop", daemon=True)
        self._thread.start()

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Begin something. Cancelling the future cancels the task."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.start(coroutine).result(WAIT_SECONDS)

    def iterate(self, items: AsyncIterator[Any]) -> Iterator[Any]:
        """Give the items of the loop to this thread. Who closes this iterator closes that one."""
        try:
            while (item := self.run(_next(items))) is not _END:
                yield item
        finally:
            if isinstance(items, AsyncGenerator):
                self.run(items.aclose())

    def close(self) -> None:
        self.run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_SECONDS)
        self._loop.close()


_END = object()


async def _next(items: AsyncIterator[Any]) -> Any:
    return await anext(items, _END)


class LoopPool:
    """A pool of the event loop, for tests that know threads only."""

    def __init__(self, policy: Callable[[], Policy] = addresses.nodes, *, places: Places | None = None) -> None:
        self.loop = Loop()
        self.places = places or some_places()
        self.real: AsyncHttpPool = self.loop.run(self._make(policy))

    async def _make(self, policy: Callable[[], Policy]) -> AsyncHttpPool:
        return AsyncHttpPool(policy, self.places)

    def send(self, *args: Any, **kwargs: Any) -> "LoopResponse":
        return LoopResponse(self.loop, self.loop.run(self.real.send(*args, **kwargs)))

    def counters(self) -> Counters:
        return self.places.counters()

    def close(self) -> None:
        self.loop.run(self._close())
        self.loop.close()

    async def _close(self) -> None:
        self.real.close()
        await asyncio.sleep(0)  # the sockets close in the loop's next round


class LoopResponse:
    def __init__(self, loop: Loop, real: AsyncHttpResponse) -> None:
        self.real = real
        self._loop = loop
        self.status = real.status
        self.headers = real.headers

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def chunks(self) -> Iterator[bytes]:
        return self._loop.iterate(self.real.chunks())

    def read(self, limit_bytes: int) -> bytes:
        return self._loop.run(self.real.read(limit_bytes))

    def drain(self, seconds: float) -> None:
        self._loop.run(self.real.drain(seconds))

    def close(self) -> None:
        self._loop.run(self._close())

    async def _close(self) -> None:
        self.real.close()


Pool = HttpPool | LoopPool


def chat_body(model: str) -> bytes:
    return b'{"model":"%s","messages":[{"role":"user","content":"hello"}]}' % model.encode()


def read_chat(pool: Pool, server: OllamaTestServer, model: str, **options: Any) -> bytes:
    url = f"{server.url}/api/chat"
    with pool.send("POST", url, body=chat_body(model), timeouts=PATIENT, **options) as response:
        return response.read(1_000_000)


def get_version(pool: Pool, server: OllamaTestServer) -> bytes:
    with pool.send("GET", f"{server.url}/api/version", timeouts=PATIENT) as response:
        return response.read(1_000)
