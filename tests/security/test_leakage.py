"""Secrets are put through the whole program, and looked for wherever somebody else may read.

A production server with a real database, broker and Redis. Everything that a secret is good for is done with it, also
while tables are missing, so that there are tracebacks. An answer that shows a secret to its owner, once, is not looked
at.
"""

import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import requests
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.contrib import admin
from django.urls import reverse

from tests.program import Program, wait_for
from tests.security.production import HOST, PASSWORD, SECRETS, ask, production_program
from tests.servers import Tap
from tests.services import SERVICE_VARIABLES

pytestmark = [pytest.mark.postgres, pytest.mark.redis, pytest.mark.rabbitmq]

ROLE = "leakage"
BROKEN_TABLES = ("core_user", "core_invitation")
COOKIE = "sutazai_session"
SECRET_OF_WEBHOOK = re.compile(r'id="webhook-secret"[^>]*>whsec_([^<]+)<')


class Browser:
    """A browser with its cookies, behind a proxy that speaks HTTPS."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self.cookies: dict[str, str] = {}

    def ask(self, method: str, path: str, **more: Any) -> requests.Response:
        headers = {
            "Accept": "text/html",
            "Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items()),
            "Referer": f"https://{HOST}/",
            "X-CSRFToken": self.cookies.get("sutazai_csrf", ""),
        }
        response = ask(self._program, method, path, headers=headers, **more)
        self.cookies |= response.cookies.get_dict()
        return response


class World:
    """A server in use: its people and programs, what is secret, and what it answered."""

    def __init__(self, program: Program, database_password: str, taps: dict[str, Tap]) -> None:
        self.program, self.taps = program, taps
        self.answers: list[tuple[str, requests.Response]] = []
        self.secrets = {
            "password of the operator": PASSWORD,
            "password of the database": database_password,
            **{name: program.environment[name] for name in SECRETS if name in program.environment},
            "SUTAZAI_SECRET_KEY": Path(program.environment["SUTAZAI_SECRET_KEY_FILE"]).read_text(),
        }
        self.operator, self.person = Browser(program), Browser(program)

    # What owners are shown once

    def sign_the_operator_in(self) -> None:
        self.operator.ask("GET", "/login")
        self.operator.ask("POST", "/login", data={"login": "operator", "password": PASSWORD})
        set_up = "/account/second-factor/totp/activate/"
        page = self.operator.ask("GET", set_up)
        secret = self._keep("TOTP secret", re.search(r'id="totp-secret"[^>]*>(\w+)<', page.text))
        code = format_hotp_value(hotp_value(secret, int(time.time()) // 30))
        assert self.operator.ask("POST", set_up, data={"code": code}).status_code == 302
        self.secrets["session cookie of the operator"] = self.operator.cookies[COOKIE]
        key = self.program.manage("create_api_key", "--user", "operator")
        self.operator_key = self._keep_key("API key of the operator", key)

    def invite_a_person(self) -> None:
        """One invitation is accepted, another stays open."""
        for name in ("invitation that is open", "invitation that is accepted"):
            made = self.operator.ask("POST", "/admin/core/invitation/add/", data={"email": "", "role": "user"})
            link = self._keep(name, re.search(r"/account/invitation/([\w-]+)/", made.text))
        self.secrets["password of the person"] = password = secrets.token_urlsafe(24)
        for path in (f"/account/invitation/{link}/", "/account/invitation/"):
            self.person.ask("GET", path)
        account = {"username": "ada", "password1": password, "password2": password}
        assert self.person.ask("POST", "/account/invitation/", data=account).status_code == 302
        self.secrets["session cookie of the person"] = self.person.cookies[COOKIE]

    def make_a_webhook(self) -> None:
        """One that is told of sign-ins, and its secret renewed."""
        form = {"name": "ops-room", "url": "https://hooks.invalid/", "format": "plain", "events": ["new-sign-in"]}
        shown = self.operator.ask("POST", "/admin/core/webhook/add/", data=form)
        self._keep("secret of a webhook", SECRET_OF_WEBHOOK.search(shown.text))
        address = re.search(r"/admin/core/webhook/[\w-]{36}/", shown.text)
        assert address
        shown = self.operator.ask("POST", f"{address[0]}new-secret/")
        self._keep("new secret of a webhook", SECRET_OF_WEBHOOK.search(shown.text))

    def hand_tokens_out(self) -> None:
        signed_in = {"email": "ada", "password": self.secrets["password of the person"]}
        first = ask(self.program, "POST", "/api/auth/login", json=signed_in).json()
        second = ask(self.program, "POST", "/api/auth/refresh", json={"refresh": first["refresh"]}).json()
        self.access, self.refresh = second["access"], second["refresh"]
        for number, pair in enumerate((first, second), 1):
            self.secrets[f"refresh token {number}"] = pair["refresh"]
            self.secrets[f"access token {number}"] = pair["access"].rsplit(".", 1)[1]  # its signature
        made = ask(self.program, "POST", "/api/v1/keys/", json={"name": "ci"}, headers=bearer(self.access)).json()
        self.key = self._keep_key("API key of the person", made["text"])

    def _keep(self, name: str, found: re.Match[str] | None) -> str:
        assert found, name
        self.secrets[name] = found[1]
        return found[1]

    def _keep_key(self, name: str, text: str) -> str:
        self.secrets[name] = text.split("_", 2)[2]
        return text

    # What others may see

    def ask(self, method: str, path: str, **more: Any) -> requests.Response:
        """Ask as a program; the answer is looked at later."""
        response = ask(self.program, method, path, **more)
        self.answers.append((f"{method} {path}", response))
        return response

    def work(self) -> None:
        for credential in (self.key, self.access, self.operator_key):
            chat = {"message": "hello"}
            assert self.ask("POST", "/api/v1/chat/", json=chat, headers=bearer(credential)).status_code == 200
        later = {**bearer(self.key), "Prefer": "respond-async"}
        assert self.ask("POST", "/api/v1/chat/", json={"message": "hello"}, headers=later).status_code == 202

    def be_refused(self) -> None:
        """Secrets where they belong, and a little beside; each is refused."""
        password, key = self.secrets["password of the person"], self.key
        session = {"Cookie": f"{COOKIE}={self.person.cookies[COOKIE]}"}
        bodies: list[dict[str, Any]] = [
            {"email": "ada", "password": [password]},
            {"email": "ada", "password": password * 100},
            {"email": "ada", "password": password, "extra": 1},
            {"email": "nobody", "password": password},
            {"email": "operator", "password": PASSWORD},  # a second factor is missing
            {"email": password, "password": "x"},
        ]
        answers = [self.ask("POST", "/api/auth/login", json=body) for body in bodies]
        answers += [
            self.ask("POST", "/api/auth/login", data=f'{{"password": "{password}"'),
            self.ask("POST", "/api/auth/login", data={"password": password}),
            self.ask("POST", "/api/auth/refresh", json={"refresh": f"{self.refresh}x"}),
            self.ask("POST", "/api/auth/refresh", json={"refresh": [self.refresh]}),
            self.ask("POST", "/api/auth/logout", json={"refresh": self.refresh, "extra": 1}),
            self.ask("GET", "/api/v1/tasks/", headers=bearer(f"{key}x")),
            self.ask("GET", "/api/v1/tasks/", headers=bearer(f"{self.access}x")),
            self.ask("GET", "/api/v1/tasks/", headers={"Authorization": f"Basic {key}"}),
            self.ask("GET", "/api/v1/nodes/", headers=bearer(key)),
            self.ask("GET", "/api/v1/tasks/nowhere/", headers=bearer(key)),
            self.ask("GET", f"/api/v1/tasks/?ordering={key}", headers=bearer(key)),
            self.ask("POST", "/api/v1/chat/", json={"message": "hello"}, headers=session),
        ]
        assert {answer.status_code // 100 for answer in answers} == {4}

    def be_refused_by_address(self) -> None:
        """Secrets in addresses, where they do not belong. The answer repeats its own address: it is not looked at."""
        for text in (self.key, self.access, self.refresh):
            for path in (f"/api/v1/tasks/{text}/", f"/api/v1/nowhere/?token={text}", f"/nowhere/{text}"):
                for headers in ({}, bearer(self.key)):
                    ask(self.program, "GET", path, headers=headers)
        ask(self.program, "GET", f"/account/invitation/{self.secrets['invitation that is accepted']}/")

    def fail(self) -> None:
        """The same while tables are missing: each is an error of the server, with a traceback in the log."""
        session = {"Cookie": f"{COOKIE}={self.operator.cookies[COOKIE]}", "Accept": "text/html"}
        signed_in = {"email": "ada", "password": self.secrets["password of the person"]}
        with self._broken():
            answers = [
                self.ask("GET", "/api/v1/tasks/", headers=bearer(self.access)),
                self.ask("POST", "/api/v1/chat/", json={"message": "hello"}, headers=bearer(self.operator_key)),
                self.ask("POST", "/api/auth/login", json=signed_in),
                self.ask("POST", "/api/auth/refresh", json={"refresh": self.refresh}),
                self.ask("GET", "/admin/", headers=session),
                ask(self.program, "GET", f"/account/invitation/{self.secrets['invitation that is open']}/"),
            ]
            form = {"login": "ada", "password": signed_in["password"]}
            answers.append(self.person.ask("POST", "/login", data=form))
            self.answers.append(("POST /login", answers[-1]))
        assert {answer.status_code for answer in answers} == {500}

    @contextmanager
    def _broken(self) -> Iterator[None]:
        with psycopg.connect(self.program.environment["DATABASE_URL"], autocommit=True) as connection:
            for table in BROKEN_TABLES:
                connection.execute(f"ALTER TABLE {table} RENAME TO {table}_away")
            try:
                wait_for(self._key_is_forgotten, "no key is remembered any more")
                yield
            finally:
                for table in BROKEN_TABLES:
                    connection.execute(f"ALTER TABLE {table}_away RENAME TO {table}")

    def _key_is_forgotten(self) -> bool:
        return ask(self.program, "GET", "/api/v1/nodes/", headers=bearer(self.operator_key)).status_code == 500


def bearer(credential: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {credential}", "Accept": "application/json"}


@pytest.fixture(scope="module")
def database() -> Iterator[tuple[str, str]]:
    """A database whose role has a password; its address and the password."""
    address, password = os.environ[SERVICE_VARIABLES["postgres"]], secrets.token_urlsafe(24)
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{password}'")
        connection.execute(f"CREATE DATABASE {ROLE} OWNER {ROLE}")
    place = urlsplit(address)
    yield f"postgres://{ROLE}:{password}@{place.hostname}:{place.port}/{ROLE}", password
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {ROLE} WITH (FORCE)")
        connection.execute(f"DROP ROLE {ROLE}")


@pytest.fixture(scope="module")
def world(database: tuple[str, str], tmp_path_factory) -> Iterator[World]:
    """A server on which all of that was done."""
    address, password = database
    taps = {name: Tap(os.environ[SERVICE_VARIABLES[name]]) for name in ("rabbitmq", "redis")}
    try:
        with production_program(
            tmp_path_factory.mktemp("leakage"),
            DATABASE_URL=address,
            CELERY_BROKER_URL=taps["rabbitmq"].url,
            REDIS_URL=taps["redis"].url,
        ) as program:
            world = World(program, password, taps)
            world.sign_the_operator_in()
            world.make_a_webhook()
            world.invite_a_person()
            world.hand_tokens_out()
            world.work()
            world.be_refused()
            world.be_refused_by_address()
            world.fail()
            yield world
    finally:
        for tap in taps.values():
            tap.close()


def leaks(world: World, texts: Iterable[tuple[str, str]]) -> list[str]:
    """Name what holds which secret."""
    return [f"{what}: {name}" for what, text in texts for name, value in world.secrets.items() if value in text]


def text_of(response: requests.Response) -> str:
    """All of an answer but the cookies, which are their owner's."""
    return f"{response.text} { {name: value for name, value in response.headers.items() if name != 'set-cookie'} }"


