import itertools
import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from agents.engine import answers, pruning, submit
from agents.engine.events import encode
from agents.engine.follow import read_events
from agents.models import AgentTask, ChatMessage, ChatSession, Node, NodeModel, QueueShare, TaskEvent
from core.models import MaintenanceRun
from core.models.base import uuid7_from
from core.ops import maintenance
from tests.factories import make_agent, make_builtin_node, make_node, make_session, make_task, make_user
from tests.ollama_server import OllamaTestServer

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

Status = AgentTask.Status


def run(job):
    row = maintenance.run(job, trigger=MaintenanceRun.Trigger.COMMAND)
    assert row.status == "succeeded", row.error
    return row


_milliseconds = itertools.count()


def days_ago(days):
    return timezone.now() - timedelta(days=days)


def rest(session, **idle):
    ChatSession.objects.filter(pk=session.pk).update(last_active_at=timezone.now() - timedelta(**idle))


def test_sessions_that_nobody_wrote_to_for_long_are_closed(settings):
    settings.CHAT_SESSION_IDLE_HOURS = 24
    owner = make_user()
    idle, lively = make_session(owner), make_session(owner)
    rest(idle, hours=24, seconds=1)
    rest(lively, hours=23, minutes=59)
    assert maintenance.preview("close_idle_chat_sessions") == "It would close 1 sessions."
    row = run("close_idle_chat_sessions")
    assert [session.pk for session in ChatSession.objects.filter(closed_at=None)] == [lively.pk]
    assert (row.before, row.after) == ({"open_chat_sessions": 2}, {"open_chat_sessions": 1})


def test_a_closed_session_keeps_its_moment():
    moment = timezone.now() - timedelta(days=9)
    session = make_session(make_user(), closed_at=moment)
    rest(session, days=9)
    assert run("close_idle_chat_sessions").summary == "Closed 0 sessions."
    session.refresh_from_db()
    assert session.closed_at == moment


def test_a_session_with_an_unfinished_task_is_not_idle():
    make_builtin_node()
    owner = make_user()
    session = make_session(owner)
    task = make_task(owner, session.agent, session=session)
    rest(session, days=9)
    run("close_idle_chat_sessions")
    session.refresh_from_db()
    assert session.closed_at is None
    submit.cancel(task.pk)
    run("close_idle_chat_sessions")
    session.refresh_from_db()
    assert session.closed_at is not None


def test_models_of_all_nodes_are_read_again():
    with OllamaTestServer(models=["tiny", "large"]) as server:
        there = make_node(url=server.url, models=("removed:latest",), status=Node.Status.DOWN)
        gone = make_node(url="http://127.0.0.1:9")
        names = ", ".join(sorted([there.name, gone.name]))
        assert maintenance.preview("refresh_models") == f"It would ask 2 nodes: {names}."
        row = run("refresh_models")
    there.refresh_from_db()
    gone.refresh_from_db()
    assert (there.status, gone.status) == ("up", "down")
    available = NodeModel.objects.filter(node=there, is_available=True)
    assert set(available.values_list("name", flat=True)) == {"tiny:latest", "large:latest"}
    assert row.summary == f"Asked 2 nodes. No answer from: {gone.name}."
    assert row.after == {"nodes_up": 1, "models": 2}


def test_the_built_in_model_is_not_asked():
    make_builtin_node()
    make_agent()
    assert run("refresh_models").summary == "Asked 0 nodes."
    assert maintenance.preview("refresh_models") == "There is no node to ask."


# What is kept of old tasks


def ended(owner, *, days, pieces=(), session=None, status=Status.SUCCEEDED):
    """A task that was submitted and ended so long ago; pieces: of its answer, None where a run began anew."""
    moment = days_ago(days)
    agent = make_agent(owner)
    task = AgentTask.objects.create(
        id=uuid7_from(moment - timedelta(milliseconds=next(_milliseconds))),
        agent=agent,
        version=agent.live_version,
        kind=agent.kind,
        model="tiny:latest",
        session=session,
        owner=owner,
        team=owner.team,
        input={"message": "Hello"},
        deadline_at=moment,
        created_at=moment,
        finished_at=None if status == Status.QUEUED else moment,
        status=status,
        event_count=len(pieces) + 1,
        result="".join(filter(None, pieces)) if status == Status.SUCCEEDED else None,
    )
    for number, text in enumerate(pieces, start=1):
        kind, data = ("delta", {"text": text}) if text else ("state", {"status": "queued", "reset": True})
        TaskEvent.objects.create(task=task, number=number, type=kind, data=encode(data), created_at=moment)
    if status != Status.QUEUED:
        data = encode({"status": status})
        TaskEvent.objects.create(task=task, number=len(pieces) + 1, type="done", data=data, created_at=moment)
    return task


@pytest.fixture
def owner():
    make_builtin_node()
    return make_user()


