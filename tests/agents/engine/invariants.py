"""What must hold of the engine's rows at every moment, whatever was done to it.

I1   what was acknowledged has a row                        machine: rows_events_and_past_agree
I2   an end is final; one result at most                    check_step, _check_path
I3   the fence grows; stale writes change nothing           check_step, _check_path; machine: append, finish, renew
I4   a task has one live lease at most                      _check_columns; machine: _begin
I5   attempts are limited; poison only after dying alone    test_execution, test_isolation
I6   nothing starts after a cancellation                    _check_path, _check_columns; machine: nonsense
I7   past its deadline a task ends within 10 s              machine: _reap (it runs every 5 s)
I8   every grant is announced in bounded time               machine: _relay
I9   the same idempotency key means the same task           machine: _submit
I10  the same effect happens once                           machine: _begin (no kind has effects but its answer yet)
I11  lost, repeated and reordered messages change nothing   machine: deliver, with answer_to
I12  steps are lawful, and each has its event               _check_path, _check_numbers
I13  without faults one worker ends everything              machine: _recover
I14  counted tokens are those of the tasks, each once       _check_charges
I15  classes are strict, each person's tasks stay in order  _check_order
I16  virtual time never goes back                           check_step
I17  a node runs no more models than it holds               _check_slots
"""

import json
import math
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from agents.models import AgentTask, ChatMessage, NodeModel, QueueShare, TaskEvent
from core.access.limits.budgets import Used, tokens_used
from core.access.limits.subjects import Subject
from core.models import TokenUse

Status = AgentTask.Status


@dataclass(frozen=True)
class Snapshot:
    """All tasks and all events at one moment."""

    tasks: dict[uuid.UUID, dict[str, Any]]
    events: dict[uuid.UUID, list[TaskEvent]]
    passed: dict[tuple[str, str], float] = field(default_factory=dict)

    @classmethod
    def read(cls) -> "Snapshot":
        tasks = {row["id"]: row for row in AgentTask.objects.order_by("pk").values()}
        events: dict[uuid.UUID, list[TaskEvent]] = {task_id: [] for task_id in tasks}
        for item in TaskEvent.objects.order_by("task_id", "number"):
            events[item.task_id].append(item)
        passed = {(share.model, share.subject): share.passed for share in QueueShare.objects.all()}
        return cls(tasks, events, passed)


def check(snapshot: Snapshot) -> None:
    """Raise AssertionError where any row contradicts its events or another row."""
    for task_id, row in snapshot.tasks.items():
        _check_numbers(row, snapshot.events[task_id])
        _check_path(row, snapshot.events[task_id])
        _check_columns(row)
        _check_receipt(row)
    _check_slots(snapshot)
    _check_messages(snapshot)
    _check_charges(snapshot)


def _check_numbers(row: dict[str, Any], events: Sequence[TaskEvent]) -> None:
    assert [item.number for item in events] == list(range(1, row["event_count"] + 1)), "I12: event numbers have gaps"


def _check_path(row: dict[str, Any], events: Sequence[TaskEvent]) -> None:
    """Walk through the events: each must be a lawful step, and the last must lead to where the row is."""
    status, text, error_code, fence, resets = "", "", "", 0, 0
    for item in events:
        data = json.loads(item.data)
        assert status not in AgentTask.FINISHED_STATUSES, "I2: something happened after the end"
        if item.type == TaskEvent.Type.DELTA:
            assert status == Status.RUNNING, "I12: text without a run"
            assert data["text"], "an empty piece of text"
            text += data["text"]
            continue
        step = (status, data["status"])
        error_code = data.get("code", "")
        if item.type == TaskEvent.Type.STATE:
            assert step in {("", Status.QUEUED), (Status.QUEUED, Status.RUNNING), (Status.RUNNING, Status.QUEUED)}, (
                f"I12: {step}"
            )
            is_restart = step == (Status.RUNNING, Status.QUEUED)
            assert bool(data.get("reset")) is is_restart
            fence += step[1] == Status.RUNNING
            resets += is_restart
            text = "" if is_restart else text
        elif item.type == TaskEvent.Type.DONE:
            assert step == (Status.RUNNING, Status.SUCCEEDED), f"I12: {step}"
        else:
            assert step[0] in {Status.QUEUED, Status.RUNNING}, f"I12: {step}"
            assert step[1] in {Status.FAILED, Status.CANCELLED, Status.EXPIRED}, f"I12: {step}"
            assert step != (Status.QUEUED, Status.FAILED), "I12: a task failed that did not run"
        status = data["status"]
    assert (row["status"], row["error_code"]) == (status, error_code), "I12: a step without an event"
    assert row["fence"] == fence, "I3: the fence counts the grants"
    assert row["attempts"] + row["interruptions"] <= resets
    assert row["result"] == (text if status == Status.SUCCEEDED else None), "I2: the answer differs from its events"


def _check_columns(row: dict[str, Any]) -> None:
    is_running = row["status"] == Status.RUNNING
    assert (row["lease_until"] is not None) is is_running, "I4: a lease without a run, or a run without a lease"
    assert is_running or row["runner"] == ""
    assert not is_running or row["node_model_id"] is not None
    assert row["status"] != Status.QUEUED or row["node_model_id"] is None, "a waiting task holds a slot"
    assert (row["finished_at"] is not None) is (row["status"] in AgentTask.FINISHED_STATUSES)
    assert bool(row["error_code"]) is (row["status"] in {Status.FAILED, Status.CANCELLED, Status.EXPIRED})
    if row["runner"]:
        assert row["started_at"] is not None


