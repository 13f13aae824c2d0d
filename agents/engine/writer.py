"""Group commit: the engine writes of all threads of a process share transactions.

A commit costs a trip to the disk, whether it holds one change or a hundred. Threads hand their changes to one writer
thread, which takes whatever has gathered since its last commit and writes it in one transaction. An operation is a
plain function over a list of changes that returns one result for each; the same function serves a single change.
"""

import heapq
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from django.db import InterfaceError, OperationalError, connection, transaction

from core import database, tracing
from core.ops import clock
from core.postgresql import pool as database_pool

logger = logging.getLogger(__name__)

Change = TypeVar("Change")
Result = TypeVar("Result")
# Writes a list of changes within a transaction; returns a result, or an exception to raise, for each.
Operation = Callable[[Sequence[Change], datetime], Sequence[Result | Exception]]

BATCH_LIMIT = 256
# Seconds between tries while the database is locked or away.
RETRY_DELAYS = (0.02, 0.1, 0.5, *[1.0] * 10)
# A try waits so long for SQLite's lock: those who give up meanwhile learn of it between two tries.
TRY_SECONDS = 0.5


@dataclass(order=True)
class _Entry:
    due: float  # time.monotonic()
    number: int
    operation: Operation[Any, Any] = field(compare=False)
    change: Any = field(compare=False)
    future: "Future[Any]" = field(compare=False)
    give_up_at: float = field(compare=False)  # time.monotonic()
    span: tracing.Span = field(compare=False, default=tracing.NOTHING)  # from the hand-over to the commit


def apply(operation: Operation[Change, Result], changes: Sequence[Change]) -> Sequence[Result | Exception]:
    """Write changes in a transaction of their own, or as part of the one that the caller has open."""
    with transaction.atomic():
        return operation(changes, clock.now())


