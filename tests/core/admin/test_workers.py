"""The page of workers, and what the dashboard says of lost ones."""

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from agents.models import AgentTask
from core.admin import workers
from core.models import Lease
from tests.factories import make_process, make_staff, make_task, make_user

MINUTE = timedelta(minutes=1)


def shown(console: Client) -> str:
    return console.get(reverse("console-workers")).text


def test_it_shows_each_process_and_what_it_does(console: Client) -> None:
    process = make_process("gpu1:0:0/4711/1", threads=48)
    make_process(role="web")
    make_process(role="beat", threads=None)
    Lease.objects.create(name="caretaker", holder=process.identity, held_until=timezone.now() + MINUTE)
    tasks = [make_task(make_user()) for _ in range(7)]
    AgentTask.objects.update(runner=process.identity)
    page = shown(console)
    for text in ("gpu1", "4711", "48", "for all: caretaker", "and 2 more"):
        assert text in page
    assert reverse("admin:agents_agenttask_change", args=[tasks[0].pk]) in page
    assert "No scheduler" not in page
    assert "What to do" not in page


def test_it_says_what_to_do_where_one_was_lost(console: Client) -> None:
    make_process(heard=5 * MINUTE)
    make_process()
    page = shown(console)
    assert "5 min" in page
    assert ">Silent<" in page
    assert "Look at that machine" in page
    assert "No worker is alive" not in page


def test_a_process_of_another_version_is_to_be_restarted(console: Client) -> None:
    make_process(version="0.9.0")
    assert "of another version than this page" in shown(console)


def test_before_anybody_told_anything_it_says_what_that_means(console: Client) -> None:
    page = shown(console)
    for text in ("No web process has told of itself yet", "No worker is alive", "No scheduler is alive"):
        assert text in page


def test_what_a_process_says_of_itself_is_text(console: Client) -> None:
    make_process("<b>x</b>:0:0/1/1", version="<i>1</i>")
    page = shown(console)
    assert "<b>x</b>" not in page
    assert "<i>1</i>" not in page


def test_it_needs_a_permission(clerk: Client) -> None:
    assert clerk.get(reverse("console-workers")).status_code == 403
    assert Client().get(reverse("console-workers")).status_code == 302
    allowed = Client()
    allowed.force_login(make_staff("view_maintenancerun", username="allowed"))
    assert allowed.get(reverse("console-workers")).status_code == 200


@pytest.mark.django_db
def test_the_dashboard_tells_of_lost_processes_alone() -> None:
    make_process()
    assert workers.problems().problems == []
    make_process("gpu9:0:0/1/1", role="web", heard=3 * MINUTE)
    make_process(role="beat", heard=3 * MINUTE)
    lost, _, scheduler = workers.problems().problems
    assert lost.title == "A web process on gpu9 is not heard of"
    assert lost.since is not None
    assert lost.url == reverse("console-workers")
    assert (scheduler.level, scheduler.title) == ("bad", "No scheduler is alive")
