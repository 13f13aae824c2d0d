"""What became of the tasks of one fault, counted."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bench import tasks
from bench.chaos.load import Followed
from bench.client import Client, Following
from bench.group import Group
from tests.ollama_server import OllamaTestProcess

# Errors that blame a process of ours; any other is the model's or the asker's.
OUR_DEATHS = frozenset({"poison", "internal-error", "deadline-passed"})
PAGE_SIZE = 100

Rows = Mapping[str, Mapping[str, Any]]


@dataclass
class Verdict:
    """Counts of one fault. All of `broken()` must be zero.

    lost: accepted, but gone. duplicated: more tasks, or more ends of a task, than submissions.
    unexpected: tasks that nobody submitted. recovered: submitted, never acknowledged, and done nevertheless; allowed.
    unfinished: not ended in time. died: failed because a process of ours died.
    cut: succeeded with another answer than the whole one, or with one that its events do not make.
    misnumbered: followers that got an event twice, not at all, or out of order.
    rerun_seconds: from the death of a worker to the next output of each task that it was answering.
    wrong: what the fault itself found. skipped: why the fault could not be tried here.
    """

    fault: str
    submitted: int = 0
    accepted: int = 0
    requests: int = 0
    executions: int = 0
    succeeded: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    duplicated: int = 0
    unexpected: int = 0
    recovered: int = 0
    unfinished: int = 0
    died: int = 0
    cut: int = 0
    misnumbered: int = 0
    refused: int = 0
    reconnections: int = 0
    rerun_seconds: list[float] = field(default_factory=list)
    wrong: Counter[str] = field(default_factory=Counter)
    skipped: str = ""
    notes: list[str] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)

    def broken(self, rerun_limit_seconds: float) -> dict[str, int]:
        """The requirements that do not hold, and how often."""
        counts = {
            "lost": self.lost,
            "duplicated": self.duplicated,
            "unexpected": self.unexpected,
            "unfinished": self.unfinished,
            "died": self.died,
            "cut": self.cut,
            "misnumbered": self.misnumbered,
            "refused": self.refused,
            "rerun too late": sum(seconds > rerun_limit_seconds for seconds in self.rerun_seconds),
            **self.wrong,
        }
        return {name: count for name, count in counts.items() if count}

    def example(self, text: str) -> None:
        if len(self.examples) < 10:
            self.examples.append(text)


async def judge(
    fault: str,
    group: Group,
    ollama: OllamaTestProcess,
    followed: list[Followed],
    *,
    worker_kills: list[float],
    earlier: Collection[str],
) -> Verdict:
    """Compare what was promised with what the group has now.

    worker_kills: time.perf_counter() of each. earlier: ids of the tasks that were there before.
    """
    verdict = Verdict(fault, submitted=len(followed))
    client = Client(group.url, key=group.key)
    rows = {task: row for task, row in (await all_tasks(client)).items() if task not in earlier}
    for item in followed:
        await _judge_one(verdict, client, item, rows)
    client.close()
    _judge_strangers(verdict, followed, rows)
    started = ollama.stats()["prompts_started"]
    verdict.executions = sum(started.get(item.entry.prompt, 0) for item in followed)
    verdict.rerun_seconds = [seconds for item in followed for seconds in reruns(item.following, worker_kills)]
    return verdict


async def all_tasks(client: Client) -> dict[str, dict[str, Any]]:
    """Read every task that the API lists, by id."""
    rows: dict[str, dict[str, Any]] = {}
    path: str | None = f"/api/v1/tasks/?page_size={PAGE_SIZE}"
    while path:
        page = tasks.expect(await client.get(path), 200)
        rows.update((row["id"], row) for row in page["results"])
        path = page["next"] and "/api/" + page["next"].partition("/api/")[2]
    return rows


async def _judge_one(verdict: Verdict, client: Client, item: Followed, rows: Rows) -> None:
    entry = item.entry
    verdict.requests += entry.tries
    verdict.reconnections += max(0, item.connections - 1)
    if not entry.task:
        verdict.refused += bool(entry.refused)
        verdict.unfinished += not entry.refused
        verdict.example(f"{entry.prompt} was not accepted: {entry.refused or 'no answer'}")
        return
    verdict.accepted += 1
    row = rows.get(entry.task)
    if row is None:
        verdict.lost += 1
        verdict.example(f"{entry.task} is gone")
        return
    if row["status"] not in tasks.FINISHED:
        verdict.unfinished += 1
        verdict.example(f"{entry.task} is {row['status']}")
        return
    await tasks.follow(client, entry.task, item.replayed)
    _judge_events(verdict, item, row)
    _judge_end(verdict, item, row)


def _judge_events(verdict: Verdict, item: Followed, row: Mapping[str, Any]) -> None:
    """The follower that was cut off and came back, and one that comes late, must both have had everything once."""
    live, late = item.following, item.replayed
    ends = sum(event.is_last for event in late.events)
    verdict.duplicated += max(0, ends - 1)
    same = [(event.number, event.type, event.data) for event in live.events] == [
        (event.number, event.type, event.data) for event in late.events
    ]
    if item.wrong or not (same and live.is_gapless and late.is_gapless and late.is_complete):
        verdict.misnumbered += 1
        verdict.example(f"{row['id']}: {item.wrong or _numbers(live)} live, {_numbers(late)} late")


def _numbers(following: Following) -> str:
    return " ".join(f"{event.number}{event.type[0]}" for event in following.events[-30:])


def _judge_end(verdict: Verdict, item: Followed, row: Mapping[str, Any]) -> None:
    if row["status"] == "succeeded":
        verdict.succeeded += 1
        if not (row["result"] == tasks.expected_answer(item.entry.prompt) == item.replayed.text):
            verdict.cut += 1
            verdict.example(f"{row['id']}: {row['result']!r}")
        return
    code = (row["error"] or {}).get("code", row["status"])
    verdict.failed[code] += 1
    if code in OUR_DEATHS:
        verdict.died += 1
        verdict.example(f"{row['id']}: {row['error']}")


def _judge_strangers(verdict: Verdict, followed: list[Followed], rows: Rows) -> None:
    """Tasks that the ledger does not know: a second one for a submission, or one that nobody made."""
    known = {item.entry.task for item in followed}
    for row in rows.values():
        if row["id"] in known:
            continue
        mine = [item for item in followed if (row["result"] or "").find(item.entry.prompt) >= 0]
        if mine and mine[0].entry.task:
            verdict.duplicated += 1
        elif mine:
            verdict.recovered += 1
        else:
            verdict.unexpected += 1
        verdict.example(f"{row['id']} is in no ledger")


def reruns(following: Following, worker_kills: list[float]) -> Iterator[float]:
    """For each death of the worker while it answered: the seconds until the task had output again."""
    for killed_at in worker_kills:
        before = [event for event in following.events if event.received_at <= killed_at]
        after = [event for event in following.events if event.received_at > killed_at]
        was_answering = before and before[-1].type == "delta"
        start = next((number for number, event in enumerate(after) if _is_reset(event)), None)
        if was_answering and start is not None:
            outputs = (event for event in after[start:] if event.type == "delta" or event.is_last)
            again = next(outputs, None)
            if again is not None:
                yield again.received_at - killed_at


def _is_reset(event: Any) -> bool:
    return event.type == "state" and bool(event.json().get("reset"))
