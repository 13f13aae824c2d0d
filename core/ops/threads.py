"""Threads that go on for as long as their process, whatever fails; and the threads that help event loops."""

import asyncio
import contextvars
import functools
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from django.db import DatabaseError, InterfaceError, close_old_connections, connection

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0  # after an error


def start_endless(name: str, work: Callable[[], None]) -> threading.Thread:
    """Start a thread that calls `work` for ever. It does one round each time, and its waiting too."""
    thread = threading.Thread(target=_run, args=(name, work), name=name, daemon=True)
    thread.start()
    return thread


def _run(name: str, work: Callable[[], None]) -> None:
    while True:
        try:
            work()
        except (DatabaseError, InterfaceError, OSError) as error:
            logger.warning("%s skips a round: %s", name, error)
            _pause()
        except Exception:
            logger.exception("%s skips a round.", name)
            _pause()


def _pause() -> None:
    connection.close()  # it may be what is broken
    time.sleep(PAUSE_SECONDS)


Result = TypeVar("Result")
Parameters = ParamSpec("Parameters")


async def outcome(pending: "Future[Result]") -> Result:
    """Wait on an event loop for what a thread makes, in half the steps of asyncio.wrap_future.

    Who is cancelled meanwhile only stops waiting.
    """
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    pending.add_done_callback(lambda _: _call_soon(loop, done))
    await done
    return pending.result()


def _call_soon(loop: asyncio.AbstractEventLoop, done: "asyncio.Future[None]") -> None:
    if not loop.is_closed():  # nobody waits any more
        loop.call_soon_threadsafe(_finish, done)


def _finish(done: "asyncio.Future[None]") -> None:
    if not done.done():
        done.set_result(None)


class Helpers:
    """A few threads that do for event loops what these must not do themselves."""

    def __init__(self, name: str, count: int) -> None:
        self._threads = ThreadPoolExecutor(max_workers=count, thread_name_prefix=name)

    async def __call__(
        self, work: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result:
        """Call a function that may ask the database."""
        call = functools.partial(
            contextvars.copy_context().run, _with_connection, functools.partial(work, *args, **kwargs)
        )
        pending = self._threads.submit(call)
        try:
            return await outcome(pending)
        except asyncio.CancelledError:
            pending.cancel()
            raise


# For short work: looking at rows, checking credentials.
in_thread = Helpers("loop-helper", 8)


def _with_connection(work: Callable[[], Result]) -> Result:
    close_old_connections()
    try:
        return work()
    finally:
        close_old_connections()
