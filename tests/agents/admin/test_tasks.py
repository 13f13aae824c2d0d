"""The list of tasks, its actions, and the page of one."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from agents.engine import execution
from agents.engine.submit import cancel
from agents.models import AgentTask, Node, TaskEvent
from core.models import User, uuid7
from core.models.base import uuid7_from
from core.ops import clock
from tests.factories import make_agent, make_builtin_node, make_staff, make_task, make_user

pytestmark = pytest.mark.both_databases

LIST = "admin:agents_agenttask_changelist"


def page_of(task: AgentTask) -> str:
    return reverse("admin:agents_agenttask_change", args=[task.pk])


def answered(owner: User, message: str = "Hello") -> AgentTask:
    """A task that the built-in model has answered."""
    task = make_task(owner, message=message)
    execution.run(task.pk)
    task.refresh_from_db()
    assert task.status == "succeeded"
    return task


def cancelled(owner: User) -> AgentTask:
    task = make_task(owner)
    assert cancel(task.pk)
    task.refresh_from_db()
    return task


def act(client: Client, action: str, *tasks: AgentTask) -> str:
    """Run an action on selected tasks; returns the page that tells what it did."""
    data = {"action": action, "_selected_action": [str(task.pk) for task in tasks]}
    return client.post(reverse(LIST), data, follow=True).text


def listed(client: Client, **filters: str) -> set[str]:
    """The ids of the tasks that a filtered list shows."""
    return {str(task.pk) for task in client.get(reverse(LIST), filters).context["cl"].result_list}


def test_the_list_costs_the_same_for_a_full_page_and_needs_no_count(
    console: Client, operator: User, django_assert_max_num_queries
) -> None:
    task = answered(operator)
    copies = [AgentTask.objects.get(pk=task.pk) for _ in range(60)]
    for copy in copies:
        copy.pk = uuid7()
    AgentTask.objects.bulk_create(copies)

    with django_assert_max_num_queries(10) as captured:
        response = console.get(reverse(LIST))

    assert len(response.context["cl"].result_list) == 25
    counting = [query["sql"] for query in captured if "COUNT(" in query["sql"] and "agents_agenttask" in query["sql"]]
    assert not counting


def test_the_list_does_not_read_long_texts(console: Client, operator: User, django_assert_max_num_queries) -> None:
    answered(operator)

    with django_assert_max_num_queries(10) as captured:
        console.get(reverse(LIST))

    listing = [query["sql"] for query in captured if 'FROM "agents_agenttask"' in query["sql"]]
    assert listing
    for column in ('"input"', '"result"', '"output"', '"receipt"', '"system_prompt"'):
        assert not any(column in sql for sql in listing)


def test_the_list_tells_why_and_since_when(console: Client, operator: User) -> None:
    task = cancelled(operator)

    text = console.get(reverse(LIST)).text

    assert "cancelled: The task was cancelled." in text
    assert f'datetime="{task.finished_at.isoformat()}"' in text


def test_filters_find_what_is_wrong(console: Client, operator: User) -> None:
    good, bad = answered(operator), cancelled(operator)
    unclaimed = make_task(operator)
    AgentTask.objects.filter(pk=unclaimed.pk).update(granted_at=clock.now() - timedelta(minutes=1))

    assert listed(console, status__exact="succeeded") == {str(good.pk)}
    assert listed(console, error_code="cancelled") == {str(bad.pk)}
    assert listed(console, trouble="unclaimed") == {str(unclaimed.pk)}
    assert listed(console, trouble="degraded") == {str(good.pk)}
    assert listed(console, trouble="waiting") == set()
    assert listed(console, within="15m") == {str(good.pk), str(bad.pk), str(unclaimed.pk)}
    assert listed(console, kind="text_analysis") == set()
    assert listed(console, agent__id__exact=str(bad.agent_id)) == {str(bad.pk)}


def test_the_age_filter_goes_by_the_key(console: Client, operator: User) -> None:
    old, new = answered(operator), answered(operator)
    old.pk = uuid7_from(clock.now() - timedelta(hours=2))
    old.save(force_insert=True)

    assert str(old.pk) not in listed(console, within="1h")
    assert {str(old.pk), str(new.pk)} <= listed(console, within="24h")


def test_search_finds_by_id_agent_and_person_only(console: Client, operator: User) -> None:
    mine, other = answered(operator), answered(make_user(username="zoe"), message="secret word")

    assert listed(console, q=str(mine.pk)) == {str(mine.pk)}
    assert listed(console, q="zoe") == {str(other.pk)}
    assert listed(console, q=other.agent.name) == {str(other.pk)}
    assert listed(console, q="secret word") == set()
    assert listed(console, q="%_'") == set()
    assert console.get(reverse(LIST), {"q": "\x00"}).status_code == 200


def test_cancelling_reports_what_changed_and_what_was_skipped(console: Client, operator: User) -> None:
    running, over = make_task(operator), answered(operator)

    text = act(console, "cancel_selected", running, over)

    assert "Cancelled 1 task." in text
    assert "Skipped 1 task: already ended." in text
    assert AgentTask.objects.get(pk=running.pk).status == "cancelled"
    assert AgentTask.objects.get(pk=over.pk).status == "succeeded"


def test_retrying_submits_again_for_the_owner(console: Client) -> None:
    owner = make_user()
    lost, good = cancelled(owner), answered(owner)

    text = act(console, "retry_selected", lost, good)

    assert "Submitted again 1 task." in text
    assert "Skipped 1 task: only tasks that ended without an answer can be retried." in text
    again = AgentTask.objects.get(retry_of=lost)
    assert (again.owner, again.input) == (owner, lost.input)


def test_running_again_makes_it_the_operators_own(console: Client, operator: User) -> None:
    good = answered(make_user())

    assert "Started 1 task." in act(console, "run_selected_again", good)

    again = AgentTask.objects.get(retry_of=good)
    assert again.owner == operator
    assert again.session_id not in {None, good.session_id}


def test_a_refused_retry_is_reported(console: Client, operator: User) -> None:
    lost = cancelled(operator)
    lost.agent.is_enabled = False
    lost.agent.save()

    assert "is disabled or has no live version" in act(console, "retry_selected", lost)
    assert AgentTask.objects.count() == 1


def test_a_viewer_may_read_but_not_act(db: None) -> None:
    make_builtin_node()
    viewer = make_staff()
    viewer.user_permissions.add(Permission.objects.get(codename="view_agenttask"))
    client = Client()
    client.force_login(viewer)
    running, lost = make_task(viewer), cancelled(viewer)

    page = client.get(page_of(running))
    act(client, "cancel_selected", running)
    act(client, "retry_selected", lost)
    act(client, "run_selected_again", lost)

    assert page.status_code == 200
    assert "stop_circle" not in page.text
    assert client.post(reverse("admin:agents_agenttask_cancel", args=[running.pk])).status_code == 403
    assert AgentTask.objects.get(pk=running.pk).status == "running"
    assert AgentTask.objects.count() == 2


def test_the_page_shows_answer_receipt_and_timeline(console: Client, operator: User) -> None:
    task = answered(operator)

    page = console.get(page_of(task))

    assert task.result[:40] in page.text
    titles = [entry.title for entry in page.context["timeline"]]
    assert titles[:2] == ["Accepted", "Got a slot"]
    assert titles[-1] == "Succeeded"
    assert sum(phase.seconds for phase in page.context["phases"]) == pytest.approx(
        task.receipt["wall_seconds"], abs=1e-4
    )
    assert sum(float(phase.percent) for phase in page.context["phases"]) == pytest.approx(100, abs=0.1)
    assert "Degraded" in page.text


def test_the_timeline_counts_pieces_of_text_without_reading_them(console: Client, operator: User) -> None:
    task = answered(operator)
    deltas = TaskEvent.objects.filter(task=task, type="delta").count()

    entries = [entry for entry in console.get(page_of(task)).context["timeline"] if entry.tone == "text"]

    assert deltas
    assert [entry.title for entry in entries] == [f"{deltas} piece{'' if deltas == 1 else 's'} of text"]


def test_what_people_and_models_write_is_shown_as_text(console: Client, operator: User) -> None:
    task = answered(operator, message="<script>alert(1)</script>")
    AgentTask.objects.filter(pk=task.pk).update(result="<img src=x onerror=alert(2)>")

    text = console.get(page_of(task)).text

    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script>alert(1)" not in text
    assert "<img src=x" not in text


def test_the_page_of_a_failure_says_what_to_do(console: Client, operator: User) -> None:
    text = console.get(page_of(cancelled(operator))).text

    assert "What to do: Somebody cancelled it." in text


def test_buttons_fit_the_state(console: Client, operator: User) -> None:
    offered = {}
    for name, task in {
        "running": make_task(operator),
        "good": answered(operator),
        "lost": cancelled(operator),
    }.items():
        offered[name] = [button.name for button in console.get(page_of(task)).context["buttons"]]

    assert offered == {"running": ["cancel"], "good": ["run_again"], "lost": ["retry", "run_again"]}


def test_retry_leads_to_the_new_task(console: Client, operator: User) -> None:
    lost = cancelled(operator)

    response = console.post(reverse("admin:agents_agenttask_retry", args=[lost.pk]))

    assert response["Location"] == page_of(AgentTask.objects.get(retry_of=lost))


def test_pressing_retry_on_an_answered_task_changes_nothing(console: Client, operator: User) -> None:
    good = answered(operator)

    console.post(reverse("admin:agents_agenttask_retry", args=[good.pk]))

    assert AgentTask.objects.count() == 1


def test_a_page_of_no_task_leads_back(console: Client) -> None:
    for wrong in (uuid7(), "nonsense"):
        response = console.get(reverse("admin:agents_agenttask_change", args=[wrong]))
        assert response.status_code == 302


def test_tasks_cannot_be_deleted_or_added_by_hand(console: Client, operator: User) -> None:
    task = answered(operator)

    assert console.get(reverse("admin:agents_agenttask_add")).status_code == 403
    assert console.post(reverse("admin:agents_agenttask_delete", args=[task.pk]), {"post": "yes"}).status_code == 403
    act(console, "delete_selected", task)
    assert AgentTask.objects.filter(pk=task.pk).exists()


def test_a_task_of_a_removed_node_still_has_its_page(console: Client, operator: User) -> None:
    task = answered(operator)
    Node.objects.filter(pk=task.node_id).delete()
    make_agent(operator)

    assert console.get(page_of(task)).status_code == 200


def test_an_empty_list_says_what_to_do(console: Client) -> None:
    assert "Ask an agent something in the playground" in console.get(reverse(LIST)).text
    assert "Nothing matches" in console.get(reverse(LIST), {"status__exact": "failed"}).text
