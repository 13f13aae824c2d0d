"""Following a task: every event once, in order, from any number on, live or long after.

One reader thread per process reads for all followers, each from its own last number, and hands the events to their
event loops. It looks when it is woken (see `wakeups`) and once a second anyway. Then it also tells those who want to
know where their task stands in its queue.
"""

import asyncio
import json
import logging
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from django.db import connection

from agents.engine import hints, wakeups
from agents.engine.events import TERMINAL_TYPES, encode
from agents.engine.queue import Standing, standings
from agents.models import AgentTask, TaskEvent
from core.ops.threads import start_endless

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
ROWS_PER_READ = 5_000
# Between two words to one follower about its place in the queue.
POSITION_SECONDS = 2.0


class Event(NamedTuple):
    """One event as followers get it. data: a line of JSON. number: 0 for one of the moment, which is in no row."""

    number: int
    type: str
    data: str

    @property
    def is_last(self) -> bool:
        return self.type in TERMINAL_TYPES


@dataclass(eq=False)
class _Follower:
    task_id: uuid.UUID
    last: int  # number of the last event handed over
    loop: asyncio.AbstractEventLoop
    tells_position: bool
    queue: "asyncio.Queue[list[Event] | None]" = field(default_factory=asyncio.Queue)
    may_wait: bool = True  # as far as is known
    position: int = 0  # as told last
    position_at: float = float("-inf")  # time.monotonic() of the last look at it

    def see(self, events: list[Event]) -> None:
        """Hand events over that are new to the follower."""
        self.last = events[-1].number
        for item in events:
            if item.type == TaskEvent.Type.STATE:
                self.may_wait = json.loads(item.data)["status"] == AgentTask.Status.QUEUED
        self.hand_over(events)

    def see_position(self, standing: Standing) -> None:
        """Tell where the task stands, if that has changed by a tenth or, near the front, at all."""
        if self.position and abs(standing.position - self.position) < max(1, self.position // 10):
            return
        self.position = standing.position
        data = {
            "status": AgentTask.Status.QUEUED,
            "position": standing.position,
            "expected_wait_seconds": standing.expected_wait_seconds,
        }
        self.hand_over([Event(0, TaskEvent.Type.STATE, encode(data))])

    def hand_over(self, events: list[Event] | None) -> None:
        """Pass events to the follower's loop; None ends it."""
        try:
            self.loop.call_soon_threadsafe(self.queue.put_nowait, events)
        except RuntimeError:  # the loop has been closed, and with it the connection
            logger.debug("A follower of %s is gone.", self.task_id)


class Reader:
    """Reads events for all followers of this process."""

    def __init__(self) -> None:
        self._followers: dict[uuid.UUID, set[_Follower]] = {}
        self._woken: set[uuid.UUID] = set()
        self._changed = threading.Condition()
        self._is_started = False
        # time.monotonic() of the next look at all, however busy the wake-ups of some keep us
        self._look_at = 0.0

    def start(self) -> None:
        with self._changed:
            if self._is_started:
                return
            self._is_started = True
        hints.changed_listeners.append(self.wake)
        start_endless("engine-reader", self._round)
        wakeups.listen(self.wake, self._wait_for_followers)

    def wake(self, task_ids: Sequence[uuid.UUID] | None) -> None:
        """Look at these tasks soon; None: at all that are followed."""
        with self._changed:
            news = self._followers.keys() if task_ids is None else self._followers.keys() & set(task_ids)
            if news:
                self._woken.update(news)
                self._changed.notify_all()

    async def follow(
        self, task_id: uuid.UUID, *, after: int = 0, tells_position: bool = False
    ) -> AsyncIterator[list[Event]]:
        """Yield a task's events after a number, as they come, until its end; several at a time where they are there.

        tells_position: while the task waits, also events of the moment that tell where it stands. Ends at once when
        the task has ended at that number already, or does not exist.
        """
        self.start()
        follower = _Follower(task_id, after, asyncio.get_running_loop(), tells_position)
        with self._changed:
            self._followers.setdefault(task_id, set()).add(follower)
            self._woken.add(task_id)
            self._changed.notify_all()
        try:
            while (events := await follower.queue.get()) is not None:
                yield events
                if events[-1].is_last:
                    return
        finally:
            self._remove(follower)

    def _remove(self, follower: _Follower) -> None:
        with self._changed:
            same_task = self._followers.get(follower.task_id, set())
            same_task.discard(follower)
            if not same_task:
                self._followers.pop(follower.task_id, None)

    def _wait_for_followers(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: bool(self._followers))

    def _round(self) -> None:
        if not self._followers:
            connection.close()  # nobody to read for: do not keep one from the pool
        with self._changed:
            self._changed.wait_for(lambda: bool(self._followers))
            self._changed.wait_for(lambda: bool(self._woken), max(0.0, self._look_at - time.monotonic()))
            is_time = time.monotonic() >= self._look_at
            if is_time:
                self._look_at = time.monotonic() + LOOK_SECONDS
                self._woken.update(self._followers)
            woken, self._woken = self._woken, set()
            followers = [item for task_id in woken for item in self._followers.get(task_id, ())]
        self._serve(followers)
        if is_time:
            _tell_positions(followers)

    def _serve(self, followers: Iterable[_Follower]) -> None:
        """Hand each follower what is new for it; end those that have had everything."""
        followers = list(followers)
        if not followers:
            return
        after: dict[uuid.UUID, int] = {}
        for follower in followers:
            after[follower.task_id] = min(follower.last, after.get(follower.task_id, follower.last))
        news = read_events(after)
        if sum(map(len, news.values())) == ROWS_PER_READ:
            self.wake(list(after))  # there is more
        idle = {follower.task_id for follower in followers if not news.get(follower.task_id)}
        ended = _ended(idle)
        for follower in followers:
            fresh = [item for item in news.get(follower.task_id, []) if item.number > follower.last]
            if fresh:
                follower.see(fresh)
            elif follower.last >= ended.get(follower.task_id, follower.last + 1):
                follower.hand_over(None)


def read_events(after: dict[uuid.UUID, int]) -> dict[uuid.UUID, list[Event]]:
    """Read the events of several tasks, each after its own number, in one query."""
    key = AgentTask._meta.pk
    values = [
        part for task_id, number in after.items() for part in (key.get_db_prep_value(task_id, connection), number)
    ]
    found: dict[uuid.UUID, list[Event]] = {}
    with connection.cursor() as cursor:
        cursor.execute(
            "WITH followed (task_id, last) AS (VALUES {rows}) "  # noqa: S608 - placeholders only
            "SELECT e.task_id, e.number, e.type, e.data FROM followed f "
            "JOIN agents_taskevent e ON e.task_id = f.task_id AND e.number > f.last "
            "ORDER BY e.task_id, e.number LIMIT {limit}".format(
                rows=", ".join(["(%s, %s)"] * len(after)), limit=ROWS_PER_READ
            ),
            values,
        )
        for task_id, number, type_, data in cursor.fetchall():
            found.setdefault(uuid.UUID(str(task_id)), []).append(Event(number, type_, data))
    return found


def _ended(task_ids: set[uuid.UUID]) -> dict[uuid.UUID, int]:
    """The number of the last event of each of these tasks that has ended; 0 for those that do not exist."""
    if not task_ids:
        return {}
    rows = AgentTask.objects.filter(pk__in=task_ids).values_list("pk", "status", "event_count")
    ended = dict.fromkeys(task_ids, 0)
    for task_id, status, event_count in rows:
        if status in AgentTask.FINISHED_STATUSES:
            ended[task_id] = event_count
        else:
            del ended[task_id]
    return ended


def _tell_positions(followers: Iterable[_Follower]) -> None:
    """Tell those who want to know it where their waiting tasks stand; each queue is put in order once for all."""
    now = time.monotonic()
    due = [
        follower
        for follower in followers
        if follower.tells_position and follower.may_wait and now - follower.position_at >= POSITION_SECONDS
    ]
    if not due:
        return
    rows = AgentTask.objects.queued().filter(pk__in={follower.task_id for follower in due})
    models = dict(rows.values_list("pk", "model"))
    found = standings(set(models.values())) if models else {}
    for follower in due:
        follower.position_at = now
        follower.may_wait = follower.task_id in models
        if follower.may_wait and (standing := found[models[follower.task_id]].get(follower.task_id)):
            follower.see_position(standing)


reader = Reader()
