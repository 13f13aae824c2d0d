"""Faults of what the program stands on: databases, the disk, clocks, and the beats that send what is due.

Tasks come by the API all the while. Whatever is refused meanwhile is refused with a word on when to come again, what
only reads goes on where it can, and nothing that was accepted is lost.
"""

import asyncio
import json
import sqlite3
import time
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench import console, tasks
from bench.chaos import machine
from bench.chaos.faults import FAULTS, TaskScene, is_answering, while_submitting
from bench.chaos.load import FOR_NOW, RATE
from bench.chaos.scene import Fault
from bench.client import Client
from bench.group import OPERATOR
from tests.program import ProgramError
from tests.services import Server

# After what was away is back, submissions are accepted again after this long at most.
SERVING_SECONDS = 15
ROOM_SECONDS = 10
# A writer waits for SQLite's lock; the rest is the way there and back, on a machine that has much to do.
LOCK_WAIT_SECONDS = 5
WAY_SECONDS = 1
# Beats and workers may be so late with a turn, of the time between two.
JITTER = 0.75
CATCH_UP_SECONDS = 60
# A job that is quick, and harmless however often it runs.
JOB = "delete_spent_limits"
TOLD_SECONDS = 30  # until the health tells that a part is down: two rounds of probes, and their limits
HOURS = (2, -2)
PAUSE_SECONDS = 0.1  # between two submissions, or questions, that wait for something


async def take_database_away(scene: TaskScene) -> None:
    """kill -9 PostgreSQL while submissions arrive; it comes back after a while."""
    assert scene.services is not None
    reader = await Reader.of(scene)
    gone = _away(scene, scene.services.postgresql)
    await _while_submissions_arrive(scene, scene.while_watching(reader.look_at_health, gone))
    await _until_accepting(scene, SERVING_SECONDS)


async def take_redis_away(scene: TaskScene) -> None:
    """kill -9 Redis while submissions arrive; it comes back, empty, after a while. All goes on without it."""
    assert scene.services is not None
    redis = scene.services.redis
    revoked = await _revoked_tokens(scene)
    reader = await Reader.of(scene)

    async def away() -> None:
        await asyncio.to_thread(redis.kill)
        await _until_told(scene, "redis")
        await asyncio.sleep(scene.scale.node_down_seconds)
        await asyncio.to_thread(redis.start)
        await asyncio.to_thread(redis.wait_until_ready)

    await _while_submissions_arrive(scene, scene.while_watching(reader.look, away()))
    await _none_opens(scene, revoked)


async def flush_redis(scene: TaskScene) -> None:
    """FLUSHALL again and again while submissions arrive: messages, wake-ups and caches are gone."""
    assert scene.services is not None
    port = scene.services.redis.port
    revoked = await _revoked_tokens(scene)
    await while_submitting(scene, lambda: _redis_flushall(port))
    await _none_opens(scene, revoked)


async def _redis_flushall(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"FLUSHALL\r\n")
    answer = await reader.readline()
    writer.close()
    if answer != b"+OK\r\n":
        raise ProgramError(f"FLUSHALL: {answer!r}")


async def lock_database(scene: TaskScene) -> None:
    """Hold the lock of SQLite's file: who writes waits for a moment and is told to come again, who reads reads."""
    reader = await Reader.of(scene)
    database = scene.group.data_dir / "db.sqlite3"
    held = asyncio.to_thread(machine.hold_lock, database, scene.scale.lock_seconds)
    await _while_submissions_arrive(scene, scene.while_watching(reader.look, held), keeps_coming=True)
    await _until_accepting(scene, SERVING_SECONDS)
    _expect_refusals(scene, {503})
    if scene.load.longest_refusal > max(LOCK_WAIT_SECONDS + WAY_SECONDS, scene.scale.late_seconds):
        scene.blame("waited too long", f"{scene.load.longest_refusal:.1f} s until a refusal")


async def fill_disk(scene: TaskScene) -> None:
    """Fill the disk of the data folder while submissions arrive; there is room again after a while."""
    reader = await Reader.of(scene)
    disk = scene.group.data_dir.resolve()
    processes = {process.pid for process in scene.group.processes()}

    async def full() -> None:
        filler = await asyncio.to_thread(machine.fill, disk)
        await scene.until(scene.load.refusals.total, "a submission finds no room")
        await asyncio.sleep(scene.scale.node_down_seconds)
        filler.unlink()

    await _while_submissions_arrive(scene, scene.while_watching(reader.look, full()), keeps_coming=True)
    await _until_accepting(scene, ROOM_SECONDS)
    _expect_refusals(scene, {503, 507})
    await scene.load.drain(scene.scale.drain_seconds)
    if died := processes - {process.pid for process in scene.group.processes()}:
        scene.blame("died of it", f"processes {sorted(died)}")
    for torn in await asyncio.to_thread(lambda: list(_torn_files(disk))):
        scene.blame("torn", torn)


