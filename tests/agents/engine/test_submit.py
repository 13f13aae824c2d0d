import json
from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction

from agents.engine import admission, operations
from agents.engine.errors import AgentNotReady, ModelNotAvailable, NotFinished, QueueFull, SessionClosed
from agents.engine.submit import cancel, prepare, resubmit, submit
from agents.engine.writer import apply
from agents.models import Agent, AgentTask, ChatMessage, ChatSession, NodeModel, TaskEvent
from core.exceptions import IdempotencyConflict, InvalidInput
from core.models import Allowance, IdempotencyRecord, TokenUse
from tests.agents.engine.factories import (
    MODEL,
    make_agent,
    make_key,
    make_node,
    make_version,
    submit_task,
    succeed,
    take,
)
from tests.agents.engine.invariants import Snapshot, check

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


def disable(agent: Agent) -> None:
    agent.is_enabled = False


def lose_the_model(agent: Agent) -> None:
    for place in NodeModel.objects.all():
        place.is_available = False
        place.save()


def shorten_the_limit(agent: Agent) -> None:
    agent.make_live(make_version(agent, max_message_characters=1))


def close_the_session(agent: Agent) -> None:
    ChatSession.objects.update(closed_at="2030-01-01T00:00:00Z")


@pytest.mark.parametrize("change", [disable, lose_the_model, shorten_the_limit, close_the_session])
def test_a_repeated_request_gets_its_task_even_if_it_would_be_refused_by_now(change: Callable[[Agent], None]):
    make_node()
    agent = make_agent()
    session = submit_task(agent, starts_session=True).session
    key = make_key()
    first = submit(agent=agent, owner=agent.owner, input={"message": "hi"}, session=session, idempotency_key=key)
    change(agent)
    session.refresh_from_db()
    again = submit(agent=agent, owner=agent.owner, input={"message": "hi"}, session=session, idempotency_key=key)
    assert (again.task_id, again.is_replay, first.is_replay) == (first.task_id, True, False)
    with pytest.raises((AgentNotReady, ModelNotAvailable, InvalidInput, SessionClosed)):
        submit(agent=agent, owner=agent.owner, input={"message": "hi"}, session=session, idempotency_key=make_key())
    assert AgentTask.objects.count() == 2


def test_a_key_with_another_body_is_refused_and_makes_nothing():
    make_node()
    agent = make_agent()
    submit_task(agent, idempotency_key=make_key("k", "one"))
    with pytest.raises(IdempotencyConflict):
        submit_task(agent, idempotency_key=make_key("k", "two"))
    assert AgentTask.objects.count() == 1


def test_a_full_queue_refuses_and_leaves_no_record_behind(settings):
    settings.MAX_QUEUED_PER_MODEL = 2
    make_node(slots=1)
    agent = make_agent()
    for _ in range(3):  # one runs, two wait
        submit_task(agent)
    with pytest.raises(QueueFull):
        submit_task(agent, starts_session=True, idempotency_key=make_key("k"))
    assert AgentTask.objects.count() == 3
    assert not IdempotencyRecord.objects.exists()
    assert not ChatSession.objects.exists()
    assert cancel(AgentTask.objects.queued().first().pk)
    assert submit_task(agent, idempotency_key=make_key("k")).status == AgentTask.Status.QUEUED


def test_a_task_granted_at_birth_looks_like_any_other():
    make_node(slots=1)
    born, granted = submit_task(make_agent(), starts_session=True), submit_task(make_agent())
    succeed(take(born), "")
    granted.refresh_from_db()
    columns = ["status", "fence", "event_count", "runner", "node_id", "node_model_id", "announced_at", "started_at"]
    assert [getattr(born, name) for name in columns] == [getattr(granted, name) for name in columns]
    assert born.lease_until - born.granted_at == granted.lease_until - granted.granted_at
    data = [[json.loads(item.data) for item in task.events.order_by("number")[:2]] for task in (born, granted)]
    assert data[0][0] == {"status": "queued", "task": str(born.pk), "session": str(born.session_id)}
    assert data[0][1] == data[1][1]


def test_a_newcomer_does_not_overtake_those_who_wait_for_their_second_try(fake_clock):
    make_node(slots=1)
    agent = make_agent()
    first = submit_task(agent)
    ticket = take(first)
    change = operations.SendBack(ticket.task_id, ticket.fence, "again", counts="attempts", delay_seconds=5)
    assert apply(operations.send_back, [change]) == [True]
    fake_clock.advance(5)  # due, and nobody has looked yet
    newcomer = submit_task(agent)
    first.refresh_from_db()
    assert (first.status, newcomer.status) == ("running", "queued")


