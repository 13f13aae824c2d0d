"""What is measured, each by a function of its own; all times in milliseconds unless a name says otherwise."""

import asyncio
import itertools
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass

import psutil

from bench import tasks
from bench.client import Client, Following
from bench.group import Group
from tests.program import ROLES

TOKENS_PER_TASK = 16
USERS = 32  # who ask at the same time
PAUSE_SECONDS = 0.05  # between two questions of one user

_numbers = itertools.count()


@dataclass(frozen=True)
class Throughput:
    """cpu: milliseconds of CPU for each task, by role."""

    per_second: float
    latency_median: float
    latency_p95: float
    cpu: dict[str, float]


@dataclass(frozen=True)
class FirstToken:
    """Medians of one user's streams, interleaved: through us, and directly from the test server."""

    ours: float
    direct: float

    @property
    def added(self) -> float:
        return self.ours - self.direct


@dataclass(frozen=True)
class Followers:
    """What the followers of as many streams received.

    lag: how much later than its pace, counted from the first token, each token came. spread_seconds: the time from
    the first to the last token, which is `tokens` times the pace if nobody was late.
    """

    streams: int
    complete: int
    tokens_expected: int
    tokens_received: int
    lag_median: float
    lag_p99: float
    lag_max: float
    first_token_median: float
    cpu_cores: dict[str, float]


@dataclass(frozen=True)
class Idle:
    cpu_percent: dict[str, float]
    memory_mib: dict[str, float]


def percentile(values: Iterable[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def prompt(knobs: str) -> str:
    """A question that nobody asked before."""
    return f"[[{knobs}]] question {next(_numbers)}"


# Throughput ----------------------------------------------------------------------------------------------------------


async def throughput(group: Group, count: int) -> Throughput:
    """Run tasks through the whole path: submit, follow the events, check the answer."""
    client = Client(group.url, key=group.key)
    latencies: list[float] = []
    left = iter(range(count))

    async def user() -> None:
        for _ in left:
            started = time.perf_counter()
            await tasks.run_one(client, prompt(f"t{TOKENS_PER_TASK}"))
            latencies.append(1000 * (time.perf_counter() - started))

    before, started = cpu_seconds(group), time.perf_counter()
    async with asyncio.TaskGroup() as users:
        for _ in range(USERS):
            users.create_task(user())
    seconds = time.perf_counter() - started
    after = cpu_seconds(group)
    client.close()
    return Throughput(
        per_second=count / seconds,
        latency_median=statistics.median(latencies),
        latency_p95=percentile(latencies, 0.95),
        cpu={role: 1000 * (after[role] - before[role]) / count for role in after},
    )


# The first token -----------------------------------------------------------------------------------------------------


async def first_token(group: Group, ollama_url: str, count: int) -> FirstToken:
    """Let one user chat, through us and directly by turns."""
    ours, direct = [], []
    through_us, to_ollama = Client(group.url, key=group.key), Client(ollama_url)
    for _ in range(count):
        question = prompt(f"t{TOKENS_PER_TASK}")
        direct.append(await _direct_first_token(to_ollama, question))
        await asyncio.sleep(PAUSE_SECONDS)
        ours.append(await _our_first_token(through_us, question))
        await asyncio.sleep(PAUSE_SECONDS)
    through_us.close()
    to_ollama.close()
    return FirstToken(ours=statistics.median(ours), direct=statistics.median(direct))


async def _direct_first_token(client: Client, question: str) -> float:
    arrivals: list[float] = []
    body = {"model": "tinyllama", "messages": [{"role": "user", "content": question}], "stream": True}
    started = time.perf_counter()
    await client.request("POST", "/api/chat", body, on_body=lambda _: arrivals.append(time.perf_counter()))
    return 1000 * (arrivals[0] - started)


async def _our_first_token(client: Client, question: str) -> float:
    following = Following()
    started = time.perf_counter()
    await client.request("POST", "/api/v1/chat/", chat_body(question), on_body=following.take)
    tasks.check_answer(following, question)
    return 1000 * (_first_delta(following) - started)


def chat_body(question: str) -> dict[str, object]:
    return {"agent": tasks.AGENT, "message": question, "stream": True}


def _first_delta(following: Following) -> float:
    return next(event.received_at for event in following.events if event.type == "delta")


# Followers -----------------------------------------------------------------------------------------------------------


async def followers(group: Group, *, streams: int, tokens: int, pace_ms: int, ramp_seconds: float) -> Followers:
    """Stream many answers at a reader's pace at the same time, each with a follower of its own."""
    client = Client(group.url, key=group.key, timeout_seconds=tokens * pace_ms / 1000 + 120)
    followings = [Following() for _ in range(streams)]
    questions = [prompt(f"t{tokens}-d{pace_ms}") for _ in range(streams)]
    started_at = [0.0] * streams

    async def one(index: int) -> None:
        await asyncio.sleep(ramp_seconds * index / streams)
        started_at[index] = time.perf_counter()
        await client.request("POST", "/api/v1/chat/", chat_body(questions[index]), on_body=followings[index].take)

    before, started = cpu_seconds(group), time.perf_counter()
    await asyncio.gather(*(one(index) for index in range(streams)))
    seconds = time.perf_counter() - started
    after = cpu_seconds(group)
    client.close()
    lags = [lag for following in followings for lag in _lags(following, pace_ms)]
    firsts = [1000 * (_first_delta(item) - start) for item, start in zip(followings, started_at, strict=True)]
    return Followers(
        streams=streams,
        complete=sum(_is_whole(item, question) for item, question in zip(followings, questions, strict=True)),
        tokens_expected=streams * tokens,
        tokens_received=sum(len(following.text.split()) for following in followings),
        lag_median=statistics.median(lags),
        lag_p99=percentile(lags, 0.99),
        lag_max=max(lags),
        first_token_median=statistics.median(firsts),
        cpu_cores={role: (after[role] - before[role]) / seconds for role in after},
    )


def _is_whole(following: Following, question: str) -> bool:
    try:
        tasks.check_answer(following, question)
    except tasks.UnexpectedAnswerError:
        return False
    return True


def _lags(following: Following, pace_ms: int) -> list[float]:
    """How late each token was, counted from the first."""
    lags: list[float] = []
    first = _first_delta(following)
    for event in following.events:
        if event.type == "delta":
            for _ in event.json()["text"].split():
                lags.append(1000 * (event.received_at - first) - pace_ms * len(lags))
    return lags


# Idle ----------------------------------------------------------------------------------------------------------------


async def idle(group: Group, seconds: float) -> Idle:
    """Look at a group that nobody asks anything."""
    before, started = cpu_seconds(group), time.perf_counter()
    await asyncio.sleep(seconds)
    after, took = cpu_seconds(group), time.perf_counter() - started
    return Idle(
        cpu_percent={role: 100 * (after[role] - before[role]) / took for role in after},
        memory_mib={role: psutil.Process(group.pid(role)).memory_info().rss / 2**20 for role in ROLES},
    )


def cpu_seconds(group: Group) -> dict[str, float]:
    """CPU time that the group's processes have used, by role; "rest" is who supervises, and helpers."""
    used = dict.fromkeys((*ROLES, "rest"), 0.0)
    pids = {pid: role for role in ROLES for pid in group.pids(role)}
    for process in group.processes():
        times = process.cpu_times()
        used[pids.get(process.pid, "rest")] += times.user + times.system
    return used
