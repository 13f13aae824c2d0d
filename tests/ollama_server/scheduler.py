"""Loading, slots and unloading, with the rules of Ollama's scheduler.

Loads are serial and queue up to `max_queue`; requests for a loaded model wait without limit for one of its slots;
an idle model is unloaded when its keep-alive runs out or its place is needed.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from tests.ollama_server.models import Model, timestamp

FOREVER_SECONDS = 200 * 365 * 86_400.0


class QueueFullError(Exception):
    """Too many requests wait for a load."""


@dataclass
class Runner:
    """A model in memory."""

    model: Model
    load_options: tuple[object, ...]
    slots: asyncio.Semaphore
    keep_alive_seconds: float
    context_length: int
    users: int = 0  # those who hold a slot or wait for one
    last_used: float = field(default_factory=time.monotonic)
    expires_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    expiry: asyncio.TimerHandle | None = None
    is_idle: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Turn:
    """A granted slot, and how long it took to get it."""

    runner: Runner
    load_seconds: float


class Scheduler:
    """Grants slots."""

    def __init__(self, *, parallel: int, max_queue: int, max_loaded: int, load_seconds: float, keep_alive: float):
        self.parallel = parallel
        self.max_queue = max_queue
        self.max_loaded = max_loaded
        self.load_seconds = load_seconds
        self.keep_alive = keep_alive
        self.runners: dict[str, Runner] = {}
        self.loads = 0
        self.loads_aborted = 0
        self._loading = asyncio.Lock()
        self._waiting_for_load = 0

    @asynccontextmanager
    async def turn(
        self,
        model: Model,
        *,
        load_options: tuple[object, ...],
        context_length: int,
        keep_alive: float | None,
    ) -> AsyncIterator[Turn]:
        """Hold a slot of the model, loaded if need be."""
        started = time.monotonic()
        runner = await self._runner(model, load_options, context_length)
        load_seconds = time.monotonic() - started
        runner.users += 1
        runner.is_idle.clear()
        if runner.expiry is not None:
            runner.expiry.cancel()
        if keep_alive is not None:
            runner.keep_alive_seconds = keep_alive
        self._set_expiry_time(runner)
        try:
            async with runner.slots:
                yield Turn(runner, load_seconds)
        finally:
            runner.users -= 1
            runner.last_used = time.monotonic()
            if runner.users == 0:
                runner.is_idle.set()
                self._expire_later(runner)

    def unload(self, name: str) -> None:
        """Forget a model at once; whoever uses it finishes."""
        runner = self.runners.pop(name, None)
        if runner is not None and runner.expiry is not None:
            runner.expiry.cancel()

    async def _runner(self, model: Model, load_options: tuple[object, ...], context_length: int) -> Runner:
        if runner := self._loaded(model, load_options):
            return runner
        if self._loading.locked() and self._waiting_for_load >= self.max_queue:
            raise QueueFullError
        self._waiting_for_load += 1
        try:
            await self._loading.acquire()
        finally:
            self._waiting_for_load -= 1
        try:
            return self._loaded(model, load_options) or await self._load(model, load_options, context_length)
        finally:
            self._loading.release()

    def _loaded(self, model: Model, load_options: tuple[object, ...]) -> Runner | None:
        runner = self.runners.get(model.name)
        return runner if runner is not None and runner.load_options == load_options else None

    async def _load(self, model: Model, load_options: tuple[object, ...], context_length: int) -> Runner:
        if model.name in self.runners:  # loaded with other options
            await self._evict(self.runners[model.name])
        while len(self.runners) >= self.max_loaded:
            await self._evict(min(self.runners.values(), key=lambda runner: (runner.users > 0, runner.last_used)))
        self.loads += 1
        own = model.knobs.l
        try:
            await asyncio.sleep(self.load_seconds if own is None else own / 1000)
        except asyncio.CancelledError:
            self.loads_aborted += 1
            raise
        slots = model.knobs.p or (1 if model.can("embedding") else self.parallel)
        runner = Runner(model, load_options, asyncio.Semaphore(slots), self.keep_alive, context_length)
        self.runners[model.name] = runner
        return runner

    async def _evict(self, runner: Runner) -> None:
        if runner.users:
            await runner.is_idle.wait()
        self.unload(runner.model.name)

    def _set_expiry_time(self, runner: Runner) -> None:
        seconds = runner.keep_alive_seconds
        runner.expires_at = datetime.now(UTC) + timedelta(seconds=FOREVER_SECONDS if seconds < 0 else seconds)

    def _expire_later(self, runner: Runner) -> None:
        self._set_expiry_time(runner)
        if self.runners.get(runner.model.name) is not runner or runner.keep_alive_seconds < 0:
            return
        if runner.keep_alive_seconds == 0:
            self.unload(runner.model.name)
            return
        loop = asyncio.get_running_loop()
        runner.expiry = loop.call_later(runner.keep_alive_seconds, self.unload, runner.model.name)

    def rows(self) -> list[dict[str, object]]:
        """What /api/ps says."""
        return [
            runner.model.row(runner.model.name)
            | {
                "size_vram": 0,
                "expires_at": timestamp(runner.expires_at),
                "context_length": runner.context_length,
            }
            for runner in self.runners.values()
        ]