class Writer:
    """The writer thread of a process. Where it was not started, changes are written by the caller, at once.

    stages: the operations in the order in which a task meets them; within a batch they are written in that order, so
    that a task's text is written before its end. What a batch has for one stage is one transaction.
    """

    def __init__(self, stages: Callable[[], Sequence[Sequence[Operation[Any, Any]]]]) -> None:
        self._stages = stages
        self._entries: list[_Entry] = []
        self._number = 0
        self._wakeup = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._is_trying = False
        self._failing_since: float | None = None  # time.monotonic() of the first try since the last commit
        self._failure: Exception | None = None

    def start(self) -> None:
        with self._wakeup:
            if self._thread is None:
                self._stopping = False
                self._thread = threading.Thread(target=self._run, name="engine-writer", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Write what is left, then end the thread."""
        thread = self._thread
        with self._wakeup:
            self._stopping = True
            self._wakeup.notify()
        if thread is not None:
            thread.join()
        self._thread = None

    def call(
        self, operation: Operation[Change, Result], change: Change, *, limit_seconds: float | None = None
    ) -> Result:
        """Write one change and return its result once it is committed.

        limit_seconds: how long to try while the database is locked or away; None: as long as the writer does. After
        that nothing was written. Where it has been locked or away for as long already, nobody else waits: it is enough
        that one tries. Raises OperationalError.
        """
        future = self.send(operation, change, limit_seconds=limit_seconds)
        database_pool.leave_to_others()  # or threads that wait for the writer could hold what it waits for
        try:
            return future.result(limit_seconds)
        except TimeoutError:
            if future.cancel():
                raise OperationalError("The database is busy.") from None
            return future.result()  # it is being written; how that ends is known soon

    def send(
        self,
        operation: Operation[Change, Result],
        change: Change,
        *,
        delay_seconds: float = 0,
        limit_seconds: float | None = None,
        is_traced: bool = True,
    ) -> "Future[Result]":
        """Hand over one change; the future has its result once it is committed. Until it is due it can be cancelled.

        is_traced: false for what comes so often that nobody could read a trace of it.
        Inside a transaction of the caller the change belongs to that one, so it is written there and then.
        """
        if not any(operation in stage for stage in self._stages()):
            raise LookupError(f"{operation} has no place in the writer's stages.")
        future: Future[Result] = Future()
        span = _begun(operation, future) if is_traced else tracing.NOTHING
        due = time.monotonic() + delay_seconds
        give_up_at = float("inf") if limit_seconds is None else due + limit_seconds
        entry = _Entry(due, 0, operation, change, future, give_up_at, span)
        if self._is_trying and self._has_failed_for(entry):
            refusal = OperationalError("The database is busy.")
            refusal.__cause__ = self._failure
            future.set_exception(refusal)
            return future
        if connection.in_atomic_block or not self._enqueue(entry):
            _settle(future, apply(operation, [change])[0])
        return future

    def _enqueue(self, entry: _Entry) -> bool:
        """Give a change to the thread; False where none runs, or it is about to end and might miss it."""
        with self._wakeup:
            if self._thread is None or self._stopping:
                return False
            self._number += 1
            entry.number = self._number
            heapq.heappush(self._entries, entry)
            if self._entries[0] is entry:
                self._wakeup.notify()
        return True

    def _run(self) -> None:
        while batch := self._next_batch():
            for stage in self._stages():
                if entries := [entry for entry in batch if entry.operation in stage]:
                    self._write(entries)
        connection.close()

    def _next_batch(self) -> list[_Entry]:
        """Wait until something is due and take all that is; nothing means the end."""
        with self._wakeup:
            while True:
                batch = self._take_due(float("inf") if self._stopping else time.monotonic())
                if batch or self._stopping:
                    return batch
                self._wakeup.wait(self._entries[0].due - time.monotonic() if self._entries else None)

    def _take_due(self, now: float) -> list[_Entry]:
        batch: list[_Entry] = []
        while self._entries and self._entries[0].due <= now and len(batch) < BATCH_LIMIT:
            entry = heapq.heappop(self._entries)
            if entry.future.set_running_or_notify_cancel():
                batch.append(entry)
        return batch

    def _write(self, batch: list[_Entry]) -> None:
        try:
            with _transaction_of(batch):
                results = self._committed(batch)
        except Exception as error:  # noqa: BLE001 - it belongs to the threads that wait for an answer
            left = [entry for entry in batch if not entry.future.done()]
            if len(left) == 1:
                left[0].future.set_exception(error)
                return
            logger.warning("A batch of %d writes failed (%s); writing them one by one.", len(left), error)
            for entry in left:
                self._write([entry])
            return
        for entry in batch:
            if entry.number in results:
                _settle(entry.future, results[entry.number])

    def _committed(self, batch: list[_Entry]) -> dict[int, Any]:
        """Write a batch in one transaction; while the database is locked or away, try again for some seconds.

        Who gives up meanwhile gets the error, and no result.
        """
        patient = batch
        for delay in (*RETRY_DELAYS, None):
            begun = time.monotonic()
            self._is_trying = True
            try:
                _wait_briefly_for_locks()
                with transaction.atomic():
                    results = self._results(patient)
            except (OperationalError, InterfaceError) as error:
                connection.close()
                self._failing_since, self._failure = self._failing_since or begun, error
                if delay is None:
                    raise
                patient = self._without_those_who_give_up(patient, error)
                time.sleep(delay if patient else 0)
            else:
                self._failing_since = self._failure = None
                return results
            finally:
                self._is_trying = False
        raise AssertionError("unreachable")

    def _without_those_who_give_up(self, batch: list[_Entry], error: Exception) -> list[_Entry]:
        now = time.monotonic()
        patient = [entry for entry in batch if entry.give_up_at > now and not self._has_failed_for(entry)]
        for entry in batch:
            if entry not in patient:
                entry.future.set_exception(error)
        return patient

    def _has_failed_for(self, entry: _Entry) -> bool:
        """Tell whether nothing could be written for as long as a change may wait."""
        since = self._failing_since
        return since is not None and time.monotonic() - since >= entry.give_up_at - entry.due

    def _results(self, batch: list[_Entry]) -> dict[int, Any]:
        now = clock.now()
        results: dict[int, Any] = {}
        for operation in (operation for stage in self._stages() for operation in stage):
            entries = [entry for entry in batch if entry.operation == operation]
            if entries:
                answers = operation([entry.change for entry in entries], now)
                results.update({entry.number: answer for entry, answer in zip(entries, answers, strict=True)})
        return results


def _wait_briefly_for_locks() -> None:
    if database.vendor() == "sqlite" and connection.connection is None:
        limit_seconds = min(TRY_SECONDS, connection.settings_dict["OPTIONS"]["timeout"])
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA busy_timeout = {1000 * limit_seconds:.0f}")


def _begun(operation: Operation[Any, Any], future: "Future[Any]") -> tracing.Span:
    """Begin what a trace tells of a change; it ends with the future."""
    if not tracing.is_on():
        return tracing.NOTHING
    span = tracing.span(f"write {getattr(operation, '__name__', 'change')}", {})
    if span is not tracing.NOTHING:
        future.add_done_callback(lambda _: span.end())
    return span


def _transaction_of(batch: Sequence[_Entry]) -> tracing.Span:
    """What a trace tells of a transaction, with its statements: the first trace that has a change in it."""
    if not tracing.is_on():
        return tracing.NOTHING
    first = next((entry.span for entry in batch if entry.span is not tracing.NOTHING), tracing.NOTHING)
    return tracing.span("transaction", {"sutazai.changes": len(batch)}, of=first.headers)


def _settle(future: "Future[Any]", result: Any) -> None:
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
