"""Every operation of the API by everybody who may ask: compared with the table beside this file.

The table is made by `python -m pytest tests/security/test_access_matrix.py --write-matrix`, and read by people: a line
that changes is a change of who may do what. Outcomes: 401 unknown, 403 known and not allowed, 404 not theirs, 429, or
"passes": whatever else the operation answers, such as that its input is wrong.
"""

import csv
import io
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from drf_spectacular.generators import SchemaGenerator

from agents.engine.submit import cancel, submit
from agents.gateway import asgi as gateway
from agents.gateway import direct
from agents.models import AgentTask
from core.access import api_keys
from core.models import Role, Verb
from tests.asgi import call
from tests.factories import (
    make_agent,
    make_alert,
    make_builtin_node,
    make_notification,
    make_session,
    make_task,
    make_team,
    make_user,
)

pytestmark = pytest.mark.django_db
# The gateway works in threads, which see what is committed.
committed = pytest.mark.django_db(transaction=True)

TABLE = Path(__file__).with_name("access_matrix.csv")
BROWSER = "owner's browser"
REFUSALS = {401, 403, 404, 429}

# Addresses outside the document, and why. All others must be in it, or the test fails.
OUTSIDE = {
    "admin": "the console: each page asks Django's permissions (tests/core/admin, tests/agents/admin)",
    "api/v1": "the list of addresses",
    "api/schema": "the document itself",
    "docs": "its pages",
    "metrics": "Prometheus's format",
    "": "leads to the dashboard",
    "dashboard": "a person's own work (tests/agents/panel)",
    "chat": "a person's own conversations (tests/agents/panel)",
    "settings": "a person's own settings (tests/core/panel)",
    "notifications": "a person's own notifications (tests/core/panel)",
    "notifications/unread": "the bell's count of them",
    "notifications/read": "a form of theirs",
    "settings/keys": "forms of the settings",
    "settings/notifications": "forms of the settings",
    "settings/sign-ins": "forms of the settings",
    "login": "where browsers sign in (tests/core/access/sign_in)",
    "logout": "ends the browser's session",
}


class World:
    """One owner with one of everything, and those who ask for it."""

    def __init__(self) -> None:
        node = make_builtin_node()
        self.owner = make_user(username="owner")
        agent = make_agent(self.owner, name="helper", content={"allows_builtin_fallback": True})
        session = make_session(self.owner, agent)
        ended, task = make_task(self.owner, agent), make_task(self.owner, agent)
        cancel(ended.pk)
        self.ended = ended.pk
        key, _ = api_keys.issue(self.owner)
        self.ids: dict[str, Any] = {
            "agents": agent.pk,
            "nodes": node.pk,
            "sessions": session.pk,
            "tasks": task.pk,
            "keys": key.pk,
            "notifications": make_notification(self.owner).pk,
            "circuit-breaker": node.breaker.name,
            "alerts": make_alert().pk,
            "responses": f"resp_{self._response().hex}",
            "models": "agent:helper",
            "blobs": f"sha256:{'0' * 64}",
        }
        people = {role: make_user(username=f"a-{role}", role=role) for role in Role.values}
        stranger = make_user(username="stranger", team=make_team())
        inactive = make_user(username="inactive", is_active=False)
        operator = people[Role.OPERATOR]
        self.clients = {
            "anonymous": Client(),
            "inactive": self._with_key(inactive),
            "stranger": self._with_key(stranger),
            "viewer": self._with_key(people[Role.VIEWER]),
            "user": self._with_key(people[Role.USER]),
            "owner": self._with_key(self.owner),
            "owner's key: read": self._with_key(self.owner, verbs=[Verb.READ]),
            "owner's key: another agent": self._with_key(self.owner, agent_names=["other"]),
            "operator": self._with_key(operator),
            "operator's key: submit": self._with_key(operator, verbs=[Verb.SUBMIT]),
            "operator's key: metrics": self._with_key(operator, verbs=[Verb.METRICS]),
            "operator's key: models": self._with_key(operator, verbs=[Verb.MODELS]),
            "administrator": self._with_key(people[Role.ADMINISTRATOR]),
            BROWSER: Client(),
        }

    def _with_key(self, person: Any, **scope: Any) -> Client:
        return Client(headers={"Authorization": f"Bearer {api_keys.issue(person, '', api_keys.Scope(**scope))[1]}"})

    def address(self, path: str) -> str:
        """Put the owner's objects into a path of the document."""
        ids = self.ids | {"tasks": self.ended} if path.endswith("/receipt/") else self.ids
        parts = path.split("/")
        for at, part in enumerate(parts):
            if part == "{number}":
                parts[at] = "1"
            elif part.startswith("{"):
                parts[at] = str(ids[parts[at - 1]])
        return "/".join(parts)

    def _response(self) -> UUID:
        """An answer that its owner may fetch from the gateway."""
        call = {"operation": "chat", "messages": [{"role": "user", "content": "Hello"}]}
        agent = direct.agent_for(self.owner)
        task_id = submit(agent=agent, owner=self.owner, input=call).task_id
        note = {"client": {"model": "double", "shape": {}}}
        AgentTask.objects.filter(pk=task_id).update(input={**call, **note})
        return task_id

    def call(self, who: str, method: str, path: str) -> str:
        """Ask the gateway as somebody."""
        api_keys.forget()
        authorization = self.clients[who].defaults.get("HTTP_AUTHORIZATION")
        headers = [("authorization", authorization)] if authorization else []
        return outcome(call(method, self.address(path), b"{}", headers=headers).status)

    def ask(self, who: str, method: str, path: str) -> str:
        """Ask as somebody; what that changes is undone."""
        api_keys.forget()
        with transaction.atomic():
            if who == BROWSER:  # anew: what signs out is undone in the rows, not in the cookies
                self.clients[who].force_login(self.owner)
            response = self.clients[who].generic(
                method.upper(), self.address(path), "{}" if method in {"post", "patch"} else "", "application/json"
            )
            transaction.set_rollback(True)
        return outcome(response.status_code)


