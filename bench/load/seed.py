"""100,000 rows of a week of work: `python -m bench.load.seed [DIVIDE_BY]` in the program's environment.

Rows are written as the engine would have left them. Prints as JSON who the users are, and what of theirs there is.
"""

import json
import random
import secrets
import sys
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta
from typing import Any

import django

django.setup()

from django.contrib.auth.hashers import make_password  # noqa: E402
from django.db import connection, models, transaction  # noqa: E402
from django.utils import timezone  # noqa: E402

from agents.engine.receipt import receipt  # noqa: E402
from agents.models import (  # noqa: E402
    Agent,
    AgentTask,
    AgentVersion,
    ChatMessage,
    ChatSession,
    NodeModel,
    TaskEvent,
)
from agents.models.node import canonical_model_name  # noqa: E402
from bench.gateway.targets import MODEL  # noqa: E402
from core.access import api_keys, tokens  # noqa: E402
from core.models import Team, User, uuid7  # noqa: E402

TEAMS = 10
EVENTS_OF_A_TASK = ("queued", "running", "delta", "done")

NODE = "test-server"
BATCH = 1000
KNOWN = 8  # of each kind that a user asks for by id
SPAN = timedelta(days=7)
QUESTION = "What changed in our release notes since last week, and who has to act on it before Friday?"
ANSWER = "The notes name three changes: the queue is fair, answers are kept, and nodes that fail are left alone. " * 3


