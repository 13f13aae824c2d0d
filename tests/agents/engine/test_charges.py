"""What tasks are charged, from their submission to whatever end."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from agents.engine import caretaker, operations
from agents.engine.submit import cancel, resubmit, submit
from agents.engine.writer import apply
from agents.models import Agent, AgentTask
from core.access import api_keys
from core.access.limits.budgets import tokens_used
from core.access.limits.refusals import TokenBudgetExhausted, TooManyTasks
from core.access.limits.subjects import Subject
from core.models import Allowance, IdempotencyRecord, TokenUse
from tests.agents.engine.factories import (
    append,
    make_agent,
    make_key,
    make_node,
    send_back,
    submit_task,
    succeed,
    take,
)
from tests.agents.engine.invariants import Snapshot, check

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

Status = AgentTask.Status
ROOM = 100  # tokens for each answer
HELLO = 6  # tokens of the message, by estimate
COST = HELLO + ROOM


@pytest.fixture
def agent():
    make_node(slots=100)
    return make_agent(max_output_tokens=ROOM)


def budget(agent: Agent, **limits: int) -> Allowance:
    return Allowance.objects.create(user=agent.owner, **limits)


def used(agent: Agent) -> int:
    """What is counted for the owner; every check holds the counters against the rows."""
    check(Snapshot.read())
    subject = Subject("user", agent.owner_id)
    days = TokenUse.objects.filter(subject=str(subject)).values_list("day", flat=True)
    return sum(tokens_used([subject], day)[subject].in_day for day in days)


def end(task: AgentTask, status: "AgentTask.Status" = Status.SUCCEEDED, **more: Any) -> None:
    ticket = take(task)
    fields = {"result": "", **more} if status == Status.SUCCEEDED else {}
    code = "" if status == Status.SUCCEEDED else "no-luck"
    apply(operations.finish, [operations.Finish(task.pk, ticket.fence, status, fields=fields, error_code=code)])


def test_without_a_budget_nothing_is_reserved_or_counted(agent):
    task = submit_task(agent)
    end(task, prompt_tokens=5, output_tokens=7)
    task.refresh_from_db()
    assert (task.reserved_tokens, task.charged_tokens) == (None, None)
    assert not TokenUse.objects.exists()


def test_a_submission_reserves_the_prompt_and_the_room_for_the_answer(agent):
    budget(agent, tokens_per_day=1000)
    task = submit_task(agent)
    assert (task.reserved_tokens, task.charged_tokens) == (COST, None)
    assert used(agent) == COST


def test_an_answer_is_charged_what_the_model_counted(agent):
    budget(agent, tokens_per_day=1000)
    task = submit_task(agent)
    end(task, prompt_tokens=5, output_tokens=7)
    task.refresh_from_db()
    assert (task.reserved_tokens, task.charged_tokens) == (COST, 12)
    assert used(agent) == 12


def test_a_conversation_reserves_for_its_history_too(agent):
    budget(agent, tokens_per_day=10_000)
    first = submit_task(agent, starts_session=True)
    succeed(take(first), "x" * 350)  # 104 tokens, by estimate
    second = submit_task(agent, session=first.session)
    assert second.reserved_tokens == COST + HELLO + 104


@pytest.mark.parametrize("text", ["", "x" * 35])
@pytest.mark.parametrize("way", ["cancelled", "expired", "failed"])
def test_an_end_without_figures_is_charged_what_was_written(agent, fake_clock, way, text):
    budget(agent, tokens_per_day=1000)
    task = submit_task(agent)
    ticket = take(task)
    append(ticket, text)
    if way == "cancelled":
        cancel(task.pk)
    elif way == "expired":
        fake_clock.advance((task.deadline_at - fake_clock.now() + timedelta(seconds=1)).total_seconds())
        caretaker.reap()
    else:
        failure = operations.Finish(task.pk, ticket.fence, Status.FAILED, error_code="no-luck", error_detail="No.")
        apply(operations.finish, [failure])
    task.refresh_from_db()
    assert task.status == way
    assert task.charged_tokens == (HELLO + 14 if text else 0)
    assert used(agent) == task.charged_tokens


def test_a_task_that_was_never_run_costs_nothing(agent):
    budget(agent, tokens_per_day=1000)
    task = submit_task(agent)
    cancel(task.pk)
    assert used(agent) == 0


def test_a_killed_worker_changes_nothing_until_the_task_ends(agent, fake_clock):
    budget(agent, tokens_per_day=1000)
    task = submit_task(agent)
    append(take(task, "elsewhere/1/1"), "half an answer")
    fake_clock.advance(100)
    caretaker.reap()
    task.refresh_from_db()
    assert task.interruptions == 1
    assert used(agent) == COST
    end(task, prompt_tokens=5, output_tokens=7)
    assert used(agent) == 12


def test_a_run_that_lost_its_task_settles_nothing(agent):
    budget(agent, tokens_per_day=1000)
    task = submit_task(agent)
    lost = take(task)
    send_back(lost)
    end(task, prompt_tokens=5, output_tokens=7)
    succeed(lost, "too late")
    assert used(agent) == 12


def test_a_budget_that_is_exhausted_refuses_until_the_day_is_over(agent, fake_clock):
    budget(agent, tokens_per_day=2 * COST)
    fake_clock.advance(3600)
    tasks = [submit_task(agent) for _ in range(2)]
    with pytest.raises(TokenBudgetExhausted) as refused:
        submit_task(agent, starts_session=True, idempotency_key=make_key("k"))
    assert not IdempotencyRecord.objects.exists()
    assert AgentTask.objects.count() == 2
    fake_clock.advance(refused.value.retry_after_seconds)
    assert submit_task(agent, idempotency_key=make_key("k")).reserved_tokens == COST
    cancel(tasks[0].pk)  # a task of yesterday
    assert used(agent) == 2 * COST


def test_a_month_that_is_exhausted_refuses_until_it_is_over(agent, fake_clock):
    budget(agent, tokens_per_month=2 * COST + 12)
    first = submit_task(agent)
    fake_clock.advance(24 * 3600)
    submit_task(agent)
    with pytest.raises(TokenBudgetExhausted):
        submit_task(agent)
    end(first, prompt_tokens=5, output_tokens=7)
    assert submit_task(agent).reserved_tokens == COST  # in the room that the first did not need
    with pytest.raises(TokenBudgetExhausted) as refused:
        submit_task(agent)
    fake_clock.advance(refused.value.retry_after_seconds)
    assert (fake_clock.now().month, fake_clock.now().day) == (2, 1)
    assert submit_task(agent).reserved_tokens == COST
    assert used(agent) == 3 * COST + 12


def test_a_repeated_request_is_charged_once(agent):
    budget(agent, tokens_per_day=COST)
    key = make_key()
    first, again = submit_task(agent, idempotency_key=key), submit_task(agent, idempotency_key=key)
    assert first == again
    assert used(agent) == COST


def test_a_budget_that_is_taken_away_leaves_open_tasks_to_be_settled(agent):
    row = budget(agent, tokens_per_day=1000)
    task = submit_task(agent)
    row.delete()
    end(task, prompt_tokens=5, output_tokens=7)
    assert used(agent) == 12


def test_a_key_is_counted_for_what_it_submitted(agent):
    key, _ = api_keys.issue(agent.owner)
    Allowance.objects.create(key=key, tokens_per_day=COST, concurrent_tasks=1)
    task = submit_task(agent, api_key=key)
    assert task.api_key == key
    with pytest.raises(TooManyTasks):
        submit_task(agent, api_key=key)
    assert submit_task(agent).reserved_tokens is None
    end(task, prompt_tokens=COST, output_tokens=0)
    task.refresh_from_db()
    with pytest.raises(TokenBudgetExhausted):
        resubmit(task, owner=agent.owner, api_key=key)


def test_a_team_shares_its_limits(agent):
    Allowance.objects.create(team=agent.owner.team, concurrent_tasks=2)
    submit_task(agent)
    submit_task(make_agent())
    with pytest.raises(TooManyTasks):
        submit_task(make_agent())


def test_a_task_that_ends_makes_room_for_another(agent):
    budget(agent, concurrent_tasks=1)
    task = submit_task(agent)
    with pytest.raises(TooManyTasks) as refused:
        submit_task(agent)
    assert refused.value.retry_after_seconds
    cancel(task.pk)
    assert submit_task(agent).status == Status.RUNNING


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("has_writer", [True, False], ids=["one process", "as many processes"])
@pytest.mark.parametrize(
    "limits",
    [{"tokens_per_day": 10 * COST}, {"tokens_per_month": 10 * COST}, {"concurrent_tasks": 10}],
    ids=["tokens a day", "tokens a month", "tasks"],
)
def test_of_fifty_at_once_ten_pass_where_there_is_room_for_ten(request, limits, has_writer):
    """Without the writer each thread has a transaction of its own, as processes would."""
    if has_writer:
        request.getfixturevalue("started_writer")
    agents = [make_agent(max_output_tokens=ROOM, model=name) for name in ("one:latest", "two:latest")]
    owner = agents[0].owner
    make_node("one:latest", slots=3)
    make_node("two:latest", slots=100)
    Allowance.objects.create(user=owner, **limits)

    def ask(number: int) -> bool:
        try:
            submit(agent=agents[number % 2], owner=owner, input={"message": "hello"})
        except (TokenBudgetExhausted, TooManyTasks):
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(25) as pool:
        assert sum(pool.map(ask, range(50))) == 10
    assert AgentTask.objects.count() == 10
    check(Snapshot.read())
