"""No page of the console, no address of the API and no list of the gateway asks more often because of more rows.

Lists and addresses are found, not named: one that is added is held to it, and needs rows in `World.grow` first.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Group
from django.core.cache import cache
from django.db import connection, transaction
from django.http import HttpResponseBase
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    SolarSchedule,
)
from drf_spectacular.generators import SchemaGenerator
from pytest_django import DjangoDbBlocker

import sutazai.urls  # noqa: F401 - which discovers the console
from agents.engine.submit import cancel
from agents.gateway import listings
from agents.models import AgentTask, ChatMessage, NodeModel
from core import audit
from core.access import api_keys
from core.access.principal import Principal
from core.models import Allowance, Backup, Device, HealthChange, Invitation, MaintenanceRun
from core.net.breakers import Dependency
from core.ops.alerts import handling
from tests import remembered
from tests.factories import (
    make_administrator,
    make_agent,
    make_alert,
    make_builtin_node,
    make_delivery,
    make_node,
    make_notification,
    make_process,
    make_session,
    make_slow_query,
    make_task,
    make_team,
    make_user,
    make_webhook,
)

pytestmark = pytest.mark.django_db

LISTS = [model._meta.label for model in admin.site._registry]
PATHS = [
    path for path, operations in SchemaGenerator().get_schema(public=True)["paths"].items() if "get" in operations
]
PAGES = [
    "admin:index",
    "console-dashboard",
    "console-alerts-watched",
    "console-queue",
    "console-health",
    "console-pools",
    "console-workers",
    "console-cache",
    "console-playground",
]
# Those whose pages list what belongs to them.
DETAILS = ["agents.Agent", "agents.Node", "agents.ChatSession", "agents.AgentTask", "core.User", "core.Webhook"]
GATEWAY = {listing.__name__: listing for listing in (listings.installed, listings.loaded)}
PANEL = ["panel-dashboard", "panel-chat", "panel-settings", "panel-notifications"]


class World:
    """An administrator, and what there is to see; `grow` makes more of everything."""

    def __init__(self) -> None:
        self.person = make_administrator(username="first")
        make_builtin_node()
        self.node = make_node(name="node", models=("tiny:latest",), slots=1)
        self.agent = make_agent(self.person, name="helper", content={"model": "tiny"})
        self.session = make_session(self.person, self.agent)
        self.task, self.ended = make_task(self.person, self.agent), make_task(self.person, self.agent)
        cancel(self.ended.pk)
        self.notification = make_notification(self.person)
        self.alert = make_alert()
        self.webhook = make_webhook()
        self.key, text = api_keys.issue(self.person)
        self.browser = Client(raise_request_exception=False)
        self.browser.force_login(self.person)
        self.program = Client(headers={"Authorization": f"Bearer {text}"}, raise_request_exception=False)
        self._grown = 0

    def grow(self) -> None:
        self._grown += 1
        for number in range(3):
            self._grow(f"{self._grown}-{number}", timezone.now() + timedelta(minutes=10 * self._grown + number))

    def _grow(self, name: str, now: Any) -> None:
        team = make_team()
        stranger = make_user(username=f"person-{name}", team=team)
        Group.objects.create(name=f"group {name}")
        Invitation.objects.create(token_hash=name, invited_by=stranger, expires_at=now)
        Device.objects.create(user=self.person, session_key=name, signed_in_at=now, last_seen_at=now)
        node = make_node(name=f"node-{name}", models=(f"model-{name}:latest",), is_down=True)
        NodeModel.objects.create(node=self.node, name=f"other-{name}:latest", is_loaded=True)
        Dependency(f"mail-{name}")._row()
        make_process()
        HealthChange.objects.create(part="broker", state="down", at=now - timedelta(days=1))
        agent = make_agent(self.person, name=f"agent-{name}")
        self.agent.add_version(created_by=stranger)
        for owner in (self.person, stranger):
            session = make_session(owner, agent)
            task = make_task(owner, self.agent)
            AgentTask.objects.filter(pk=task.pk).update(session=session)
            key, _ = api_keys.issue(owner)
            Allowance.objects.create(key=key, requests_per_minute=1000)
            make_notification(owner)
        Allowance.objects.create(user=stranger, requests_per_minute=1000)
        ChatMessage.objects.create(session=self.session, task=task, role="user", content="Hello", created_at=now)
        make_alert()
        make_delivery(make_webhook(name=f"room-{name}", failing_since=now))
        make_delivery(self.webhook)
        handling.silence("NodeLost", name, minutes=60, reason="x", by=self.person)
        make_slow_query(f"SELECT column_{name.replace('-', '_')}")
        MaintenanceRun.objects.create(job="tidy", trigger="console", started_at=now)
        Backup.objects.create(name=f"sutazai-{name}.tar", created_at=now, size_bytes=1)
        audit.record("node.probed", target=node)
        interval = IntervalSchedule.objects.create(every=self._grown, period="days")
        CrontabSchedule.objects.create(minute=str(self._grown))
        ClockedSchedule.objects.create(clocked_time=now)
        SolarSchedule.objects.create(event="sunset", latitude=self._grown, longitude=len(name) + ord(name[-1]))
        PeriodicTask.objects.create(name=f"task {name}", task="core.run_maintenance", interval=interval)

    def details(self, label: str) -> str:
        """The console's page of the first of a model's rows."""
        model = apps.get_model(label)
        first = next(row for row in vars(self).values() if type(row) is model)
        return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_change", args=[first.pk])

    def address(self, path: str) -> str:
        """Put the first of everything into a path of the document."""
        places = {
            "agents": self.agent.pk,
            "versions": 1,
            "keys": self.key.pk,
            "nodes": self.node.pk,
            "sessions": self.session.pk,
            "tasks": self.ended.pk if path.endswith("/receipt/") else self.task.pk,
            "notifications": self.notification.pk,
            "alerts": self.alert.pk,
        }
        return re.sub(r"(\w+)/\{\w+\}", lambda found: f"{found[1]}/{places[found[1]]}", path)


@dataclass(frozen=True)
class Asked:
    """An address, once with few rows and once with thrice as many. rows: how many more of the model there were."""

    answer: Any
    few: list[str]
    many: list[str]
    rows: int = 0


def _queries_of(ask: Callable[[], Any]) -> tuple[Any, list[str]]:
    """What is answered, and asked of the database for it, when who asks is known and nothing else is remembered.

    The better of two tries: what is known is looked at anew every few seconds, which may be now.
    """
    ask()
    tries = []
    for _ in range(2):
        cache.clear()
        with CaptureQueriesContext(connection) as captured:
            answer = ask()
        tries.append([query["sql"] for query in captured])
    return answer, min(tries, key=len)


def _ask_all() -> dict[str, Asked]:
    world = World()
    browser, program = world.browser, world.program
    questions: dict[str, Callable[[], Any]]
    questions = {page: partial(browser.get, reverse(page)) for page in [*PAGES, *PANEL]}
    questions |= {path: partial(program.get, world.address(path)) for path in PATHS}
    questions |= {f"one {label}": partial(browser.get, world.details(label)) for label in DETAILS}
    questions |= {name: partial(listing, Principal(world.person)) for name, listing in GATEWAY.items()}
    for label in LISTS:
        app, model = label.lower().split(".")
        questions[label] = partial(browser.get, reverse(f"admin:{app}_{model}_changelist"))
    before = {label: apps.get_model(label)._default_manager.count() for label in LISTS}
    world.grow()
    few = {name: _queries_of(ask)[1] for name, ask in questions.items()}
    world.grow()
    world.grow()
    rows = {label: apps.get_model(label)._default_manager.count() - before[label] for label in LISTS}
    found = {}
    for name, ask in questions.items():
        answer, many = _queries_of(ask)
        found[name] = Asked(answer, few[name], many, rows.get(name, 0))
    return found


@pytest.fixture(scope="module")
def asked(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> dict[str, Asked]:
    """All of them, asked in one world, of which nothing stays."""
    remembered.forget()
    with django_db_blocker.unblock(), transaction.atomic():
        found = _ask_all()
        transaction.set_rollback(True)
    return found


def check(asked: Asked) -> None:
    if isinstance(asked.answer, HttpResponseBase):
        assert asked.answer.status_code == 200, getattr(asked.answer, "content", b"")[:300]
    assert len(asked.many) <= len(asked.few), "\n".join(asked.many)


@pytest.mark.parametrize("label", LISTS)
def test_lists_of_the_console(asked: dict[str, Asked], label: str) -> None:
    check(asked[label])
    assert asked[label].rows >= 6, "World.grow makes none of these"


@pytest.mark.parametrize("path", PATHS)
def test_addresses_of_the_api(asked: dict[str, Asked], path: str) -> None:
    check(asked[path])


@pytest.mark.parametrize("page", [*PAGES, *PANEL])
def test_pages_that_are_no_list(asked: dict[str, Asked], page: str) -> None:
    check(asked[page])


@pytest.mark.parametrize("label", DETAILS)
def test_pages_of_one_thing(asked: dict[str, Asked], label: str) -> None:
    check(asked[f"one {label}"])


@pytest.mark.parametrize("name", GATEWAY)
def test_lists_of_the_gateway(asked: dict[str, Asked], name: str) -> None:
    check(asked[name])
    assert len(asked[name].answer) >= 9
