"""The console's page of the queues."""

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from agents.models import Agent, AgentTask, Node, NodeModel
from core.models import AuditEntry, User
from tests import queries
from tests.factories import make_agent, make_node, make_staff, make_task, make_team, make_user

pytestmark = pytest.mark.django_db

PAGE = reverse("console-queue")
MODEL = "tinyllama:latest"


@pytest.fixture
def agent(operator: User) -> Agent:
    """An agent on a node with one slot."""
    make_node(name="gpu1", slots=1, models=(MODEL,))
    return make_agent(operator, content={"model": MODEL})


def press(client: Client, task: AgentTask, do: str) -> str:
    return client.post(PAGE, {"task": str(task.pk), "do": do}, follow=True).text


def test_it_shows_who_runs_and_who_waits_in_order(console: Client, operator: User, agent: Agent) -> None:
    ada = make_user(username="ada", team=make_team(name="Research"))
    running, late = make_task(operator, agent), make_task(operator, agent)
    soon = make_task(ada, agent, priority=AgentTask.Priority.INTERACTIVE)
    NodeModel.objects.filter(name=MODEL).update(service_seconds=30)

    response = console.get(PAGE)
    (queue,) = response.context["queues"]
    assert [task.entry.task for task in queue.tasks] == [soon, late]
    for text in ("1 of 1 slot taken", "2 wait", "gpu1", "30 s a task", "ada", "Research", "Interactive", "about 30 s"):
        assert text in response.text, text
    assert str(running.pk) not in response.text


def test_an_operator_moves_what_waits_and_that_is_told(console: Client, operator: User, agent: Agent) -> None:
    _, first, second = (make_task(operator, agent) for _ in range(3))
    AuditEntry.objects.all()._raw_delete("default")

    assert "goes before all others" in press(console, second, "front")
    (queue,) = console.get(PAGE).context["queues"]
    assert [task.entry.task for task in queue.tasks] == [second, first]
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor_name, entry.object_id) == ("agent-task.priority", "op", str(second.pk))
    assert entry.changes == {"priority": [2, 0]}

    assert "in the background" in press(console, second, "background")
    (queue,) = console.get(PAGE).context["queues"]
    assert [task.entry.task for task in queue.tasks] == [first, second]


def test_an_operator_cancels_what_waits_and_that_is_told(console: Client, operator: User, agent: Agent) -> None:
    _, waiting = make_task(operator, agent), make_task(operator, agent)
    AuditEntry.objects.all()._raw_delete("default")

    assert "was cancelled" in press(console, waiting, "cancel")
    waiting.refresh_from_db()
    assert waiting.status == AgentTask.Status.CANCELLED
    assert AuditEntry.objects.get().action == "agent-task.cancel"


@pytest.mark.parametrize("do", ["front", "normal"])
def test_what_does_not_wait_any_more_is_left_alone(console: Client, operator: User, agent: Agent, do: str) -> None:
    running = make_task(operator, agent)
    AuditEntry.objects.all()._raw_delete("default")

    assert "The task does not wait. Nothing changed." in press(console, running, do)
    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize("data", [{}, {"task": "x", "do": "front"}, {"do": "front"}, {"task": "TASK", "do": "delete"}])
def test_a_form_that_makes_no_sense_changes_nothing(
    console: Client, operator: User, agent: Agent, data: dict[str, str]
) -> None:
    _, waiting = make_task(operator, agent), make_task(operator, agent)
    sent = {name: str(waiting.pk) if value == "TASK" else value for name, value in data.items()}

    assert "nothing changed" in console.post(PAGE, sent, follow=True).text
    waiting.refresh_from_db()
    assert (waiting.status, waiting.priority) == ("queued", AgentTask.Priority.NORMAL)


def test_a_task_that_is_not_there_is_not_found(console: Client) -> None:
    data = {"task": "01a1fddf-9f16-73bd-b993-a011792202e4", "do": "front"}
    assert console.post(PAGE, data).status_code == 404


def test_whoever_may_only_look_is_offered_nothing_and_may_do_nothing(operator: User, agent: Agent) -> None:
    _, waiting = make_task(operator, agent), make_task(operator, agent)
    reader = Client()
    reader.force_login(make_staff("view_agenttask"))

    assert "To the front" not in reader.get(PAGE).text
    assert reader.post(PAGE, {"task": str(waiting.pk), "do": "cancel"}).status_code == 403
    waiting.refresh_from_db()
    assert waiting.status == "queued"


def test_where_nobody_waits_it_says_so(console: Client) -> None:
    page = console.get(PAGE).text
    assert "Nobody waits, nothing runs" in page
    assert reverse("console-playground") in page


def test_a_queue_for_a_model_that_is_nowhere_says_what_to_do(console: Client, operator: User, agent: Agent) -> None:
    make_task(operator, agent), make_task(operator, agent)
    NodeModel.objects.filter(name=MODEL).update(is_available=False)
    assert "No node has this model" in console.get(PAGE).text


def test_it_tells_when_a_model_gets_room_at_the_latest(console: Client, operator: User) -> None:
    make_node(slots=1, models=("a:latest", "b:latest"), max_loaded_models=1)
    for model in ("a:latest", "b:latest"):
        make_task(operator, make_agent(operator, content={"model": model}))
    assert "waits until others make room" in console.get(PAGE).text


def test_names_cannot_break_out_of_the_page(console: Client, operator: User) -> None:
    Node.objects.update(name="<script>alert(1)</script>")
    make_task(operator, make_agent(operator, name="<b>x</b>"))
    text = console.get(PAGE).text
    assert "<script>alert(1)" not in text
    assert "<b>x" not in text


def test_many_rows_cost_no_more_queries(
    console: Client, operator: User, agent: Agent, django_assert_num_queries
) -> None:
    make_task(operator, agent), make_task(operator, agent)
    console.get(PAGE)
    with CaptureQueriesContext(connection) as captured:
        console.get(PAGE)
    few = len(queries.asked(captured))
    for _ in range(5):
        make_task(make_user(team=make_team()), agent)
        make_node(slots=1, models=(MODEL, "other:latest"), is_draining=True)
    with django_assert_num_queries(few):
        console.get(PAGE)


def test_a_waiting_task_s_page_tells_its_place_and_moves_it(console: Client, operator: User, agent: Agent) -> None:
    _, first, second = (make_task(operator, agent) for _ in range(3))
    page = reverse("admin:agents_agenttask_change", args=[second.pk])
    assert "number 2 in the queue, as normal" in console.get(page).text

    console.post(reverse("admin:agents_agenttask_to_front", args=[second.pk]))
    assert "number 1 in the queue, as front" in console.get(page).text
    assert "To the front" not in console.get(page).text
    assert "number 2" in console.get(reverse("admin:agents_agenttask_change", args=[first.pk])).text
