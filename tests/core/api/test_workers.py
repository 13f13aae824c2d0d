from datetime import timedelta

import pytest

from agents.models import AgentTask
from tests.api import ApiClient, assert_problem
from tests.factories import make_builtin_node, make_operator, make_process, make_task, make_user

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("path", ["/api/v1/workers", "/api/v1/workers/"])
def test_operators_see_which_processes_serve(path):
    make_builtin_node()
    process = make_process("gpu1:0:0/4711/1")
    make_process("gpu2:0:0/4712/1", role="web", heard=timedelta(minutes=5), threads=None)
    task = make_task(make_user())
    AgentTask.objects.update(runner=process.identity)
    answer = ApiClient(make_operator()).get(path)
    assert answer.status_code == 200
    body = answer.json()
    assert body["alive"] == 1
    web, worker = body["processes"]
    assert (web["host"], web["state"], web["threads"], web["work"]) == ("gpu2", "silent", None, [])
    assert (worker["role"], worker["pid"], worker["state"], worker["duties"]) == ("worker", 4711, "alive", [])
    assert [(work["kind"], work["id"], work["title"]) for work in worker["work"]] == [
        ("task", str(task.pk), task.agent.name)
    ]


def test_nobody_else_sees_them(client):
    assert_problem(client.get("/api/v1/workers/"), 401, "not-authenticated")
    assert_problem(ApiClient(make_user()).get("/api/v1/workers/"), 403, "not-permitted")
    assert ApiClient(make_operator()).post("/api/v1/workers/", {}).status_code == 405