def test_a_conversation_goes_on_with_its_own_agent_only():
    make_node(slots=4)
    agent, other = make_agent(), make_agent()
    session = submit_task(agent, starts_session=True).session
    second = submit_task(agent, "and then?", session=session)
    messages = ChatMessage.objects.filter(session=session).order_by("id")
    assert [message.content for message in messages] == ["hello", "and then?"]
    assert second.session == session
    with pytest.raises(SessionClosed):
        submit_task(other, session=session)


@pytest.mark.parametrize(("before", "after"), [(0, 2), (1, 2), (2, 2), (3, 3)])
def test_what_is_submitted_again_waits_among_normal_tasks_or_in_the_background_as_before(before, after):
    make_node(slots=1)
    task = submit_task(make_agent(), priority=AgentTask.Priority(before))
    cancel(task.pk)
    task.refresh_from_db()
    assert AgentTask.objects.get(pk=resubmit(task, owner=task.owner).task_id).priority == after


def test_resubmitting_makes_a_new_task_and_leaves_the_old_one():
    make_node()
    task = submit_task(make_agent(), "a question")
    with pytest.raises(NotFinished):
        resubmit(task, owner=task.owner)
    assert cancel(task.pk)
    assert not cancel(task.pk)
    task.refresh_from_db()
    again = AgentTask.objects.get(pk=resubmit(task, owner=task.owner).task_id)
    assert (again.retry_of, again.input, again.status) == (task, {"message": "a question"}, "running")
    assert AgentTask.objects.get(pk=task.pk).status == "cancelled"


def test_what_is_refused_writes_nothing():
    agent = make_agent(model="missing:latest")
    with pytest.raises(ModelNotAvailable):
        submit_task(agent, starts_session=True)
    make_node(MODEL)
    with pytest.raises(InvalidInput):
        submit_task(make_agent(), " ")
    assert not any(model.objects.exists() for model in (AgentTask, TaskEvent, ChatSession, ChatMessage))


@pytest.mark.django_db(transaction=True)
def test_an_agent_that_is_deleted_under_a_submission_takes_no_task():
    make_node()
    agent = make_agent()
    remembered = Agent.objects.select_related("live_version").get(pk=agent.pk)
    Agent.objects.filter(pk=agent.pk).update(live_version=None)
    agent.versions.all().delete()
    agent.delete()
    with pytest.raises(AgentNotReady):
        submit(agent=remembered, owner=agent.owner, input={"message": "hello"})
    assert not AgentTask.objects.exists()


# Tried again ---------------------------------------------------------------------------------------------------------


def submission(agent: Agent, **asked: Any) -> admission.Submission:
    """What `submit` hands to the writer."""
    return prepare(agent=agent, owner=agent.owner, input={"message": "hi"}, starts_session=True, **asked)


def try_and_fail(change: admission.Submission) -> None:
    with transaction.atomic():
        apply(admission.submit, [change])
        transaction.set_rollback(True)


def test_a_submission_that_is_tried_again_is_written_as_if_for_the_first_time():
    make_node(slots=1)
    change = submission(make_agent())
    try_and_fail(change)
    assert apply(admission.submit, [change]) == [admission.Submitted(change.task.pk, is_replay=False)]
    check(Snapshot.read())
    assert AgentTask.objects.get().fence == 1


def test_a_slot_that_is_gone_at_the_second_try_is_not_taken():
    make_node(slots=1)
    agent = make_agent()
    change = submission(agent)
    try_and_fail(change)
    submit_task(agent)
    apply(admission.submit, [change])
    check(Snapshot.read())
    assert AgentTask.objects.get(pk=change.task.pk).status == "queued"


def test_a_submission_that_is_tried_again_is_charged_once():
    make_node(slots=1)
    agent = make_agent()
    Allowance.objects.create(user=agent.owner, tokens_per_day=2000)
    change = submission(agent)
    try_and_fail(change)
    for _ in range(2):  # the answer to the first was lost
        apply(admission.submit, [change])
    check(Snapshot.read())
    assert AgentTask.objects.get().reserved_tokens == TokenUse.objects.get(subject=f"user:{agent.owner_id}").tokens


@pytest.mark.parametrize("has_key", [False, True])
def test_a_submission_whose_commit_was_not_told_of_is_accepted_at_the_second_try(has_key):
    make_node(slots=1)
    change = submission(make_agent(), idempotency_key=make_key() if has_key else None)
    for _ in range(2):
        assert apply(admission.submit, [change]) == [admission.Submitted(change.task.pk, is_replay=False)]
    check(Snapshot.read())
    assert AgentTask.objects.count() == ChatMessage.objects.count() == 1
