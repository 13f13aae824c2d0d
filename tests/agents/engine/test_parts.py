"""Calls that several tasks answer: accepted together or not at all, counted as one, and found again as one."""

import uuid
from typing import Any

import pytest

from agents.engine import admission, answers, operations
from agents.engine.errors import QueueFull
from agents.engine.routing import is_same_everywhere
from agents.engine.submit import cancel, in_parts, prepare, resubmit
from agents.engine.writer import apply
from agents.kinds import KINDS
from agents.kinds.model_call import split
from agents.models import Agent, AgentTask, NodeModel
from core.access.limits.budgets import tokens_used
from core.access.limits.refusals import TokenBudgetExhausted, TooManyTasks
from core.access.limits.subjects import Subject
from core.models import Allowance, IdempotencyRecord, TokenUse
from tests.agents.engine.factories import MODEL, make_agent, make_key, make_node, submit_task, take
from tests.agents.engine.invariants import Snapshot, check

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

TEXTS = [f"text {number}" for number in range(5)]
KIND = KINDS["model_call"]


def divided(agent: Agent, **asked: Any) -> admission.Submission:
    """A call of five texts, at most two of them in a task."""
    wanted = {"operation": "embed", "input": TEXTS, "truncate": False}
    whole = prepare(agent=agent, owner=agent.owner, kind=KIND, input=wanted, **asked)
    return in_parts(whole, split(whole.task.input, 2))


def submit(submission: admission.Submission) -> admission.Submitted:
    (submitted,) = apply(admission.submit, [submission])
    if isinstance(submitted, Exception):
        raise submitted
    return submitted


def ids(submitted: admission.Submitted) -> list[uuid.UUID]:
    return [submitted.task_id, *(part.task_id for part in submitted.parts)]


def rows(submitted: admission.Submitted) -> list[AgentTask]:
    tasks = AgentTask.objects.in_bulk(ids(submitted))
    return [tasks[task_id] for task_id in ids(submitted)]


def test_a_call_is_divided_in_order_and_only_if_it_is_long():
    asked = {"operation": "embed", "input": TEXTS, "dimensions": 8}
    assert [part["input"] for part in split(asked, 2)] == [TEXTS[:2], TEXTS[2:4], TEXTS[4:]]
    assert all((part["operation"], part["dimensions"]) == ("embed", 8) for part in split(asked, 2))
    assert split(asked, 5) == [asked]
    chat = {"operation": "chat", "messages": []}
    assert split(chat, 1) == [chat]


def test_the_parts_are_spread_over_nodes_and_slots():
    make_node(slots=1)
    make_node(slots=1)
    submitted = submit(divided(make_agent()))
    tasks = rows(submitted)
    assert [task.input["input"] for task in tasks] == [TEXTS[:2], TEXTS[2:4], TEXTS[4:]]
    assert [task.status for task in tasks] == ["running", "running", "queued"]
    assert tasks[0].node_model_id != tasks[1].node_model_id
    assert answers.part_ids(submitted.task_id) == ids(submitted)[1:]
    assert answers.part_ids(submitted.parts[0].task_id) == []
    check(Snapshot.read())


def test_the_process_that_waits_is_given_each_part_that_has_a_slot():
    make_node(slots=2)
    submitted = submit(divided(make_agent(), reserved_for="host/1/1"))
    granted = [one.granted and one.granted.pk for one in (submitted, *submitted.parts)]
    assert granted == [*ids(submitted)[:2], None]
    assert {task.runner for task in rows(submitted)} == {"host/1/1", ""}


def test_the_same_request_again_finds_all_parts():
    make_node()
    agent, key = make_agent(), make_key()
    submitted = submit(divided(agent, idempotency_key=key))
    again = submit(divided(agent, idempotency_key=key))
    assert (again.task_id, again.is_replay, again.parts) == (submitted.task_id, True, ())
    assert answers.part_ids(again.task_id) == ids(submitted)[1:]
    assert AgentTask.objects.count() == 3


def test_nobody_takes_part_in_the_parts_of_another_call():
    make_node()
    agent = make_agent()
    first, second = divided(agent), divided(agent)
    for submission in (first, second):
        for number, task in enumerate((submission.task, *submission.parts)):
            task.request_key = f"equal {number}"
    assert not set(ids(submit(first))) & set(ids(submit(second)))
    assert AgentTask.objects.count() == 6


def test_a_try_whose_answer_was_lost_is_told_of_all_parts():
    make_node()
    submission = divided(make_agent())
    assert ids(submit(submission)) == ids(submit(submission))
    assert AgentTask.objects.count() == 3


def test_what_is_refused_leaves_no_part(settings):
    make_node(slots=1)
    agent = make_agent()
    submit_task(agent)
    submit_task(agent)
    settings.MAX_QUEUED_PER_MODEL = 1
    with pytest.raises(QueueFull):
        submit(divided(agent, idempotency_key=make_key()))
    Allowance.objects.create(user=agent.owner, tokens_per_day=1)
    settings.MAX_QUEUED_PER_MODEL = 10
    with pytest.raises(TokenBudgetExhausted):
        submit(divided(agent, idempotency_key=make_key()))
    assert AgentTask.objects.count() == 2
    assert not IdempotencyRecord.objects.exists()


def test_a_call_is_let_in_as_one_and_its_tasks_count_from_then_on():
    make_node()
    agent = make_agent()
    Allowance.objects.create(user=agent.owner, concurrent_tasks=1)
    submitted = submit(divided(agent))
    for task_id in ids(submitted):
        with pytest.raises(TooManyTasks):
            submit(divided(agent))
        assert cancel(task_id)
    assert len(ids(submit(divided(agent)))) == 3


def test_tokens_are_reserved_once_and_charged_for_each_part():
    make_node(slots=3)
    agent = make_agent(max_output_tokens=100)
    Allowance.objects.create(user=agent.owner, tokens_per_day=10_000)
    submission = divided(agent)
    assert submission.charge is not None
    submitted = submit(submission)
    reserved = [task.reserved_tokens for task in rows(submitted)]
    assert sum(reserved) == used(agent) == submission.charge.tokens
    assert max(reserved) - min(reserved) < len(reserved)
    for number, task in enumerate(rows(submitted), 1):
        fields = {"result": "", "prompt_tokens": number, "output_tokens": 0}
        end = operations.Finish(task.pk, take(task).fence, AgentTask.Status.SUCCEEDED, fields=fields)
        apply(operations.finish, [end])
    assert used(agent) == 1 + 2 + 3


def used(agent: Agent) -> int:
    check(Snapshot.read())
    subject = Subject("user", agent.owner_id)
    days = TokenUse.objects.filter(subject=str(subject)).values_list("day", flat=True)
    return sum(tokens_used([subject], day)[subject].in_day for day in days)


def test_a_part_can_be_submitted_again():
    make_node()
    submitted = submit(divided(make_agent()))
    for task in rows(submitted):
        cancel(task.pk)
    first = rows(submitted)[0]
    again = AgentTask.objects.get(pk=resubmit(first, owner=first.owner).task_id)
    assert again.input == first.asked != first.input  # the new one answers alone


def test_nodes_that_mean_different_models_by_a_name_share_no_call():
    one, other = make_node(), make_node()
    make_node("another:latest")
    assert is_same_everywhere(MODEL)
    NodeModel.objects.filter(node=one, name=MODEL).update(digest="a")
    assert not is_same_everywhere(MODEL)
    other.is_draining = True
    other.save()
    assert is_same_everywhere(MODEL)
