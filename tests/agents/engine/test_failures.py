"""Who hears of a task that failed, and what it costs those that did not."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import resolve

from agents.engine import caretaker, operations
from agents.engine.submit import cancel
from agents.engine.writer import apply
from agents.models import AgentTask
from core.models import Notification, NotificationPreference, Role, WebhookDelivery
from core.notifications import inbox
from tests.agents.engine.factories import make_agent, make_node, send_back, submit_task, succeed, take
from tests.factories import make_webhook

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

Status = AgentTask.Status


@pytest.fixture
def agent():
    make_node(slots=1000)
    return make_agent()


def ends(tasks, status=Status.FAILED, code="no-luck", **fields):
    return [
        operations.Finish(
            task.pk, take(task).fence, status, error_code=code, error_detail="What a model wrote.", **fields
        )
        for task in tasks
    ]


def finish(*tasks, **end):
    apply(operations.finish, ends(tasks, **end))


def test_the_owner_is_told_where_to_look_and_nothing_that_a_model_wrote(agent):
    finish(submit_task(agent))
    told = inbox.of(agent.owner).get()
    assert (told.event, told.title) == ("task-failed", f"Task failed: {agent.name}")
    assert (told.body, told.link) == ("It ended with the error no-luck.", "/dashboard")
    assert resolve(told.link).url_name == "panel-dashboard"


def test_a_task_of_a_conversation_leads_to_it(agent):
    task = submit_task(agent, starts_session=True)
    finish(task)
    link = resolve(inbox.of(agent.owner).get().link)
    assert (link.url_name, link.kwargs) == ("panel-session", {"session_id": task.session_id})


def test_a_deadline_that_passed_in_the_queue_is_told_too(agent, fake_clock):
    task = submit_task(agent)
    fake_clock.advance((task.deadline_at - fake_clock.now() + timedelta(seconds=1)).total_seconds())
    caretaker.reap()
    assert inbox.of(agent.owner).get().body == "It ended with the error deadline-passed."


def test_one_that_only_another_node_could_have_saved_is_told_too(agent):
    task = submit_task(agent)
    (end,) = ends([task])
    apply(operations.send_back, [operations.SendBack(task.pk, end.fence, "again", or_end=end)])
    assert inbox.of(agent.owner).get().body == "It ended with the error no-luck."


def test_a_success_a_cancellation_and_a_retry_are_not_told(agent):
    succeed(take(submit_task(agent)), "fine")
    cancel(submit_task(agent).pk)
    send_back(take(submit_task(agent)), counts="attempts")
    assert not Notification.objects.exists()


def test_nobody_else_is_told(agent):
    other = make_agent()
    finish(submit_task(agent))
    assert not inbox.of(other.owner).exists()


def test_a_storm_is_one_line_for_each_agent_and_hour(agent, fake_clock):
    other = make_agent(agent.owner)
    tasks = [submit_task(agent, "x") for _ in range(4)]
    finish(*tasks[:3], submit_task(other))
    finish(tasks[3])
    told = {row.title: row.count for row in inbox.of(agent.owner)}
    assert told == {f"Task failed: {agent.name}": 4, f"Task failed: {other.name}": 1}
    fake_clock.advance(3600)
    finish(submit_task(agent))
    assert inbox.of(agent.owner).count() == 3


def test_a_run_that_lost_its_task_and_an_end_that_comes_twice_tell_nothing(agent):
    task = submit_task(agent)
    (end,) = ends([task])
    apply(operations.finish, [end])
    apply(operations.finish, [end])
    assert inbox.of(agent.owner).get().count == 1
    task = submit_task(agent)
    (lost,) = ends([task])
    send_back(operations.Ticket(task.pk, lost.fence, 0))
    apply(operations.finish, [lost])
    assert inbox.of(agent.owner).get().count == 1


def test_who_may_give_no_work_any_more_or_does_not_want_to_know_is_not_told(agent):
    choice = NotificationPreference.objects.create(person=agent.owner, event="task-failed", in_app=False, email=False)
    finish(submit_task(agent))
    choice.delete()
    agent.owner.role = Role.VIEWER
    agent.owner.save()
    finish(submit_task(agent))
    assert not Notification.objects.exists()


def test_an_end_that_is_rolled_back_is_not_told(agent):
    changes = ends([submit_task(agent)])

    def fail_after_all(entries, now):
        operations.finish(entries, now)
        assert Notification.objects.exists()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        apply(fail_after_all, changes)
    assert not Notification.objects.exists()


def about_notifications(batch):
    """The statements of a batch that are there for notifications."""
    tables = ("core_notification", "core_user", '"agents_agent"', "core_webhook")
    with CaptureQueriesContext(connection) as captured:
        apply(operations.finish, batch)
    return [query["sql"] for query in captured if any(table in query["sql"] for table in tables)]


def test_successes_pay_nothing_and_failures_the_same_however_many_they_are(agent):
    others = [make_agent() for _ in range(10)]
    successes = ends([submit_task(agent) for _ in range(10)], Status.SUCCEEDED, "", fields={"result": ""})
    assert about_notifications(successes) == []
    assert len(about_notifications(ends([submit_task(agent)]))) == 4
    assert len(about_notifications(ends([submit_task(one) for one in others * 3]))) == 4
    assert Notification.objects.count() == 11
    make_webhook()
    make_webhook()
    assert len(about_notifications(ends([submit_task(agent), submit_task(make_agent())]))) == 5


def test_webhooks_are_told_of_everybodys_once_for_each_agent_and_hour(agent, fake_clock):
    make_webhook()
    other, first = make_agent(), submit_task(agent)
    finish(first, submit_task(agent), submit_task(other))
    finish(submit_task(agent))
    told = WebhookDelivery.objects.filter(title=f"Task failed: {agent.name}").get()
    assert (told.event, told.text) == ("task-failed", "It ended with the error no-luck.")
    assert told.data["agent"] == agent.name
    assert told.data["error"] == "no-luck"
    page = resolve(told.link)
    assert (page.url_name, page.kwargs) == ("agents_agenttask_change", {"object_id": told.data["task"]})
    assert WebhookDelivery.objects.count() == 2
    fake_clock.advance(3600)
    finish(submit_task(agent))
    assert WebhookDelivery.objects.count() == 3