def test_no_page_shows_a_secret(world):
    """The console as the operator finds it by its links, and the pages of the operator's and the person's own."""
    pages, waiting = {}, ["/admin/"]
    while waiting:
        path = waiting.pop()
        pages[path] = world.operator.ask("GET", path)
        links = re.findall(r'href="(/admin/[^"?#]*)', pages[path].text)
        waiting += {*links} - {*pages, *waiting, "/admin/logout/"}
    lists = {
        reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist") for model in admin.site._registry
    }
    assert lists <= pages.keys()
    assert sum(path.endswith("/change/") for path in pages) > 20
    assert {page.status_code for page in pages.values()} <= {200, 302, 405}
    own = ("/dashboard", "/chat", "/settings", "/account/", "/account/second-factor/")
    seen = [(path, text_of(page)) for path, page in pages.items()]
    seen += [(path, text_of(browser.ask("GET", path))) for browser in (world.operator, world.person) for path in own]
    assert leaks(world, seen) == []


def test_no_answer_of_the_api_tells_a_secret(world):
    document = ask(world.program, "GET", "/api/schema/", headers=bearer(world.operator_key)).json()
    readable = sorted(path for path, methods in document["paths"].items() if "get" in methods)
    seen = []
    for credential in (world.operator_key, world.key, world.access):
        found = {
            path: ask(world.program, "GET", path, headers=bearer(credential)) for path in readable if "{" not in path
        }
        for path in readable:
            base, _, rest = path.partition("{id}")
            if rest and "{" not in rest and found[base].ok:
                for item in found[base].json()["results"][:3]:
                    address = f"{base}{item['id']}{rest}"
                    found[address] = ask(world.program, "GET", address, headers=bearer(credential))
        assert sum(answer.ok for answer in found.values()) > 10
        seen += [(path, text_of(answer)) for path, answer in found.items()]
    assert leaks(world, seen) == []