def _check_receipt(row: dict[str, Any]) -> None:
    if row["finished_at"] is None:
        assert row["receipt"] is None
        return
    wall = (row["finished_at"] - row["created_at"]).total_seconds()
    phases = [phase["seconds"] for phase in row["receipt"]["phases"]]
    assert all(seconds >= 0 for seconds in phases)
    assert math.isclose(sum(phases), wall, abs_tol=1e-5), "the receipt's phases do not add up"
    assert math.isclose(row["receipt"]["wall_seconds"], wall, abs_tol=1e-6)


def _check_slots(snapshot: Snapshot) -> None:
    taken = Counter(row["node_model_id"] for row in snapshot.tasks.values() if row["status"] == Status.RUNNING)
    models_of: Counter[uuid.UUID] = Counter()
    for place in NodeModel.objects.filter(pk__in=taken).select_related("node"):
        models_of[place.node_id] += 1
        most = place.node.max_loaded_models
        assert most is None or models_of[place.node_id] <= most, f"I17: {place.node} runs more models than it holds"
        assert taken[place.pk] <= place.node.slots, f"{taken[place.pk]} tasks in {place.node.slots} slots of {place}"
        for row in snapshot.tasks.values():
            if row["node_model_id"] == place.pk:
                assert (row["model"], row["node_id"]) == (place.name, place.node_id)


def _check_messages(snapshot: Snapshot) -> None:
    answers = dict(ChatMessage.objects.filter(role=ChatMessage.Role.ASSISTANT).values_list("task_id", "content"))
    expected = {
        task_id: row["result"]
        for task_id, row in snapshot.tasks.items()
        if row["session_id"] and row["status"] == Status.SUCCEEDED
    }
    assert answers == expected, "the conversation differs from the tasks' results"


def _check_charges(snapshot: Snapshot) -> None:
    expected: Counter[tuple[str, date]] = Counter()
    for row in snapshot.tasks.values():
        has_ended = row["status"] in AgentTask.FINISHED_STATUSES
        assert (row["charged_tokens"] is not None) is (has_ended and row["reserved_tokens"] is not None)
        if row["reserved_tokens"] is not None:
            tokens = row["charged_tokens"] if has_ended else row["reserved_tokens"]
            for kind, column in (("key", "api_key_id"), ("user", "owner_id"), ("team", "team_id")):
                if row[column]:
                    expected[f"{kind}:{row[column]}", row["created_at"].date()] += tokens
    counted = {(use.subject, use.day): use.tokens for use in TokenUse.objects.all() if use.tokens}
    assert counted == +expected, "I14: the counters differ from the tasks"
    for team_id, day in {(row["team_id"], row["created_at"].date()) for row in snapshot.tasks.values()}:
        team = Subject("team", team_id)
        days = {other: tokens for (subject, other), tokens in expected.items() if subject == str(team)}
        of_month = sum(tokens for other, tokens in days.items() if other.replace(day=1) == day.replace(day=1))
        used = tokens_used([team], day).get(team, Used())
        assert used == (days.get(day, 0), of_month), "I14: budgets count something else"


def check_step(before: Snapshot, after: Snapshot, now: datetime) -> None:
    """Raise AssertionError where the way from one moment to the next was unlawful."""
    granted: list[dict[str, Any]] = []
    for task_id, old in before.tasks.items():
        new = after.tasks[task_id]
        if old["status"] in AgentTask.FINISHED_STATUSES:
            assert new == old, "I2: a finished task changed"
        for counter in ("fence", "event_count", "attempts", "interruptions"):
            assert new[counter] >= old[counter], f"I3: {counter} went back"
        past = [(item.type, item.data) for item in before.events[task_id]]
        assert [(item.type, item.data) for item in after.events[task_id]][: len(past)] == past, "I12: an event changed"
    for task_id, new in after.tasks.items():
        if new["fence"] > before.tasks.get(task_id, {"fence": 0})["fence"]:
            granted.append(new)
            was = before.tasks.get(task_id)
            is_fresh = was is None or was["status"] != Status.QUEUED  # it was sent back within this very step
            assert is_fresh or is_due(was, now), "I6: a task was started that was not due"
    for subject, passed in before.passed.items():
        assert after.passed[subject] >= passed, f"I16: {subject}"
    _check_order(before, after, granted, now)


def _check_order(before: Snapshot, after: Snapshot, granted: list[dict[str, Any]], now: datetime) -> None:
    """Nobody granted overtook a higher class, or an older task of the same person, that waited and still waits."""
    started = [old for row in granted if (old := before.tasks.get(row["id"])) and old["status"] == Status.QUEUED]
    for task_id, row in after.tasks.items():
        has_waited = task_id in before.tasks and row == before.tasks[task_id] and row["status"] == Status.QUEUED
        if has_waited and is_due(row, now):
            for other in (old for old in started if old["model"] == row["model"]):
                is_same_person = other["owner_id"] == row["owner_id"]
                mine, theirs = (class_of(task, now) for task in (row, other))
                assert theirs <= mine, f"I15: {other['id']} overtook {task_id} of a higher class"
                assert theirs < mine or not is_same_person or other["id"] < task_id, f"I15: {other['id']}, {task_id}"


def class_of(row: dict[str, Any], now: datetime) -> int:
    """The class that a task waits in after so long."""
    minutes = int((now - row["created_at"]).total_seconds() // 60)
    return row["priority"] if row["priority"] <= 1 else max(1, row["priority"] - minutes)


def is_due(row: dict[str, Any], now: datetime) -> bool:
    return row["deadline_at"] > now and (row["run_after"] is None or row["run_after"] <= now)
