import pytest
from django.db import IntegrityError
from django.utils import timezone

from agents.models import AgentTask, TaskEvent
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
