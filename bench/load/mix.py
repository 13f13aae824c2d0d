"""What the users ask for: 70 % single things, 15 % lists, 10 % new work, 5 % signing in."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bench.client import Client, Response

READ, LIST, WRITE, AUTH, HEALTH = "read", "list", "write", "auth", "health"


@dataclass
class User:
    """One of the seeded users, with a connection of their own. refresh: the token that buys the next pair."""

    client: Client
    name: str
    password: str
    refresh: str
    agents: list[dict[str, str]]
    sessions: list[str]
    tasks: list[str]
    is_refreshing: bool = False

    @property
    def may_refresh(self) -> bool:
        return bool(self.refresh) and not self.is_refreshing

    def sign_out(self) -> None:
        """Forget the tokens, until the user signs in again."""
        self.refresh, self.is_refreshing = "", False


class Asked(NamedTuple):
    """A request, and what must stand in the body of its answer."""

    method: str
    path: str
    body: Any
    expected: bytes


Ask = Callable[[User, random.Random], Asked]
Answered = Callable[[User, Response], None]


@dataclass(frozen=True)
class Kind:
    """A kind of request. percent: of all. status: of its answer. answered: what a user learns from it."""

    name: str
    group: str
    percent: float
    ask: Ask
    status: int = 200
    answered: Answered | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def _get(path: str, expected: bytes) -> Asked:
    return Asked("GET", path, None, expected)


def _one(path: str, key: str) -> Asked:
    return _get(path, key.encode())


def _a_list(path: str) -> Asked:
    return _get(path, b'"results":[{')


def _agent(user: User, chance: random.Random) -> Asked:
    agent = chance.choice(user.agents)["id"]
    return _one(f"/api/v1/agents/{agent}/", agent)


def _task(user: User, chance: random.Random) -> Asked:
    task = chance.choice(user.tasks)
    return _one(f"/api/v1/tasks/{task}/", task)


def _receipt(user: User, chance: random.Random) -> Asked:
    return _get(f"/api/v1/tasks/{chance.choice(user.tasks)}/receipt/", b'"wall_seconds"')


def _events(user: User, chance: random.Random) -> Asked:
    return _get(f"/api/v1/tasks/{chance.choice(user.tasks)}/events/", b'"type":"done"')


def _session(user: User, chance: random.Random) -> Asked:
    session = chance.choice(user.sessions)
    return _one(f"/api/v1/sessions/{session}/", session)


def _limits(*_: Any) -> Asked:
    return _get("/api/v1/limits/", b'"limits"')


def _messages(user: User, chance: random.Random) -> Asked:
    return _a_list(f"/api/v1/sessions/{chance.choice(user.sessions)}/messages/")


def _submit(user: User, chance: random.Random, **more: str) -> Asked:
    body = {"agent": chance.choice(user.agents)["name"], "input": {"message": f"question {chance.getrandbits(64)}"}}
    return Asked("POST", "/api/v1/tasks/", body | more, b'"task"')


def _submit_in_session(user: User, chance: random.Random) -> Asked:
    return _submit(user, chance, session="new")


def _begin_session(user: User, chance: random.Random) -> Asked:
    return Asked("POST", "/api/v1/sessions/", {"agent": chance.choice(user.agents)["name"]}, b'"messages_url"')


def _me(user: User, _: random.Random) -> Asked:
    return _one("/api/me/", user.name)


def _refresh(user: User, _: random.Random) -> Asked:
    user.is_refreshing = True
    return Asked("POST", "/api/auth/refresh/", {"refresh": user.refresh}, b'"refresh"')


def _sign_in(user: User, _: random.Random) -> Asked:
    return Asked("POST", "/api/auth/login/", {"email": user.name, "password": user.password}, b'"refresh"')


def _keep_refresh(user: User, response: Response) -> None:
    user.refresh, user.is_refreshing = response.json()["refresh"], False


def _keep_sign_in(user: User, response: Response) -> None:
    if not user.refresh:
        _keep_refresh(user, response)


def health(*_: Any) -> Asked:
    return _get("/health", b'"status"')


AGENTS = "GET /api/v1/agents"
SUBMIT = "POST /api/v1/tasks"
REFRESH = "POST /api/auth/refresh"
_JSON = {"Accept": "application/json"}

KINDS = (
    Kind("GET /api/v1/agents/:id", READ, 14, _agent),
    Kind("GET /api/v1/tasks/:id", READ, 14, _task),
    Kind("GET /api/v1/tasks/:id/receipt", READ, 10, _receipt),
    Kind("GET /api/v1/tasks/:id/events", READ, 10, _events, headers=_JSON),
    Kind("GET /api/v1/sessions/:id", READ, 12, _session),
    Kind("GET /api/v1/limits", READ, 10, _limits),
    Kind(AGENTS, LIST, 4, lambda *_: _a_list("/api/v1/agents/")),
    Kind("GET /api/v1/tasks", LIST, 4, lambda *_: _a_list("/api/v1/tasks/")),
    Kind("GET /api/v1/sessions", LIST, 4, lambda *_: _a_list("/api/v1/sessions/")),
    Kind("GET /api/v1/sessions/:id/messages", LIST, 3, _messages),
    Kind(SUBMIT, WRITE, 8, _submit, 202),
    Kind("POST /api/v1/tasks, new conversation", WRITE, 1, _submit_in_session, 202),
    Kind("POST /api/v1/sessions", WRITE, 1, _begin_session, 201),
    Kind("GET /api/me", AUTH, 2.4, _me),
    # A user's tokens work once, so that nobody buys two pairs at a time.
    Kind(REFRESH, AUTH, 2.5, _refresh, answered=_keep_refresh),
    # With a password, every 33 minutes for each of the users at 500 requests a second.
    Kind("POST /api/auth/login", AUTH, 0.1, _sign_in, answered=_keep_sign_in),
)
# Asked beside the others, at a rate of its own.
HEALTH_KIND = Kind("GET /health", HEALTH, 0, health)
