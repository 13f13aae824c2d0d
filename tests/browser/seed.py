"""An hour of believable work, for screenshots: `python -m tests.browser.seed` in the program's environment.

Rows are written as the engine would have left them, one event each; the tasks that pictures show are real runs.
"""

import json
import random
from datetime import datetime, timedelta

import django

django.setup()

from django.utils import timezone  # noqa: E402

from agents.engine.receipt import receipt  # noqa: E402
from agents.models import Agent, AgentTask, Node, NodeModel, TaskEvent  # noqa: E402
from core import cache  # noqa: E402
from core.cache import upkeep  # noqa: E402
from core.models import CircuitBreaker, MaintenanceRun, User, WebhookDelivery, uuid7  # noqa: E402
from core.net import breakers  # noqa: E402
from core.ops.jobs.backup import BACK_UP  # noqa: E402
from tests.factories import make_alert, make_delivery, make_webhook  # noqa: E402

TASKS = 900
ERRORS = {
    "first-byte-timeout": "No answer began within 330 s.",
    "server-error": "llama runner process has terminated: out of memory",
    "cut-stream": "The connection broke in the middle of the answer.",
}
Status = AgentTask.Status


def main() -> None:
    chance = random.Random(7)
    now = timezone.now()
    people = [User.objects.get(username="operator"), *(_person(name) for name in ("ada", "grace", "linus"))]
    agents = list(Agent.objects.select_related("live_version"))
    _second_version(Agent.objects.get(name="helper"), people[0])
    _guide(people[0])
    _cache(people[0])
    _webhooks(now)
    places = list(NodeModel.objects.filter(node__kind=Node.Kind.OLLAMA).select_related("node"))
    tasks = [
        _task(chance, chance.choice(people), chance.choice(agents), chance.choice(places), now - _ago(chance))
        for _ in range(TASKS)
    ]
    tasks.sort(key=lambda task: task.created_at)
    for task in tasks:
        task.pk = uuid7()
    AgentTask.objects.bulk_create(tasks)
    TaskEvent.objects.bulk_create(
        TaskEvent(task=task, number=1, type="state", data='{"status":"queued"}', created_at=task.created_at)
        for task in tasks
    )
    down = Node.objects.create(
        name="gpu2",
        url="http://127.0.0.2:11434",
        status=Node.Status.DOWN,
        status_reason="ConnectionRefusedError: [Errno 111] Connection refused while connecting",
        status_since=now - timedelta(minutes=12),
        probed_at=now - timedelta(seconds=21),
    )
    breakers.trip(down.breaker_id, by=people[0], reason="New disks")
    breakers.reset(down.breaker_id, by=people[0], reason="They are in")
    breakers.failed(down.breaker_id, f"connect-failed: {down.status_reason}", is_certain=True)
    CircuitBreaker.objects.filter(pk=down.breaker_id).update(opened_at=down.status_since)
    make_alert("NodeLost", labels={"node": down.name})
    _failed_backup(now)


def _ago(chance: random.Random) -> timedelta:
    """A moment of the last hour, more likely a late one."""
    return timedelta(seconds=3400 * chance.random() ** 1.2 + 40)


def _person(name: str) -> User:
    return User.objects.create_user(name, email=f"{name}@example.org")


def _second_version(agent: Agent, author: User) -> None:
    live = agent.live_version
    agent.add_version(
        created_by=author,
        system_prompt=f"{live.system_prompt}\nAnswer in the language of the question.\nNever invent sources.",
        options={"temperature": 0.2, "num_ctx": 8192},
        model="tinyllama",
        note="Calmer, and in the asker's language",
    )


def _guide(owner: User) -> None:
    """An agent of the built-in model: its answers are real text."""
    guide = Agent.objects.create(
        name="guide", kind="chat", description="Quotes the handbook.", owner=owner, team=owner.team
    )
    guide.make_live(guide.add_version(created_by=owner, model="builtin"))


