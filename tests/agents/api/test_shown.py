"""What lists and details load of their rows."""

from typing import Any

import pytest

from agents.api.agents import AgentSerializer
from agents.api.sessions import SessionSerializer
from agents.api.tasks import TaskListSerializer, TaskSerializer
from agents.engine.submit import cancel
from agents.models import AgentTask
from core.api.serializers import RowSerializer, shown
from tests.factories import make_session, make_task, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


@pytest.mark.parametrize("serializer", [AgentSerializer, SessionSerializer, TaskListSerializer, TaskSerializer])
def test_one_query_loads_all_that_is_shown(serializer: type[RowSerializer], django_assert_num_queries: Any) -> None:
    owner = make_user()
    make_session(owner)
    cancel(make_task(owner).pk)  # one that waits is asked for its place besides
    rows = serializer.Meta.model.objects.all()
    with django_assert_num_queries(1):
        found = [serializer(row).data for row in shown(rows, serializer)]
    assert found == [serializer(row).data for row in rows]
    assert found


def test_what_is_not_shown_is_not_loaded() -> None:
    make_task(make_user())
    (task,) = shown(AgentTask.objects.all(), TaskListSerializer)
    assert {"input", "output", "receipt"} <= task.get_deferred_fields()
    assert {"system_prompt", "options"} <= task.version.get_deferred_fields()
    assert "password" in task.owner.get_deferred_fields()