def outcome(status: int) -> str:
    return str(status) if status in REFUSALS else "passes"


def operations() -> Iterator[tuple[str, str]]:
    document = SchemaGenerator().get_schema(request=None, public=True)
    for path, methods in sorted(document["paths"].items()):
        for method in sorted(methods):
            yield method, path


def gateway_operations() -> Iterator[tuple[str, str]]:
    """Those of the foreign formats, which the document leaves to their own."""
    for path, method in gateway.ROUTES:
        yield method, path if path.startswith(gateway.OPENAI) else f"{gateway.OLLAMA}{path}"


def as_csv(rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


@committed
def test_who_may_do_what_stands_in_the_table(request):
    world = World()
    rows = [["method", "path", *world.clients]]
    rows += [
        [method.upper(), path, *(world.ask(who, method, path) for who in world.clients)]
        for method, path in operations()
    ]
    rows += [
        [method, path, *(world.call(who, method, path) for who in world.clients)]
        for method, path in sorted(gateway_operations(), key=itemgetter(1))
    ]
    if request.config.getoption("--write-matrix"):
        TABLE.write_text(as_csv(rows))
    expected = TABLE.read_text().splitlines()
    assert as_csv(rows).splitlines() == expected


def routes(patterns: list[URLPattern | URLResolver], prefix: str = "") -> Iterator[str]:
    for item in patterns:
        route = prefix + str(item.pattern).replace("^", "").replace("/?$", "").replace("\\Z", "")
        if isinstance(item, URLResolver):
            yield from routes(item.url_patterns, route)
        else:
            yield route


def test_no_address_stands_outside_the_document_but_those_that_say_why():
    documented = {path.strip("/").split("{")[0] for _, path in operations()}
    for route in routes(get_resolver().url_patterns):
        plain = route.split("(?P")[0].split("<")[0]
        # The pages about the own account: tests/core/account.
        is_outside = plain.strip("/") in OUTSIDE or plain.startswith(("admin/", "account/"))
        assert is_outside or plain in documented or plain.strip("/") in documented, route


def test_no_page_of_the_console_opens_to_who_may_not_use_it():
    visitor = Client()
    visitor.force_login(make_user())
    for route in routes(get_resolver().url_patterns):
        if not route.startswith("admin/") or "<" in route or "(" in route:
            continue
        for client in (Client(), visitor):
            response = client.get(f"/{route}")
            is_open = response.status_code == 200 and route not in OPEN
            assert not is_open, f"{route} answered {response.status_code}"


# Pages of the console that anybody may see.
OPEN = {"admin/login/", "admin/logout/", "admin/jsi18n/"}


def test_the_table_names_no_key_that_makes_keys():
    """A stolen key must not outlive its revocation."""
    world = World()
    for who in set(world.clients) - {BROWSER}:
        assert world.ask(who, "post", "/api/v1/keys/") in {"401", "403"}, who
    assert world.ask(BROWSER, "post", "/api/v1/keys/") == "passes"
