"""Waiting on an event loop, in fewer steps than asyncio.Event and asyncio.timeout take."""

import asyncio


class News:
    """Wakes the one task that waits for it, again and again.

    Its alarm stays set from one wait to the next: where it rings too early, it sees that itself and is set anew.
    """

    __slots__ = ("_alarm", "_loop", "_rings_at", "_until", "_waiter")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiter: asyncio.Future[None] | None = None
        self._until: float | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._rings_at = 0.0

    async def wait(self, until: float | None = None) -> None:
        """Wait until `tell` is called, or until a moment that loop.time() tells. Raises TimeoutError."""
        self._waiter = self._loop.create_future()
        self._until = until
        if until is not None and (self._alarm is None or self._rings_at > until):
            self._set_alarm(until)
        try:
            await self._waiter
        finally:
            self._waiter = None

    def tell(self) -> None:
        """Wake whoever waits."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        """Drop the alarm."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _set_alarm(self, rings_at: float) -> None:
        self.close()
        self._rings_at = rings_at
        self._alarm = self._loop.call_at(rings_at, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        if self._until is None or self._waiter is None or self._waiter.done():
            return
        if self._loop.time() < self._until:
            self._set_alarm(self._until)
        else:
            self._waiter.set_exception(TimeoutError())