@dataclass(frozen=True)
class Sizes:
    """How many there are. tasks_in_sessions: each has a question and an answer. agents: each has a version."""

    users: int = 1000
    agents: int = 200
    sessions: int = 4_600
    tasks: int = 15_000
    tasks_in_sessions: int = 10_000

    def divided(self, by: int) -> "Sizes":
        return Sizes(*(size // by for size in astuple(self)))

    @property
    def rows(self) -> int:
        """Of what the API shows; users and their keys come on top."""
        messages, events = 2 * self.tasks_in_sessions, len(EVENTS_OF_A_TASK) * self.tasks
        return 2 * self.agents + self.sessions + self.tasks + messages + events


def main() -> None:
    sizes = Sizes().divided(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    chance = random.Random(100_000)
    password = secrets.token_urlsafe(12)
    users = _users(sizes, password)
    agents = _agents(sizes, users)
    sessions = _sessions(chance, sizes.sessions, users, agents)
    tasks = _tasks(chance, sizes, users, agents, sessions)
    _messages(tasks)
    _events(tasks)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")  # as the housekeeping does
    print(json.dumps({"rows": sizes.rows, "password": password, "users": _people(users, agents, sessions, tasks)}))


def _save(rows: Sequence[models.Model]) -> None:
    type(rows[0])._default_manager.bulk_create(rows, batch_size=BATCH)


def _users(sizes: Sizes, password: str) -> list[User]:
    teams = [Team(name=f"Team {number}", slug=f"load-{number}") for number in range(TEAMS)]
    _save(teams)
    hashed = make_password(password)
    users = [User(username=f"user{n:04}", team=teams[n % TEAMS], password=hashed) for n in range(sizes.users)]
    _save(users)
    return users


def _agents(sizes: Sizes, users: Sequence[User]) -> list[Agent]:
    """Those of a team belong to its first user."""
    owners = [users[number % TEAMS] for number in range(sizes.agents)]
    agents = [
        Agent(name=f"agent-{n:03}", kind="chat", description="Answers questions.", owner=owner, team_id=owner.team_id)
        for n, owner in enumerate(owners)
    ]
    _save(agents)
    model = canonical_model_name(MODEL)
    versions = [
        AgentVersion(agent=agent, number=1, model=model, system_prompt="Be brief.", created_by=agent.owner)
        for agent in agents
    ]
    _save(versions)
    for agent, version in zip(agents, versions, strict=True):
        agent.live_version = version
    Agent.objects.bulk_update(agents, ["live_version"], batch_size=BATCH)
    return agents


def _of_team(agents: Sequence[Agent], user: User) -> list[Agent]:
    return [agent for agent in agents if agent.team_id == user.team_id]


def _sessions(chance: random.Random, count: int, users: Sequence[User], agents: Sequence[Agent]) -> list[ChatSession]:
    now = timezone.now()
    of_team = {user.team_id: _of_team(agents, user) for user in users[:TEAMS]}
    sessions = []
    for number in range(count):
        owner = users[number % len(users)]
        began_at = now - SPAN + number * SPAN / count
        is_old = began_at < now - timedelta(days=1)
        sessions.append(
            ChatSession(
                agent=chance.choice(of_team[owner.team_id]),
                title=QUESTION[:60],
                owner=owner,
                team_id=owner.team_id,
                created_at=began_at,
                last_active_at=began_at + timedelta(minutes=5),
                closed_at=began_at + timedelta(days=1) if is_old else None,
            )
        )
    _save(sessions)
    return sessions


def _tasks(
    chance: random.Random,
    sizes: Sizes,
    users: Sequence[User],
    agents: Sequence[Agent],
    sessions: Sequence[ChatSession],
) -> list[AgentTask]:
    """The first of them belong to conversations, the others stand alone."""
    now = timezone.now()
    place = NodeModel.objects.select_related("node").get(node__name=NODE)
    of_team = {user.team_id: _of_team(agents, user) for user in users[:TEAMS]}
    tasks = []
    for number in range(sizes.tasks):
        session = sessions[number % len(sessions)] if number < sizes.tasks_in_sessions else None
        owner = session.owner if session else users[number % len(users)]
        agent = session.agent if session else chance.choice(of_team[owner.team_id])
        created_at = now - SPAN + number * (SPAN - timedelta(hours=1)) / sizes.tasks
        rows = {"agent": agent, "version": agent.live_version, "session": session, "owner": owner}
        tasks.append(_task(chance, {**rows, "node": place.node, "node_model": place}, place.name, created_at))
        tasks[-1].team_id = owner.team_id
    _save(tasks)
    return tasks


def _task(chance: random.Random, rows: dict[str, Any], model: str, created_at: datetime) -> AgentTask:
    waited, spoke = chance.expovariate(4), chance.expovariate(2)
    finished_at = created_at + timedelta(seconds=waited + spoke + chance.expovariate(0.3))
    task = AgentTask.draft(
        rows,
        id=uuid7(),
        kind="chat",
        model=model,
        input={"message": QUESTION},
        deadline_at=created_at + timedelta(minutes=15),
        status=AgentTask.Status.SUCCEEDED,
        created_at=created_at,
        granted_at=created_at + timedelta(seconds=waited),
        started_at=created_at + timedelta(seconds=waited),
        first_output_at=created_at + timedelta(seconds=waited + spoke),
        finished_at=finished_at,
        announced_at=created_at + timedelta(seconds=waited),
        event_count=len(EVENTS_OF_A_TASK),
        fence=1,
        result=ANSWER,
        prompt_tokens=40,
        output_tokens=70,
    )
    task.receipt = receipt(task, finished_at, {"node": NODE})
    return task


def _messages(tasks: Sequence[AgentTask]) -> None:
    _save(
        [
            ChatMessage(session_id=task.session_id, task=task, role=role, content=content, created_at=at)
            for task in tasks
            if task.session_id
            for role, content, at in (("user", QUESTION, task.created_at), ("assistant", ANSWER, task.finished_at))
        ]
    )


def _events(tasks: Sequence[AgentTask]) -> None:
    states = (
        ("state", '{"status":"queued"}'),
        ("state", '{"status":"running"}'),
        ("delta", json.dumps({"text": ANSWER})),
        ("done", '{"status":"succeeded","truncated":false,"degraded":false}'),
    )
    _save(
        [
            TaskEvent(task_id=task.id, number=number, type=type_, data=data, created_at=task.created_at)
            for task in tasks
            for number, (type_, data) in enumerate(states, start=1)
        ]
    )


def _people(
    users: Sequence[User], agents: Sequence[Agent], sessions: Sequence[ChatSession], tasks: Sequence[AgentTask]
) -> list[dict[str, Any]]:
    people = {user.pk: _person(user, _of_team(agents, user)) for user in users}
    for name, rows in (("sessions", sessions), ("tasks", tasks)):
        for row in reversed(rows):  # the newest are asked for
            if len(people[row.owner_id][name]) < KNOWN:
                people[row.owner_id][name].append(str(row.pk))
    with transaction.atomic():
        for user in users:
            people[user.pk]["key"] = api_keys.issue(user)[1]
            people[user.pk]["refresh"] = tokens.begin(user).refresh
    return list(people.values())


def _person(user: User, agents: Sequence[Agent]) -> dict[str, Any]:
    named = [{"id": str(agent.pk), "name": agent.name} for agent in agents[:KNOWN]]
    return {"name": user.username, "agents": named, "sessions": [], "tasks": []}


if __name__ == "__main__":
    main()
