"""What `manage.py capacity` predicts, beside what a real queue does.

Tasks come by chance at a chosen rate to a test server whose answers take times that were drawn before. Afterwards the
command is asked, as an operator would ask it, how long tasks wait at the rate at which they came; the rows tell how
long they did.
"""

import argparse
import asyncio
import json
import math
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench import report, tasks
from bench.client import Client
from bench.figures import percentile
from bench.group import Group, full_backends, running_group
from bench.report import say
from tests.ollama_server import OllamaTestProcess

SLOTS = 4
MEAN_SECONDS = 1.0
SECONDS = 300.0
UTILISATIONS = (0.5, 0.7, 0.8)
SEED = 1909
# The queue is empty at first; what came then is left out.
BEGINNING = 0.1
PATIENCE_SECONDS = 120
_WAITS = (
    "import json; from agents.models import AgentTask;"
    "rows = AgentTask.objects.filter(model='{model}').order_by('id').values_list('created_at', 'granted_at');"
    "print(json.dumps([(granted - created).total_seconds() for created, granted in rows]))"
)

Draw = Callable[[random.Random], float]


def _exponential(chance: random.Random) -> float:
    return chance.expovariate(1 / MEAN_SECONDS)


def _lognormal(chance: random.Random) -> float:
    """Half as variable, with a long tail, as answers of one kind of question are."""
    variability = 0.5
    sigma = math.sqrt(math.log(1 + variability))
    return chance.lognormvariate(math.log(MEAN_SECONDS) - sigma**2 / 2, sigma)


TIMES: dict[str, Draw] = {"exponential": _exponential, "lognormal": _lognormal}


@dataclass(frozen=True)
class Case:
    """Tasks of a kind, and how busy the slots are to be. model: of its own, so that nothing mixes."""

    times: str
    utilisation: float

    @property
    def model(self) -> str:
        return f"{self.times}-{100 * self.utilisation:.0f}:latest"

    @property
    def per_second(self) -> float:
        return self.utilisation * SLOTS / MEAN_SECONDS


@dataclass(frozen=True)
class Compared:
    """What was predicted of a case, by the command, and how long its tasks really waited, in seconds.

    late: by how much later than drawn tasks were submitted.
    """

    case: Case
    predicted: dict[str, Any]
    waits: Sequence[float]
    late: Sequence[float]


CASES = tuple(Case(times, utilisation) for times in TIMES for utilisation in UTILISATIONS)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.load.waits", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long tasks of each case come")
    arguments = parser.parse_args()
    is_whole = arguments.seconds == SECONDS
    surroundings = report.surroundings(
        "python -m bench.load.waits" + ("" if is_whole else f" --seconds {arguments.seconds:g}")
    )
    compared = measure(CASES, arguments.seconds)
    text = "\n\n".join([surroundings, waits_table(compared, arguments.seconds)])
    print(f"\n{text}")
    if is_whole:
        report.write_section("waits", text)
    return 0


def measure(cases: Sequence[Case], seconds: float) -> list[Compared]:
    models = [part for case in cases for part in ("--model", case.model)]
    with (
        full_backends() as backends,
        OllamaTestProcess("--parallel", "64", "--max-loaded", "64", "--max-queue", "10000", *models) as ollama,
        running_group(backends, ollama, slots=SLOTS) as group,
    ):
        return [_compare(group, case, seconds) for case in cases]


def _compare(group: Group, case: Case, seconds: float) -> Compared:
    late = asyncio.run(_run(group, case, seconds))
    per_minute = 60 * len(late) / seconds
    told = json.loads(
        group.manage("capacity", "--json", "--model", case.model, "--per-minute", str(per_minute), "--hours", "1")
    )
    waits = json.loads(group.manage("shell", "--no-imports", "--command", _WAITS.format(model=case.model)))
    compared = Compared(case, told["models"][0]["plan"], waits[int(BEGINNING * len(waits)) :], late)
    say(f"{case.model}: {len(late)} tasks, " + ", ".join(_cells(compared)))
    return compared


async def _run(group: Group, case: Case, seconds: float) -> list[float]:
    """Submit tasks whenever they are due, and wait until all have ended; returns by how many seconds each was late."""
    client = Client(group.url, key=group.key)
    agent = case.model.partition(":")[0]
    version = {"model": case.model}
    made = await client.request("POST", "/api/v1/agents/", {"name": agent, "kind": "chat", "version": version})
    tasks.expect(made, 201)
    chance, draw = random.Random(SEED), TIMES[case.times]
    due, began, late = 0.0, time.monotonic(), list[float]()
    submitting: list[asyncio.Task[None]] = []
    while (due := due + chance.expovariate(case.per_second)) < seconds:
        await asyncio.sleep(max(0.0, began + due - time.monotonic()))
        late.append(time.monotonic() - began - due)
        prompt = f"[[t1-f{1000 * draw(chance):.0f}]] question {len(submitting)}"
        submitting.append(asyncio.create_task(_submit(client, agent, prompt)))
    await asyncio.gather(*submitting)
    await _all_ended(client)
    client.close()
    return late


async def _submit(client: Client, agent: str, prompt: str) -> None:
    body = {"agent": agent, "input": {"message": prompt}}
    tasks.expect(await client.request("POST", "/api/v1/tasks/", body), 202)


async def _all_ended(client: Client) -> None:
    limit = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < limit:
        left = tasks.expect(await client.get("/api/v1/tasks/?status=queued&status=running&page_size=1"), 200)
        if not left["results"]:
            return
        await asyncio.sleep(0.5)
    raise tasks.UnexpectedAnswerError(f"not all tasks ended within {PATIENCE_SECONDS} s")


def waits_table(compared: Sequence[Compared], seconds: float) -> str:
    head = (
        "times", "tasks", "utilisation", "waiting at all: predicted", "measured", "mean wait: predicted", "measured",
        "P95: predicted", "measured",
    )  # fmt: skip
    rows = [(item.case.times, str(len(item.waits)), *_cells(item)) for item in compared]
    settings = (
        f"{SLOTS} slots; answers of {MEAN_SECONDS:g} s on average, exponential or lognormal (half the variance); "
        f"{seconds:g} s for each line, of which the first tenth is left out. Tasks were sent "
        f"{1000 * percentile([one for item in compared for one in item.late], 0.99):.1f} ms late (P99)."
    )
    return f"{report.table(head, rows)}\n\n{settings}"


def _cells(compared: Compared) -> list[str]:
    """Waits that took no longer than writing a row does are none."""
    predicted, waits = compared.predicted, compared.waits
    if predicted["mean_wait_seconds"] is None:
        return [f"{100 * predicted['utilisation']:.0f} %", *["grows for ever", ""] * 3]
    return [
        f"{100 * predicted['utilisation']:.0f} %",
        f"{100 * predicted['wait_probability']:.0f} %",
        f"{100 * sum(wait > 0 for wait in waits) / len(waits):.0f} %",
        f"{predicted['mean_wait_seconds']:.3f} s",
        f"{sum(waits) / len(waits):.3f} s",
        f"{predicted['p95_wait_seconds']:.2f} s",
        f"{percentile(waits, 0.95):.2f} s",
    ]


if __name__ == "__main__":
    sys.exit(main())
