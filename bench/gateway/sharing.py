"""Equal questions: how quick an answer from the cache is, and how many of them the upstream gets to hear."""

import asyncio
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench import tasks
from bench.client import Client
from bench.gateway.double import DoubleProcess
from bench.gateway.load import Load, load
from bench.gateway.targets import PATH, Ours
from bench.group import Group

EQUAL_CALLS = 20
# While the first of equal calls is answered, the others come.
SLOW = "f300"
PROMPTS = 1000
USERS = 16
SEED = 20
# Only what would be answered alike again may be shared.
DETERMINISTIC: dict[str, Any] = {"temperature": 0}
SECOND_USER = "colleague"
_SECOND_TENANT = (
    "from core.models import Team, User;"
    "team = Team.objects.create(name='Second', slug='second');"
    f"User.objects.create_user('{SECOND_USER}', team=team)"
)


@dataclass(frozen=True)
class Sharing:
    """What became of equal questions.

    hits: rounds of one that is asked again and again. one_tenant, two_tenants: upstream calls for EQUAL_CALLS at a
    time. hit_ratio: of the repeating load, the share of the calls that the upstream did not get.
    """

    hits: list[Load]
    one_tenant: int
    two_tenants: int
    hit_ratio: float


async def is_wired(target: Ours, double: DoubleProcess) -> bool:
    """Tell whether the second of two equal questions is answered without the upstream."""
    calls = double.calls
    client = target.client()
    for _ in range(2):
        await _ask(client, target, "the same again")
    client.close()
    return double.calls == calls + 1


async def share(target: Ours, double: DoubleProcess, *, rounds: int, seconds: int, repeats: int) -> Sharing:
    second_key = await asyncio.to_thread(second_tenant, target.group)
    body = target.body("asked often", **DETERMINISTIC)
    return Sharing(
        hits=[await load(target, double, connections=1, seconds=seconds, body=body) for _ in range(rounds)],
        one_tenant=await at_once(target, double, "one tenant", keys=[target.key]),
        two_tenants=await at_once(target, double, "two tenants", keys=[target.key, second_key]),
        hit_ratio=await repeat(target, double, repeats),
    )


def second_tenant(group: Group) -> str:
    """Make somebody of another team; returns their key."""
    group.manage("shell", "--command", _SECOND_TENANT)
    return group.manage("create_api_key", "--user", SECOND_USER)


async def at_once(target: Ours, double: DoubleProcess, prompt: str, *, keys: Sequence[str]) -> int:
    """Ask the same thing many times at once, with keys by turns; returns how many calls the upstream got."""
    calls, clients = double.calls, [target.client(key=key) for key in keys]
    turns = itertools.islice(itertools.cycle(clients), EQUAL_CALLS)
    await asyncio.gather(*(_ask(client, target, prompt, knobs=SLOW) for client in turns))
    for client in clients:
        client.close()
    return double.calls - calls


async def repeat(target: Ours, double: DoubleProcess, count: int) -> float:
    """Ask as people do, some things often and most seldom; returns the share that the upstream did not get."""
    calls, questions, client = double.calls, iter(zipf(count)), target.client()

    async def user() -> None:
        for number in questions:
            await _ask(client, target, f"question {number}")

    async with asyncio.TaskGroup() as users:
        for _ in range(USERS):
            users.create_task(user())
    client.close()
    return 1 - (double.calls - calls) / count


def zipf(count: int) -> list[int]:
    """Draw questions by Zipf's law with exponent 1: the second one is asked half as often as the first, and so on."""
    ranks = range(1, PROMPTS + 1)
    return random.Random(SEED).choices(ranks, weights=[1 / rank for rank in ranks], k=count)


async def _ask(client: Client, target: Ours, prompt: str, *, knobs: str = "") -> None:
    tasks.expect(await client.request("POST", PATH, target.body(prompt, knobs=knobs, **DETERMINISTIC)), 200)