def events(task):
    return list(TaskEvent.objects.filter(task=task).values_list("number", "type"))


def test_the_pieces_of_old_answers_become_one(settings, owner):
    settings.EVENT_DAYS = 7
    old = ended(owner, days=8, pieces=["void", None, "Good ", "day", "!"])
    young = ended(owner, days=6, pieces=["Good ", "day"])
    assert maintenance.preview("join_old_events") == "It would join the 4 pieces of 1 answers, each into one."
    row = run("join_old_events")
    assert row.summary == "Joined pieces of answers: 3 events are gone."
    assert events(old) == [(2, "state"), (5, "delta"), (6, "done")]
    assert answers.whole(old.pk).text == "Good day!"
    assert len(events(young)) == 3
    assert run("join_old_events").summary == "Joined pieces of answers: 0 events are gone."


@pytest.mark.django_db(transaction=True)
def test_how_many_events_went_is_told_without_counting_a_large_table(settings, owner):
    settings.EVENT_DAYS = 7
    ended(owner, days=8, pieces=["void", None, "Good ", "day", "!"])
    row = run("join_old_events")
    assert row.before["events"] - row.after["events"] == 3
    with CaptureQueriesContext(connection) as queries:
        assert maintenance.figures("join_old_events") == row.after
    is_counted = any("COUNT" in query["sql"] for query in queries)
    assert is_counted == (connection.vendor == "sqlite")  # where no statement is too long


def test_void_pieces_go_without_a_trace(settings, owner):
    settings.EVENT_DAYS = 7
    failed = ended(owner, days=8, pieces=["one", "two", None], status=Status.FAILED)
    run("join_old_events")
    assert events(failed) == [(3, "state"), (4, "done")]


def test_more_answers_than_a_batch_are_joined(settings, owner, monkeypatch):
    monkeypatch.setattr(pruning, "BATCH", 2)
    settings.EVENT_DAYS = 7
    for days in range(10, 15):
        ended(owner, days=days, pieces=["a", "b"])
    assert "the 10 pieces of 5 answers" in maintenance.preview("join_old_events")
    run("join_old_events")
    assert TaskEvent.objects.filter(type="delta").count() == 5


def test_who_follows_an_old_task_gets_its_answer_and_its_end(settings, owner):
    settings.EVENT_DAYS = 7
    task = ended(owner, days=8, pieces=["Good ", "day"])
    run("join_old_events")
    news = read_events({task.pk: 0})[task.pk]
    assert [(event.number, event.type) for event in news] == [(2, "delta"), (3, "done")]
    assert news[0].data == encode({"text": "Good day"})


def test_tasks_are_kept_for_ever_unless_somebody_says_for_how_long(settings, owner):
    settings.TASK_DAYS = 0
    ended(owner, days=4000)
    assert run("delete_old_tasks").summary == "Deleted 0 tasks and 0 conversations."
    assert AgentTask.objects.count() == 1


def test_tasks_and_conversations_go_after_their_days(settings, owner):
    settings.TASK_DAYS = 30
    closed = make_session(owner, closed_at=days_ago(31))
    lately = make_session(owner, closed_at=days_ago(1))
    opened = make_session(owner)
    for session in (closed, lately, opened, None):
        ended(owner, days=40, pieces=["a"], session=session)
    young = ended(owner, days=29)
    waiting = ended(owner, days=50, status=Status.QUEUED)
    ChatMessage.objects.create(session=closed, task=closed.tasks.get(), role="user", created_at=days_ago(40))
    would = maintenance.preview("delete_old_tasks")
    assert would == "It would delete 3 tasks and 1 conversations."
    assert run("delete_old_tasks").summary == would.replace("It would delete", "Deleted")
    assert set(AgentTask.objects.all()) == {opened.tasks.get(), young, waiting}
    assert set(ChatSession.objects.all()) == {lately, opened}
    assert not ChatMessage.objects.exists()


def test_a_closed_conversation_stays_with_its_young_tasks(settings, owner):
    settings.TASK_DAYS = 30
    session = make_session(owner, closed_at=days_ago(31))
    ended(owner, days=29, session=session)
    assert run("delete_old_tasks").summary == "Deleted 0 tasks and 0 conversations."


# Shares of the queue


def test_places_in_queues_go_with_their_people_and_teams(owner):
    present = [f"user:{owner.pk}", f"team:{owner.team_id}"]
    for subject in (*present, f"user:{uuid.uuid4()}", f"team:{uuid.uuid4()}"):
        for model in ("a:latest", "b:latest"):
            QueueShare.objects.create(model=model, subject=subject, passed=1)
    assert maintenance.preview("delete_queue_shares") == "It would delete 4 queue shares."
    row = run("delete_queue_shares")
    assert (row.before, row.after) == ({"queue_shares": 8}, {"queue_shares": 4})
    assert set(QueueShare.objects.values_list("subject", flat=True)) == set(present)
