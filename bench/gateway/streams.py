"""Streamed answers: how soon they begin, how many of them keep their pace, and what a token costs."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from bench.client import Client
from bench.figures import percentile
from bench.gateway.double import TOKENS, WORD
from bench.gateway.processes import Meter, settled
from bench.gateway.targets import PATH, Target
from bench.tasks import UnexpectedAnswerError

PACE_MS = 50
# What clients still call a stream that does not stall.
FIRST_TOKEN_MS = 1000
GAP_MS = 2 * PACE_MS
# Streams start one after another, so many in a second, but all of them so soon that they are under way together.
STARTS_PER_SECOND = 50
RAMP_SECONDS = 3.0
PATIENCE_SECONDS = 60
PAUSE_SECONDS = 0.01


@dataclass
class Stream:
    """One stream as its client saw it: when it asked, when tokens came, and how many."""

    asked_at: float = 0.0
    came_at: list[float] = field(default_factory=list)
    tokens: int = 0

    def take(self, piece: bytes) -> None:
        if count := piece.count(WORD):
            self.came_at.append(time.perf_counter())
            self.tokens += count

    @property
    def first_token_ms(self) -> float:
        return 1000 * (self.came_at[0] - self.asked_at)

    def gaps_ms(self) -> list[float]:
        return [1000 * (later - earlier) for earlier, later in zip(self.came_at, self.came_at[1:], strict=False)]


@dataclass(frozen=True)
class Streams:
    """Many streams at a time. first_token_p95, gap_p95: milliseconds, of those that came. cpu_us: for each token."""

    streams: int
    whole: int
    first_token_p95: float
    gap_p95: float
    cpu_us: float

    @property
    def are_held(self) -> bool:
        return self.whole == self.streams and self.first_token_p95 <= FIRST_TOKEN_MS and self.gap_p95 <= GAP_MS

    def __str__(self) -> str:
        return (
            f"{self.whole} of {self.streams} whole, P95 of the first token {self.first_token_p95:.0f} ms, "
            f"of the gaps {self.gap_p95:.0f} ms"
        )


async def first_token(targets: Sequence[Target], count: int) -> dict[str, float]:
    """Ask every target by turns for one stream; returns the medians of their first tokens, in milliseconds."""
    clients = [(target, target.client()) for target in targets]
    came: dict[str, list[float]] = {target.name: [] for target in targets}
    for number in range(count):
        for target, client in clients:
            stream = Stream()
            if not await _follow(client, target, stream, knobs="", tokens=TOKENS, prompt=f"hello {number}"):
                raise UnexpectedAnswerError(f"{target.name} broke a stream after {stream.tokens} of {TOKENS} tokens")
            came[target.name].append(stream.first_token_ms)
            await asyncio.sleep(PAUSE_SECONDS)
    for _, client in clients:
        client.close()
    return {name: statistics.median(values) for name, values in came.items()}


async def hold(target: Target, *, streams: int, tokens: int) -> Streams:
    """Have so many streams at a time, each with a client of its own."""
    client = target.client(timeout_seconds=tokens * PACE_MS / 1000 + PATIENCE_SECONDS)
    followed = [Stream() for _ in range(streams)]
    ramp = min(RAMP_SECONDS, streams / STARTS_PER_SECOND)

    async def one(number: int) -> bool:
        await asyncio.sleep(ramp * number / streams)
        return await _follow(
            client, target, followed[number], knobs=paced(tokens), tokens=tokens, prompt=f"hello {number}"
        )

    meter = Meter(target.parts())
    whole = sum(await asyncio.gather(*map(one, range(streams))))
    client.close()
    await settled(target.parts())
    used = sum(meter.seconds().values())
    begun = [stream for stream in followed if stream.came_at]
    return Streams(
        streams=streams,
        whole=whole,
        first_token_p95=_p95(stream.first_token_ms for stream in begun),
        gap_p95=_p95(gap for stream in begun for gap in stream.gaps_ms()),
        cpu_us=1e6 * used / max(1, sum(stream.tokens for stream in followed)),
    )


async def climb(rungs: Sequence[int], earlier: Sequence[int], are_held: Callable[[int], Awaitable[bool]]) -> int:
    """Find the highest rung that is held, up or down from where the last climb ended; 0 where none is."""
    at = rungs.index(earlier[-1]) if earlier and earlier[-1] else 0
    if await are_held(rungs[at]):
        while at + 1 < len(rungs) and await are_held(rungs[at + 1]):
            at += 1
        return rungs[at]
    while at > 0:
        at -= 1
        if await are_held(rungs[at]):
            return rungs[at]
    return 0


def paced(tokens: int) -> str:
    """The knobs of a model that says so many tokens at the pace of all streams."""
    return f"t{tokens}-d{PACE_MS}"


async def _follow(client: Client, target: Target, stream: Stream, *, knobs: str, tokens: int, prompt: str) -> bool:
    """Follow one stream to its end; tells whether it was whole."""
    body = target.body(prompt, knobs=knobs, stream=True)
    stream.asked_at = time.perf_counter()
    try:
        answer = await client.request("POST", PATH, body, on_body=stream.take)
    except OSError:
        return False
    return answer.status == 200 and stream.tokens == tokens


def _p95(values: Iterable[float]) -> float:
    found = list(values)
    return percentile(found, 0.95) if found else 0.0
