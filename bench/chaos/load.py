"""The clients of a chaos run: they submit at a steady rate, never give up, and follow every task to its end."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench import tasks
from bench.chaos.ledger import Entry, Ledger
from bench.client import Client, Following
from bench.group import Group

RATE = 50  # submissions per second
RETRY_SECONDS = 0.2
REQUEST_TIMEOUT_SECONDS = 10
STREAM_TIMEOUT_SECONDS = 600
FOR_NOW = frozenset({429, 502, 503, 504, 507})  # refusals after which a client comes again
TOLD_WHEN = frozenset({503, 507})  # these say when


@dataclass
class Followed:
    """A submission and what its follower received. replayed: the events read again, from the first, at the end."""

    entry: Entry
    following: Following = field(default_factory=Following)
    replayed: Following = field(default_factory=Following)
    connections: int = 0
    wrong: str = ""


class Load:
    """All clients of one fault.

    refusals: how often a submission was refused for now, by status; untold: without a word on when to come again.
    longest_refusal: the seconds that the slowest of them took.
    """

    def __init__(self, group: Group, ledger: Ledger, rng: random.Random, *, rate: float = RATE) -> None:
        self.followed: list[Followed] = []
        self.refusals: Counter[int] = Counter()
        self.untold = 0
        self.longest_refusal = 0.0
        self._rate = rate
        self._ledger = ledger
        self._rng = rng
        self._submitting = Client(group.url, key=group.key, timeout_seconds=REQUEST_TIMEOUT_SECONDS)
        self._streaming = Client(group.url, key=group.key, timeout_seconds=STREAM_TIMEOUT_SECONDS)
        self._running: set[asyncio.Task[None]] = set()

    async def submit(self, prompts: Sequence[str]) -> None:
        """Submit at the steady rate, whatever becomes of the submissions; returns when the last one was sent."""
        started = time.monotonic()
        for number, prompt in enumerate(prompts):
            await asyncio.sleep(max(0.0, started + number / self._rate - time.monotonic()))
            entry = self._ledger.open(f"{self._rng.getrandbits(128):032x}", prompt)
            followed = Followed(entry)
            self.followed.append(followed)
            running = asyncio.create_task(self._see_through(followed))
            self._running.add(running)
            running.add_done_callback(self._running.discard)

    @property
    def unfinished(self) -> list[Followed]:
        return [item for item in self.followed if not item.following.is_complete]

    async def drain(self, seconds: float) -> None:
        """Wait until every task has ended, at most so long."""
        if self._running:
            await asyncio.wait(set(self._running), timeout=seconds)
        for running in list(self._running):
            running.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def close(self) -> None:
        self._submitting.close()
        self._streaming.close()

    async def _see_through(self, followed: Followed) -> None:
        await self._submit_until_accepted(followed.entry)
        if followed.entry.task:
            await self._follow(followed)

    async def _submit_until_accepted(self, entry: Entry) -> None:
        """Send the submission with its key until it is accepted, as the API tells its clients to."""
        while not entry.task and not entry.refused:
            entry.tries += 1
            sent_at = time.monotonic()
            try:
                response = await self._submitting.request(
                    "POST", "/api/v1/tasks/", tasks.task_body(entry.prompt), headers={"Idempotency-Key": entry.key}
                )
            except OSError:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if response.status == 202:
                self._ledger.accepted(entry, response.json()["task"])
            elif response.status in FOR_NOW:
                self.refusals[response.status] += 1
                self.untold += response.status in TOLD_WHEN and "retry-after" not in response.headers
                self.longest_refusal = max(self.longest_refusal, time.monotonic() - sent_at)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                entry.refused = f"{response.status} {response.body[:200].decode(errors='replace')}"

    async def _follow(self, followed: Followed) -> None:
        """Follow to the end, coming back with Last-Event-ID as browsers do."""
        while not followed.following.is_complete:
            followed.connections += 1
            try:
                await tasks.follow(self._streaming, followed.entry.task, followed.following)
            except OSError:
                pass
            except tasks.UnexpectedAnswerError as error:
                followed.wrong = "" if error.status in FOR_NOW else str(error)
            followed.following.reconnected()
            if not followed.following.is_complete:
                await asyncio.sleep(RETRY_SECONDS)
