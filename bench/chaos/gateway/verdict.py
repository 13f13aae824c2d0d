"""What became of the calls of one fault, counted."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench import tasks
from bench.chaos.gateway.calls import Call, Outcome
from bench.chaos.gateway.scene import CallScene
from bench.chaos.verdict import all_tasks
from bench.client import Following
from tests.program import ProgramError

Row = Mapping[str, Any]

INTERNAL_ERROR = 500
UNAVAILABLE = (502, 503)
INVARIANTS = "from tests.agents.engine.invariants import Snapshot, check; check(Snapshot.read())"
# What calls may tell of their tasks; whoever left knows nothing.
STATUS_OF_TASK = {
    Outcome.ANSWERED: {"succeeded"},
    Outcome.REFUSED: {"failed", "expired", "cancelled"},
}


@dataclass
class CallVerdict:
    """Counts of one fault. All of `broken()` must be zero.

    unexcused: calls that ended as they must not. late: that waited longer than the fault excuses. untold: refused
    without a word on when to come again. unfinished: tasks that did not end. disagreeing: tasks that ended otherwise
    than their callers were told, or that nobody asked for. wrong: what the fault itself found.
    """

    fault: str
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    refusals: Counter[int] = field(default_factory=Counter)
    unexcused: int = 0
    late: int = 0
    untold: int = 0
    unfinished: int = 0
    disagreeing: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    longest_wait: float = 0.0
    notes: list[str] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)

    def broken(self) -> dict[str, int]:
        """The requirements that do not hold, and how often."""
        counts = {
            "unexcused": self.unexcused,
            "late": self.late,
            "untold": self.untold,
            "unfinished": self.unfinished,
            "disagreeing": self.disagreeing,
            **self.wrong,
        }
        return {name: count for name, count in counts.items() if count}

    def example(self, text: str) -> None:
        if len(self.examples) < 10:
            self.examples.append(text)


async def look_again(scene: CallScene) -> None:
    """Once all is over: what the engine promises of its rows, the events of each call, and one answer for each key."""
    for server in scene.servers:
        try:
            await asyncio.to_thread(server.wait_for, lambda stats: stats["in_flight"] == 0)
        except AssertionError as error:
            scene.blame("slot kept", f"{server.url}: {error}")
    rows = await all_tasks(scene.callers.client)
    known = [call for call in scene.calls if call.task in rows]
    for call in known:
        await _read_events(scene, call, rows[call.task])
    for call in known:
        if call.key and not call.has_left:
            await _call_again(scene, call, rows[call.task])
    try:
        await asyncio.to_thread(scene.group.manage, "shell", "--command", INVARIANTS)
    except ProgramError as error:
        scene.blame("invariant", str(error).splitlines()[-1])


async def _read_events(scene: CallScene, call: Call, row: Row) -> None:
    """Whoever comes back for a call's task gets each of its events once, and its answer."""
    following = Following()
    await tasks.follow(scene.callers.client, call.task, following)
    is_whole = row["status"] != "succeeded" or following.text == row["result"] == tasks.expected_answer(call.prompt)
    if not (following.is_gapless and following.is_complete and is_whole):
        scene.blame("misnumbered", f"{call}: the events of its task, {row['status']}: {following.text!r}")


async def _call_again(scene: CallScene, call: Call, row: Row) -> None:
    """The same call with the same key is the same task, and gets its answer if it has one."""
    again = Call(call.wire, call.prompt, call.streams, call.key)
    await again.make(scene.callers.client)
    allowed = {Outcome.ANSWERED} if row["status"] == "succeeded" else {Outcome.REFUSED, Outcome.BROKEN_OFF}
    if again.task != call.task or again.outcome not in allowed:
        scene.blame("not once", f"{call}, its task {row['status']}; again: {again}, task {again.task or 'unknown'}")


async def judge(fault: str, scene: CallScene, earlier: set[str]) -> CallVerdict:
    """Compare what clients heard with what they may have, and with the tasks. earlier: tasks of before."""
    verdict = CallVerdict(fault, wrong=scene.wrong, notes=scene.notes, examples=scene.examples[:10])
    patience = scene.patience_seconds + scene.scale.late_seconds
    for call in scene.calls:
        _judge_call(verdict, call, struck_at=scene.struck_at, patience_seconds=patience)
    rows = {task: row for task, row in (await all_tasks(scene.callers.client)).items() if task not in earlier}
    for call in scene.calls:
        row, allowed = rows.get(call.task), STATUS_OF_TASK.get(call.outcome)
        if row is not None and allowed is not None and row["status"] not in allowed:
            verdict.disagreeing += 1
            verdict.example(f"{call}, and its task {row['status']}")
    verdict.disagreeing += max(0, len(rows) - len(scene.calls))
    verdict.unfinished = sum(row["status"] not in tasks.FINISHED for row in rows.values())
    return verdict


def _judge_call(verdict: CallVerdict, call: Call, *, struck_at: float, patience_seconds: float) -> None:
    outcome = call.outcome
    verdict.outcomes[outcome] += 1
    if outcome not in call.may:
        verdict.unexcused += 1
        verdict.example(str(call))
    if outcome is Outcome.REFUSED:
        verdict.refusals[call.status] += 1
        if call.status == INTERNAL_ERROR:
            verdict.wrong["status 500"] += 1
            verdict.example(str(call))
        if call.status in UNAVAILABLE and "retry-after" not in call.headers:
            verdict.untold += 1
            verdict.example(str(call))
    if call.began_at:
        waited = call.waited(struck_at)
        verdict.longest_wait = max(verdict.longest_wait, waited)
        if waited > patience_seconds:
            verdict.late += 1
            verdict.example(f"{call} waited {waited:.1f} s")
