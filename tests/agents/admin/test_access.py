"""Who may open pages and press buttons: anonymous, plain, inactive, staff without rights, superuser."""

from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse

from agents.models import Agent, AgentTask, ChatSession, Node
from core import audit
from core.models import MaintenanceRun, User
from tests.factories import (
    make_administrator,
    make_agent,
    make_builtin_node,
    make_node,
    make_operator,
    make_session,
    make_staff,
    make_task,
    make_user,
)


class World:
    """One row of everything."""

    def __init__(self) -> None:
        make_builtin_node()
        self.owner = make_user()
        self.agent: Agent = make_agent(self.owner)
        self.node: Node = make_node(models=("tinyllama:latest",))
        self.session: ChatSession = make_session(self.owner, self.agent)
        self.task: AgentTask = make_task(self.owner, self.agent, session=self.session)
        self.entry = audit.record("world.made", target=self.owner)


@pytest.fixture
def world(db: None) -> World:
    return World()


PAGES: dict[str, Callable[[World], str]] = {
    "dashboard": lambda _: reverse("admin:index"),
    "dashboard data": lambda _: reverse("console-dashboard"),
    "playground": lambda _: reverse("console-playground"),
    "queue": lambda _: reverse("console-queue"),
    "tasks": lambda _: reverse("admin:agents_agenttask_changelist"),
    "task": lambda world: reverse("admin:agents_agenttask_change", args=[world.task.pk]),
    "sessions": lambda _: reverse("admin:agents_chatsession_changelist"),
    "session": lambda world: reverse("admin:agents_chatsession_change", args=[world.session.pk]),
    "agents": lambda _: reverse("admin:agents_agent_changelist"),
    "new agent": lambda _: reverse("admin:agents_agent_add"),
    "agent": lambda world: reverse("admin:agents_agent_change", args=[world.agent.pk]),
    "version": lambda world: reverse("admin:agents_agent_version", args=[world.agent.pk, 1]),
    "new version": lambda world: reverse("admin:agents_agent_new_version", args=[world.agent.pk]),
    "nodes": lambda _: reverse("admin:agents_node_changelist"),
    "new node": lambda _: reverse("admin:agents_node_add"),
    "node": lambda world: reverse("admin:agents_node_change", args=[world.node.pk]),
    "users": lambda _: reverse("admin:core_user_changelist"),
    "user": lambda world: reverse("admin:core_user_change", args=[world.owner.pk]),
    "groups": lambda _: reverse("admin:auth_group_changelist"),
    "teams": lambda _: reverse("admin:core_team_changelist"),
    "api keys": lambda _: reverse("admin:core_apikey_changelist"),
    "new api key": lambda _: reverse("admin:core_apikey_add"),
    "audit log": lambda _: reverse("admin:core_auditentry_changelist"),
    "audit entry": lambda world: reverse("admin:core_auditentry_change", args=[world.entry.pk]),
    "audit export": lambda _: reverse("admin:core_auditentry_export"),
    "maintenance runs": lambda _: reverse("admin:core_maintenancerun_changelist"),
    "slow queries": lambda _: reverse("admin:core_slowquery_changelist"),
    "health": lambda _: reverse("console-health"),
    "workers": lambda _: reverse("console-workers"),
    "backups": lambda _: reverse("admin:core_backup_changelist"),
    "schedules": lambda _: reverse("admin:django_celery_beat_periodictask_changelist"),
    "new schedule": lambda _: reverse("admin:django_celery_beat_periodictask_add"),
}
# Everybody on the staff may open these; what they show is a matter of permissions.
OPEN_TO_STAFF = {"dashboard", "dashboard data"}

BUTTONS: dict[str, Callable[[World], str]] = {
    "cancel": lambda world: reverse("admin:agents_agenttask_cancel", args=[world.task.pk]),
    "to the front": lambda world: reverse("admin:agents_agenttask_to_front", args=[world.task.pk]),
    "retry": lambda world: reverse("admin:agents_agenttask_retry", args=[world.task.pk]),
    "run again": lambda world: reverse("admin:agents_agenttask_run_again", args=[world.task.pk]),
    "probe": lambda world: reverse("admin:agents_node_probe", args=[world.node.pk]),
    "drain": lambda world: reverse("admin:agents_node_drain", args=[world.node.pk]),
    "resume": lambda world: reverse("admin:agents_node_resume", args=[world.node.pk]),
    "make live": lambda world: reverse("admin:agents_agent_make_live", args=[world.agent.pk, 1]),
    "run job": lambda _: reverse("admin:core_maintenancerun_run", args=["delete_sign_in_sessions"]),
    "stop a statement": lambda _: reverse("admin:core_slowquery_stop"),
    "back up": lambda _: reverse("admin:core_backup_run", args=["back_up"]),
}


def browser_of(person: User | None) -> Client:
    client = Client()
    if person is not None:
        client.force_login(person)
    return client


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("visitor", ["anonymous", "plain", "inactive"])
def test_outsiders_are_sent_to_the_sign_in_page(world: World, page: str, visitor: str) -> None:
    people = {
        "anonymous": lambda: None,
        "plain": make_user,
        "inactive": lambda: make_operator(is_active=False),
    }
    response = browser_of(people[visitor]()).get(PAGES[page](world))

    assert response.status_code == 302
    assert response["Location"].startswith(reverse("admin:login"))


@pytest.mark.parametrize("page", PAGES.keys() - OPEN_TO_STAFF)
def test_staff_without_permissions_are_refused(world: World, page: str) -> None:
    assert browser_of(make_staff()).get(PAGES[page](world)).status_code == 403


@pytest.mark.parametrize("page", PAGES)
def test_an_administrator_may_open_every_page_and_an_operator_those_of_the_work(world: World, page: str) -> None:
    assert browser_of(make_administrator()).get(PAGES[page](world)).status_code == 200
    is_of_people = page in {"users", "user", "groups", "teams", "audit log", "audit entry", "audit export"}
    assert browser_of(make_operator()).get(PAGES[page](world)).status_code == (403 if is_of_people else 200)


@pytest.mark.parametrize("button", BUTTONS)
def test_nobody_without_permission_presses_a_button(world: World, button: str) -> None:
    for person in (None, make_user(), make_operator(is_active=False)):
        assert browser_of(person).post(BUTTONS[button](world)).status_code == 302
    assert browser_of(make_staff()).post(BUTTONS[button](world)).status_code == 403
    world.task.refresh_from_db()
    world.node.refresh_from_db()
    assert (world.task.status, world.node.is_draining, world.node.probed_at) == ("running", False, None)
    assert AgentTask.objects.count() == 1
    assert not MaintenanceRun.objects.exists()


@pytest.mark.parametrize("button", BUTTONS)
def test_buttons_take_no_get(world: World, button: str) -> None:
    assert browser_of(make_operator()).get(BUTTONS[button](world)).status_code == 405


@pytest.mark.parametrize("button", BUTTONS)
def test_buttons_need_the_csrf_token(world: World, button: str) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_operator())

    assert client.post(BUTTONS[button](world)).status_code == 403


def test_staff_without_permissions_see_no_figures(clerk: Client) -> None:
    snapshot = clerk.get(reverse("console-dashboard")).json()

    assert snapshot["may_see"] is False
    assert not any(snapshot[part] for part in ("problems", "figures", "charts", "tables"))
    assert "has no permissions" in clerk.get(reverse("admin:index")).text