def test_no_refusal_and_no_failure_repeats_a_secret(world):
    assert leaks(world, [(what, text_of(answer)) for what, answer in world.answers]) == []
    failures = [answer for _, answer in world.answers if answer.status_code == 500]
    assert len(failures) > 5
    assert not [answer for answer in failures if "Traceback" in answer.text or "core_user" in answer.text]


def test_no_message_on_the_broker_and_nothing_in_redis_holds_a_secret(world):
    """All bytes of both: messages of Celery, wake-ups, counts, what is remembered."""
    heard = {name: tap.heard() for name, tap in world.taps.items()}
    assert any("agents.run" in said for said in heard["rabbitmq"])
    assert any("PUBLISH" in said for said in heard["redis"])
    assert leaks(world, [(name, said) for name, texts in heard.items() for said in texts]) == []


def test_no_line_of_the_log_holds_a_secret(world):
    lines = world.program.log.read_text().splitlines()
    assert any("Traceback" in line and "core_user" in line for line in lines)
    assert leaks(world, [(line[:200], line) for line in lines]) == []


def test_no_secret_stands_in_the_list_of_processes(world):
    texts = [part for process in world.program.processes() for part in process.cmdline()]
    assert texts
    assert leaks(world, [(text, text) for text in texts]) == []


def test_the_metrics_hold_no_secret(world):
    metrics = ask(world.program, "GET", "/metrics", headers={"Authorization": f"Bearer {world.operator_key}"})
    assert "api_request_total" in metrics.text or "django_http_requests" in metrics.text
    assert leaks(world, [("/metrics", text_of(metrics))]) == []