def _cache(owner: User) -> None:
    """Answers that were asked for again, some more often than others."""
    chance = random.Random(7)
    for number in range(12):
        model = chance.choice(["tinyllama:latest", "llama3.2:latest"])
        tags = ("agent:helper", f"model:{model}", f"team:{owner.team_id}")
        key = f"{owner.team_id}:{chance.randbytes(32).hex()}"
        answer = json.dumps({"text": "The notes say what changed. " * chance.randrange(2, 60), "done_reason": "stop"})
        cache.put(key, answer.encode(), cache.stamp(tags), ttl_seconds=86_400)
        for _ in range(60 // (number + 1)):
            cache.get(key, tags)
    upkeep.tell_hits()


def _webhooks(now: datetime) -> None:
    """One that takes what it is sent, and one that has not for a while; nothing is due."""
    works = make_webhook(
        "https://hooks.example/services/T0/B0/q7", name="ops channel", format="slack", delivered_at=now
    )
    fails = make_webhook(
        "https://automation.example/told",
        name="home automation",
        failing_since=now - timedelta(minutes=50),
        last_error="503 Service Unavailable",
    )
    tried = {"tried_at": now - timedelta(minutes=9), "last_status": 503, "last_error": "503 Service Unavailable"}
    taken = {"status": WebhookDelivery.Status.DELIVERED, "next_try_at": None, "attempts": 1}
    taken |= {"tried_at": now, "last_status": 200}
    for title in ("Alert: The node gpu2 is lost", "Over: The disk is nearly full", "Alert: The disk is nearly full"):
        make_delivery(works, title, **taken)
    gave_up = {"status": WebhookDelivery.Status.FAILED, "next_try_at": None, "attempts": 30}
    make_delivery(fails, "Alert: The disk is nearly full", **gave_up, **tried)
    make_delivery(fails, "Alert: The node gpu2 is lost", attempts=6, next_try_at=now + timedelta(minutes=21), **tried)


def _failed_backup(now: datetime) -> None:
    began = now - timedelta(minutes=41)
    MaintenanceRun.objects.create(
        job=BACK_UP,
        trigger=MaintenanceRun.Trigger.SCHEDULE,
        status=MaintenanceRun.Status.FAILED,
        started_at=began,
        finished_at=began + timedelta(seconds=4),
        error="OSError: [Errno 28] No space left on device: '/mnt/backups/sutazai-20261122.tar.part'",
    )


def _task(chance: random.Random, owner: User, agent: Agent, place: NodeModel, created_at: datetime) -> AgentTask:
    waited, first, wrote = chance.expovariate(3), chance.expovariate(1.6) + 0.15, chance.expovariate(0.35) + 0.5
    status = chance.choices([Status.SUCCEEDED, Status.FAILED, Status.CANCELLED], [94, 4, 2])[0]
    finished_at = created_at + timedelta(seconds=min(waited + first + wrote, 39))
    code = (
        chance.choice(list(ERRORS)) if status == Status.FAILED else "cancelled" if status == Status.CANCELLED else ""
    )
    tokens = chance.randrange(40, 600)
    name = "message" if agent.kind == "chat" else "text"
    task = AgentTask(
        agent=agent,
        version=agent.live_version,
        kind=agent.kind,
        model=place.name,
        owner=owner,
        team_id=owner.team_id,
        input={name: "What changed in our release notes since last week?"},
        deadline_at=created_at + timedelta(minutes=15),
        status=status,
        created_at=created_at,
        granted_at=created_at + timedelta(seconds=waited * 0.9),
        started_at=created_at + timedelta(seconds=waited),
        first_output_at=created_at + timedelta(seconds=waited + first) if status == Status.SUCCEEDED else None,
        finished_at=finished_at,
        event_count=1,
        node=place.node,
        node_model=place,
        fence=1,
        result="The notes say what changed." if status == Status.SUCCEEDED else None,
        error_code=code,
        error_detail=ERRORS.get(code, "The task was cancelled." if code else ""),
        is_degraded=chance.random() < 0.01,
        prompt_tokens=tokens * 2,
        output_tokens=tokens if status == Status.SUCCEEDED else None,
    )
    task.receipt = receipt(task, finished_at, {"node": place.node.name})
    return task


if __name__ == "__main__":
    main()