def _torn_files(folder: Path) -> Iterable[str]:
    for path in folder.glob("*.sqlite3"):
        with closing(sqlite3.connect(path)) as database:
            found = database.execute("PRAGMA integrity_check").fetchall()
        if found != [("ok",)]:
            yield f"{path.name}: {found[:3]}"
    for path in (folder / "broker").rglob("*.msg"):
        try:
            json.loads(path.read_text())
        except FileNotFoundError:  # a worker took it
            continue
        except ValueError as error:
            yield f"{path.name}: {error}"
    for path in (folder / "secrets").iterdir():
        if not path.stat().st_size:
            yield f"{path.name} is empty"


async def move_clock(scene: TaskScene) -> None:
    """Move the clock of one of two workers two hours ahead, two hours back, and right again."""
    clock = machine.Clock(scene.group.data_dir.parent)
    turns = await Turns.of(scene)
    with scene.group.another_worker(**clock.environment):
        await _while_moving(scene, clock)
    # A worker whose clock is wrong may take messages for old ones, and drop them.
    await turns.judge(may_miss=True)


async def set_clock(scene: TaskScene) -> None:
    """Set the clock of every process two hours ahead, two hours back, and right again."""
    await _while_moving(scene, machine.Clock.of(scene.group.environment))
    lines = scene.group.log.read_text(errors="replace").splitlines()
    noticed = {line.split(maxsplit=1)[0] for line in lines if "The clock was set by" in line}
    for program in {"web", "worker"} - noticed:
        scene.blame("missed", f"{program} did not notice that the clock was set")


