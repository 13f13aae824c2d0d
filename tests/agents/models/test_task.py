import pytest
from django.db import IntegrityError
from django.utils import timezone

from agents.models import AgentTask, TaskEvent
from core.models import uuid7
from tests.agents.engine.factories import make_agent, make_node, submit_task, succeed, take

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "succeeded", "result": "text"},
        {"status": "succeeded", "finished_at": timezone.now()},
        {"finished_at": timezone.now()},
        {"lease_until": None},
        {"node_model": None},
    ],
)
def test_the_database_refuses_a_task_that_cannot_be(changes):
    make_node()
    task = submit_task(make_agent())
    assert task.status == AgentTask.Status.RUNNING
    with pytest.raises(IntegrityError):
        AgentTask.objects.filter(pk=task.pk).update(**changes)


def test_two_events_never_share_a_number():
    make_node()
    task = submit_task(make_agent())
    with pytest.raises(IntegrityError):
        TaskEvent.objects.bulk_create(
            [TaskEvent(task=task, number=1, type="state", data="{}", created_at=timezone.now())]
        )


def test_words_for_sets_of_tasks_cover_all():
    make_node(slots=1)
    agent = make_agent()
    ended, running, queued = (submit_task(agent) for _ in range(3))
    succeed(take(ended), "")
    assert list(AgentTask.objects.running()) == [running]
    assert list(AgentTask.objects.queued()) == [queued]
    assert set(AgentTask.objects.unfinished()) == {running, queued}
    assert ended.pk not in AgentTask.objects.unfinished().values_list("pk", flat=True)


def test_a_draft_is_what_the_constructor_makes():
    agent = make_agent()
    rows = {
        "agent": agent,
        "version": agent.live_version,
        "session": None,
        "owner": agent.owner,
        "api_key": None,
        "retry_of": None,
    }
    columns = {
        "id": uuid7(),
        "team_id": agent.team_id,
        "kind": "chat",
        "model": "tiny:latest",
        "input": {"message": "hello"},
        "deadline_at": timezone.now(),
    }
    made, drafted = AgentTask(**rows, **columns), AgentTask.draft(rows, **columns)
    assert _all_of(drafted) == _all_of(made)


def test_what_drafts_share_cannot_change():
    fields = [field for field in AgentTask._meta.concrete_fields if not field.primary_key]
    assert all(isinstance(field.get_default(), str | int | None) for field in fields)


def _all_of(task: AgentTask) -> dict[str, object]:
    state = task._state
    own = {name: value for name, value in vars(task).items() if name != "_state"}
    return {**own, "_state": (state.db, state.adding, state.fields_cache)}
