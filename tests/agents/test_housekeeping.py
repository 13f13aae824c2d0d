from datetime import timedelta

import pytest
from django.utils import timezone

from agents.engine import submit
from agents.models import ChatSession, Node, NodeModel
from core.models import MaintenanceRun
from core.ops import maintenance
from tests.factories import make_agent, make_builtin_node, make_node, make_session, make_task, make_user
from tests.ollama_server import OllamaTestServer

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


def run(job):
    row = maintenance.run(job, trigger=MaintenanceRun.Trigger.COMMAND)
    assert row.status == "succeeded", row.error
    return row


def rest(session, **idle):
    ChatSession.objects.filter(pk=session.pk).update(last_active_at=timezone.now() - timedelta(**idle))


def test_sessions_that_nobody_wrote_to_for_long_are_closed(settings):
    settings.CHAT_SESSION_IDLE_HOURS = 24
    owner = make_user()
    idle, lively = make_session(owner), make_session(owner)
    rest(idle, hours=24, seconds=1)
    rest(lively, hours=23, minutes=59)
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