async def _while_moving(scene: TaskScene, clock: machine.Clock) -> None:
    """Have tasks arrive while a clock moves; none may be taken from a runner that lives."""
    before = scene.group.log.read_text(errors="replace").count("whose lease ran out")
    moves = (*HOURS, 0)
    for hours in moves:
        arriving = asyncio.create_task(scene.load.submit(scene.prompts(scene.scale.tasks // len(moves))))
        await scene.until(lambda: is_answering(scene), "a task is being answered")
        clock.move(hours)
        await arriving
        await asyncio.sleep(2 * scene.scale.turn_seconds)
    await scene.load.drain(scene.scale.drain_seconds)
    if taken := scene.group.log.read_text(errors="replace").count("whose lease ran out") - before:
        scene.blame("taken away", f"{taken} rounds of the reaper took tasks from runners that lived")
    started = scene.ollama.stats()["prompts_started"]
    for item in scene.load.followed:
        if started.get(item.entry.prompt, 0) > 1:
            scene.blame("two owners", f"{item.entry.prompt} was answered {started[item.entry.prompt]} times")


async def kill_beat(scene: TaskScene) -> None:
    """kill -9 beat again and again: each turn of a schedule comes once."""
    turns = await Turns.of(scene)
    arriving = asyncio.create_task(scene.load.submit(scene.prompts(scene.scale.tasks)))
    ends_at = time.monotonic() + scene.scale.turns * scene.scale.turn_seconds
    kills = max(1, scene.scale.turns // 4)
    for _ in range(kills):
        await asyncio.sleep(scene.rng.uniform(1, 2) * scene.scale.turn_seconds)
        await scene.kill("beat")
    await asyncio.sleep(max(0.0, ends_at - time.monotonic()))
    await arriving
    await turns.judge()


async def run_two_beats(scene: TaskScene) -> None:
    """Run a second beat; half-way the first one is killed, so that either has the duty."""
    turns = await Turns.of(scene)
    arriving = asyncio.create_task(scene.load.submit(scene.prompts(scene.scale.tasks)))
    half = scene.scale.turns * scene.scale.turn_seconds / 2
    with scene.group.another_beat():
        await asyncio.sleep(half)
        await scene.kill("beat")
        await asyncio.sleep(half)
    await arriving
    await turns.judge()


# While something is away ---------------------------------------------------------------------------------------------


async def _away(scene: TaskScene, server: Server) -> None:
    await asyncio.to_thread(server.kill)
    await asyncio.sleep(scene.scale.node_down_seconds)
    await asyncio.to_thread(server.start)
    await asyncio.to_thread(server.wait_until_ready)


async def _while_submissions_arrive(
    scene: TaskScene, gone: Coroutine[Any, Any, None], *, keeps_coming: bool = False
) -> None:
    """Begin with a quarter of the submissions, and let the others arrive meanwhile.

    keeps_coming: go on with new ones after that, for as long as it lasts.
    """
    prompts = scene.prompts(scene.scale.tasks)
    arriving = asyncio.create_task(scene.load.submit(prompts))
    await asyncio.sleep(len(prompts) / RATE / 4)
    accepted = _accepted(scene)
    going = asyncio.create_task(gone)
    await arriving
    while keeps_coming and not going.done():
        await scene.load.submit(scene.prompts(1))
        await asyncio.sleep(PAUSE_SECONDS)
    await going
    scene.notes.append(f"{_accepted(scene) - accepted} accepted meanwhile")


def _accepted(scene: TaskScene) -> int:
    return sum(bool(item.entry.task) for item in scene.load.followed)


async def _until_accepting(scene: TaskScene, limit_seconds: float) -> None:
    """Wait until a submission is accepted; blame it if that takes longer than it may."""
    started = time.monotonic()
    before = len(scene.load.followed)
    while True:
        await scene.load.submit(scene.prompts(1))
        await asyncio.sleep(PAUSE_SECONDS)
        if any(item.entry.task for item in scene.load.followed[before:]):
            break
        if time.monotonic() - started > scene.scale.drain_seconds:
            break
    seconds = time.monotonic() - started
    scene.notes.append(f"accepted again after {seconds:.1f} s")
    if seconds > max(limit_seconds, scene.scale.late_seconds):
        scene.blame("serves late", f"after {seconds:.1f} s, not {limit_seconds} s")


def _expect_refusals(scene: TaskScene, statuses: set[int]) -> None:
    """A fault that nobody noticed was none; and it is told as what it is."""
    if not scene.load.refusals:
        scene.blame("missed", "nothing was refused")
    for status in scene.load.refusals.keys() - statuses:
        scene.blame("misnamed", f"refused with {status}")


async def _until_told(scene: TaskScene, part: str) -> None:
    """Wait until the health tells that a part is down; blame it if it does not."""
    client = Client(scene.group.url, timeout_seconds=10)
    limit = time.monotonic() + TOLD_SECONDS
    while (await client.get("/health/ready")).json()["services"][part]["status"] != "down":
        if time.monotonic() > limit:
            scene.blame("untold", f"the health does not tell that {part} is down")
            break
        await asyncio.sleep(PAUSE_SECONDS)
    client.close()


class Reader:
    """Somebody who only reads, by key and at the console."""

    def __init__(self, scene: TaskScene, browser: dict[str, str]) -> None:
        self._scene = scene
        self._browser = browser
        self._by_key = Client(scene.group.url, key=scene.group.key, timeout_seconds=30)
        self._at_console = Client(scene.group.url, timeout_seconds=30)

    @classmethod
    async def of(cls, scene: TaskScene) -> "Reader":
        return cls(scene, await console.sign_in(scene.group))

    async def look(self) -> None:
        """Read what must be there all the while, and blame what does not come."""
        await self.look_at_health()
        await self._read(self._by_key, "/api/v1/tasks/?page_size=20", {})
        for page in console.PAGES:
            await self._read(self._at_console, page, self._browser)

    async def look_at_health(self) -> None:
        await self._read(self._by_key, "/health", {})

    async def _read(self, client: Client, path: str, headers: dict[str, str]) -> None:
        started = time.monotonic()
        try:
            status = str((await client.request("GET", path, headers=headers)).status)
        except OSError as error:
            status = repr(error)
        seconds = time.monotonic() - started
        if status != "200" or seconds > max(LOCK_WAIT_SECONDS - 1, self._scene.scale.late_seconds):
            self._scene.blame("unreadable", f"{path}: {status} after {seconds:.1f} s")


# Tokens that were taken back -----------------------------------------------------------------------------------------


async def _revoked_tokens(scene: TaskScene) -> Sequence[str]:
    """Sign in and out: the token of that sign-in may not open anything again."""
    client = Client(scene.group.url)
    password = scene.group.environment["SUTAZAI_OPERATOR_PASSWORD"]
    pair = tasks.expect(
        await client.request("POST", "/api/auth/login", {"email": OPERATOR, "password": password}), 200, 201
    )
    await client.request("POST", "/api/auth/logout", {"refresh": pair["refresh"]})
    client.close()
    return [pair["access"]]


async def _none_opens(scene: TaskScene, tokens: Iterable[str]) -> None:
    for token in tokens:
        client = Client(scene.group.url, key=token)
        status = (await client.get("/api/v1/tasks/?page_size=1")).status
        client.close()
        if status not in {401, *FOR_NOW}:
            scene.blame("opened", f"a token that was taken back: {status}")


# Turns of a schedule -------------------------------------------------------------------------------------------------

SPEED_UP = """
from django_celery_beat.models import IntervalSchedule, PeriodicTask
every = IntervalSchedule.objects.create(every={seconds}, period="seconds")
row = PeriodicTask.objects.get(name="maintenance: {job}")
row.interval, row.expire_seconds = every, None
row.save()
"""
TELL = """
import json
from core.models import MaintenanceRun
runs = MaintenanceRun.objects.filter(job="{job}", trigger="schedule", started_at__gte="{since}")
print(json.dumps([moment.isoformat() for moment in runs.order_by("started_at").values_list("started_at", flat=True)]))
"""


class Turns:
    """A schedule that comes every few seconds, and when it came."""

    def __init__(self, scene: TaskScene, since: datetime) -> None:
        self._scene = scene
        self._since = since

    @classmethod
    async def of(cls, scene: TaskScene) -> "Turns":
        """Have a job come every few seconds, and wait until it does."""
        seconds = int(scene.scale.turn_seconds)
        await _shell(scene, SPEED_UP.format(job=JOB, seconds=seconds))
        turns = cls(scene, datetime.now().astimezone())
        limit = time.monotonic() + CATCH_UP_SECONDS
        while len(found := await turns.moments()) < 2:
            if time.monotonic() > limit:
                raise ProgramError(f"{JOB} does not come every {seconds} s:\n{scene.group.log_tail()}")
        turns._since = found[-1]
        return turns

    async def moments(self) -> list[datetime]:
        said = await _shell(self._scene, TELL.format(job=JOB, since=self._since.isoformat()))
        return [datetime.fromisoformat(text) for text in json.loads(said.splitlines()[-1])]

    async def judge(self, *, may_miss: bool = False) -> None:
        """Blame turns that came twice, and those that were not caught up with."""
        moments, every = await self.moments(), self._scene.scale.turn_seconds
        gaps = [(later - sooner).total_seconds() for sooner, later in pairwise(moments)]
        for gap in too_soon(gaps, every):
            self._scene.blame("turn came twice", f"{gap:.1f} s after the last one, not {every:g} s")
        for gap in gaps:
            if gap > every + CATCH_UP_SECONDS and not may_miss:
                self._scene.blame("turn missed", f"{gap:.1f} s after the last one")
        if not gaps:
            self._scene.blame("turn missed", "none came")
            return
        said = f"{len(gaps)} turns of {every:g} s came {min(gaps):.1f} to {max(gaps):.1f} s apart"
        self._scene.notes.append(said)


def too_soon(gaps: Iterable[float], every: float) -> Iterator[float]:
    """The gaps before turns that came before their time, which the latest of those before them tells."""
    late = latest = 0.0
    for gap in gaps:
        late += gap - every  # than the first one says
        latest = max(late, latest)
        if late < latest - JITTER * every:
            yield gap
            latest = late


async def _shell(scene: TaskScene, code: str) -> str:
    return await asyncio.to_thread(scene.group.manage, "shell", "--no-imports", "--command", code)


OUTAGES = (
    Fault("flush", "Redis FLUSHALL", flush_redis, ("rabbitmq", "redis")),
    Fault("redis", "Redis killed", take_redis_away, ("rabbitmq", "redis")),
    Fault("database", "PostgreSQL killed", take_database_away, ("rabbitmq", "redis")),
    Fault("lock", "SQLite locked", lock_database, ("embedded",)),
    Fault("beat", "kill -9 of beat", kill_beat),
    Fault("beats", "two beats", run_two_beats),
    Fault("clock", "a worker's clock moved by two hours", move_clock, ("rabbitmq",)),
    Fault("machine-clock", "the machine's clock set by two hours", set_clock, ("own-clock",)),
    Fault("disk", "the disk full", fill_disk, ("small-disk",)),
)
# All whose tasks come by the API.
TASK_FAULTS = (*FAULTS, *OUTAGES)
