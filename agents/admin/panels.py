"""The agents' part of the dashboard: a bounded number of queries, each on an index.

- unfinished tasks by status, and by model those that wait: `tasks_by_status`, `queue_of_model`
- running tasks by place: `running_on_node_model`
- the last hour by minute, status and error, and its latest answers: `tasks_by_end`
- the latest failures: `tasks_by_status`
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import CharField, Count, Min, Q, Sum
from django.db.models.functions import Cast, Coalesce, Left
from django.urls import reverse

from agents.admin.advice import advice
from agents.engine.grant import Slots
from agents.models import AgentTask, Node, NodeModel
from core.admin import breakers, dashboard
from core.admin.dashboard import Cell, Chart, Figure, Panel, Problem, Series, Table
from core.formats import age, duration
from core.ops import clock

Status = AgentTask.Status

WINDOW = timedelta(hours=1)
RECENT = timedelta(minutes=15)  # failures of so long ago still count as a problem of now
UNCLAIMED_SECONDS = 15  # a living worker takes a grant within a second
STUCK_SECONDS = 30  # a task that waits so long beside a free slot
LATENCY_SAMPLE = 1000  # answers; more change the percentiles little and cost much
MAX_NODES = 50


def _list_url(**filters: str) -> str:
    query = "&".join(f"{name}={value}" for name, value in filters.items())
    return reverse("admin:agents_agenttask_changelist") + (f"?{query}" if query else "")


# Tasks -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Minute:
    """What ended in one minute with one status and error code."""

    minute: str
    status: str
    error_code: str
    count: int
    prompt_tokens: int
    output_tokens: int
    degraded: int


def tasks() -> Panel:
    """Queue, throughput, latency and errors of the last hour."""
    now = clock.now()
    counts = dict(AgentTask.objects.unfinished().order_by().values_list("status").annotate(Count("pk")))
    ended = _last_hour(now)
    latencies = _latencies(now)
    return Panel(
        problems=[*_worker_problems(now), *_queue_problems(now), *_failure_problems(ended, now)],
        figures=_figures(counts, ended, latencies, now),
        charts=[_throughput(ended, now), _latency(latencies), _errors(ended), _tokens(ended, now)],
        tables=[_latest_failures()],
    )


def _window(now: datetime) -> tuple[datetime, datetime]:
    """The last hour. With both bounds, SQLite takes the index before it knows how many rows there are."""
    return now - WINDOW, now


def _last_hour(now: datetime) -> list[Minute]:
    # The first 16 characters, "2026-11-20 14:05", are the minute on SQLite and PostgreSQL alike.
    minute = Left(Cast("finished_at", CharField()), 16)
    rows = AgentTask.objects.filter(finished_at__range=_window(now)).order_by().annotate(minute=minute)
    grouped = rows.values("minute", "status", "error_code").annotate(
        count=Count("pk"),
        prompt_tokens=Coalesce(Sum("prompt_tokens"), 0),
        output_tokens=Coalesce(Sum("output_tokens"), 0),
        degraded=Count("pk", filter=Q(is_degraded=True)),
    )
    return [Minute(**row) for row in grouped]


def _latencies(now: datetime) -> dict[str, list[float]]:
    """Seconds from submission to three moments, of the hour's latest answers, sorted."""
    rows = AgentTask.objects.filter(finished_at__range=_window(now)).order_by("-finished_at")
    moments = rows.values_list("status", "created_at", "started_at", "first_output_at", "finished_at")
    found: dict[str, list[float]] = {"Queue wait": [], "First token": [], "Whole answer": []}
    # The status is looked at here: in the query it would tempt SQLite to read every answer there ever was.
    for status, created_at, *ends in moments[:LATENCY_SAMPLE]:
        if status != Status.SUCCEEDED:
            continue
        for name, end in zip(found, ends, strict=True):
            if end is not None:
                found[name].append(max(0.0, (end - created_at).total_seconds()))
    return {name: sorted(values) for name, values in found.items()}


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value that at least this share of the values does not exceed (nearest rank)."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _worker_problems(now: datetime) -> list[Problem]:
    late = now - timedelta(seconds=UNCLAIMED_SECONDS)
    unclaimed = AgentTask.objects.running().filter(runner="", granted_at__lt=late)
    found = unclaimed.aggregate(count=Count("pk"), since=Min("granted_at"))
    if not found["count"]:
        return []
    return [
        Problem(
            "bad",
            f"No worker takes the {found['count']} tasks that have a slot",
            "Start a worker, or see in the log why the one there is does not work.",
            since=found["since"],
            url=_list_url(trouble="unclaimed"),
            action="Show them",
        )
    ]


def _queue_problems(now: datetime) -> list[Problem]:
    """Queues that do not move, each with the reason."""
    due = Q(run_after=None) | Q(run_after__lte=now)
    waiting = AgentTask.objects.queued().filter(due).order_by().values_list("model")
    queues = {model: (count, since) for model, count, since in waiting.annotate(Count("pk"), Min("created_at"))}
    places = defaultdict(list)
    for place in NodeModel.objects.serving(list(queues)).select_related("node__breaker"):
        places[place.name].append(place)
    slots = Slots(queues, now, is_locked=False)
    found = [
        _queue_problem(_Queue(model, count, since), places[model], slots.free(model), now)
        for model, (count, since) in queues.items()
    ]
    return [problem for problem in found if problem]


@dataclass(frozen=True)
class _Queue:
    """Tasks that wait for one model and could run. since: when the oldest was submitted."""

    model: str
    count: int
    since: datetime


def _queue_problem(queue: _Queue, places: Sequence[NodeModel], free: int, now: datetime) -> Problem | None:
    since, waited = queue.since, (now - queue.since).total_seconds()
    alive = [place for place in places if not place.node.breaker.is_shut]
    tasks_wait = f"{queue.count} task{'' if queue.count == 1 else 's'} for {queue.model}"
    url, action = reverse("admin:agents_node_changelist"), "Look at the nodes"
    if not alive:
        why = "Every node that has the model is down." if places else "No node that takes tasks has the model."
        return Problem("bad", f"Nothing can run {tasks_wait}", why, since=since, url=url, action=action)
    if free and waited > STUCK_SECONDS:
        why = "Slots are free, yet the queue does not move. Web or worker processes may have stopped; see the log."
        return Problem(
            "bad",
            f"Not moving: {tasks_wait}",
            why,
            since=since,
            url=_list_url(status__exact="queued"),
            action="Show them",
        )
    if waited > settings.QUEUE_WAIT_TARGET_SECONDS:
        why = "All slots are busy. More slots or another node with this model would shorten the queue."
        return Problem("warning", f"Waiting long: {tasks_wait}", why, since=since, url=url, action=action)
    return None


def _running_by_place() -> Counter[int]:
    counted = AgentTask.objects.running().order_by().values_list("node_model").annotate(Count("pk"))
    return Counter(dict(counted))


def _failure_problems(ended: Iterable[Minute], now: datetime) -> list[Problem]:
    first_minute = f"{now - RECENT:%Y-%m-%d %H:%M}"
    recent = [item for item in ended if item.minute >= first_minute]
    codes: Counter[str] = Counter()
    for item in recent:
        if item.status in {Status.FAILED, Status.EXPIRED}:
            codes[item.error_code] += item.count
    failed, total = sum(codes.values()), sum(item.count for item in recent)
    if not failed:
        return []
    code, _ = codes.most_common(1)[0]
    return [
        Problem(
            "bad" if failed * 5 >= total else "warning",
            f"{failed} of {total} tasks failed in the last 15 minutes",
            f"Mostly {code}. {advice(code)}",
            url=_list_url(error_code=code),
            action="Show them",
        )
    ]


def _figures(
    counts: dict[str, int], ended: list[Minute], latencies: dict[str, list[float]], now: datetime
) -> list[Figure]:
    total = sum(item.count for item in ended)
    failed = sum(item.count for item in ended if item.status in {Status.FAILED, Status.EXPIRED})
    degraded = sum(item.degraded for item in ended)
    prompt, output = sum(item.prompt_tokens for item in ended), sum(item.output_tokens for item in ended)
    last_minutes = f"{now - timedelta(minutes=5):%Y-%m-%d %H:%M}"
    lately = sum(item.count for item in ended if item.minute > last_minutes)
    first = latencies["First token"]
    return [
        Figure("Waiting", f"{counts.get(Status.QUEUED, 0):,}", _oldest(now), url=_list_url(status__exact="queued")),
        Figure(
            "Running",
            f"{counts.get(Status.RUNNING, 0):,}",
            "tasks on models now",
            url=_list_url(status__exact="running"),
        ),
        Figure("Finished", f"{total:,}", f"in an hour; {lately / 5:.1f} per minute lately"),
        Figure(
            "Failed", f"{failed:,}", "in an hour", url=_list_url(status__exact="failed"), tone="bad" if failed else ""
        ),
        Figure("First token", duration(percentile(first, 0.5)), f"median; p95 {duration(percentile(first, 0.95))}"),
        Figure("Tokens", f"{prompt + output:,}", f"in an hour; {output:,} written"),
        Figure(
            "Degraded",
            f"{degraded:,}",
            "answers by the built-in model",
            url=_list_url(trouble="degraded"),
            tone="warning" if degraded else "",
        ),
    ]


def _oldest(now: datetime) -> str:
    oldest = AgentTask.objects.queued().order_by("pk").values_list("created_at", flat=True).first()
    return f"the oldest for {age(oldest, now)}" if oldest else "nobody waits"


def _minutes(now: datetime) -> list[str]:
    """The keys of the last 60 minutes, oldest first."""
    return [f"{now - timedelta(minutes=back):%Y-%m-%d %H:%M}" for back in range(59, -1, -1)]


def _throughput(ended: Iterable[Minute], now: datetime) -> Chart:
    groups = {Status.SUCCEEDED: "good", Status.FAILED: "bad", Status.EXPIRED: "warning", Status.CANCELLED: "neutral"}
    counts: Counter[tuple[str, str]] = Counter()
    for item in ended:
        counts[item.status, item.minute] += item.count
    minutes = _minutes(now)
    series = [
        Series(status.label, [counts[status, minute] for minute in minutes], tone) for status, tone in groups.items()
    ]
    labels = [minute[-5:] for minute in minutes]
    return Chart(
        "throughput", "Finished per minute", "stacked", labels, series if counts else [], hint="last hour, UTC"
    )


def _latency(latencies: dict[str, list[float]]) -> Chart:
    series = [
        Series(label, [percentile(values, share) for values in latencies.values()], tone)
        for label, share, tone in (("p50", 0.5, "busy"), ("p95", 0.95, "warning"))
    ]
    sampled = len(latencies["Whole answer"])
    hint = f"from submission, of the last {sampled:,} answers in an hour"
    return Chart("latency", "Latency", "bars", list(latencies), series if sampled else [], unit="s", hint=hint)


def _errors(ended: Iterable[Minute]) -> Chart:
    codes: Counter[str] = Counter()
    for item in ended:
        if item.error_code:
            codes[item.error_code] += item.count
    common = codes.most_common(8)
    series = [Series("Tasks", [count for _, count in common], "bad")] if common else []
    labels = [code for code, _ in common]
    return Chart(
        "errors", "Errors by code", "rows", labels, series, hint="last hour", empty="No errors in the last hour."
    )


def _tokens(ended: Iterable[Minute], now: datetime) -> Chart:
    read: Counter[str] = Counter()
    written: Counter[str] = Counter()
    for item in ended:
        read[item.minute] += item.prompt_tokens
        written[item.minute] += item.output_tokens
    minutes = _minutes(now)
    series = [
        Series("Read", [read[minute] for minute in minutes], "neutral"),
        Series("Written", [written[minute] for minute in minutes], "good"),
    ]
    has_any = any(read.values()) or any(written.values())
    labels = [minute[-5:] for minute in minutes]
    empty = "No tokens in the last hour. The built-in model counts none."
    return Chart(
        "tokens", "Tokens per minute", "lines", labels, series if has_any else [], hint="last hour", empty=empty
    )


def _latest_failures() -> Table:
    rows = AgentTask.objects.filter(status=Status.FAILED).select_related("agent", "node").order_by("-pk")
    fields = ("agent__name", "node__name", "error_code", "error_detail", "finished_at")
    return Table(
        "failures",
        "Latest failures",
        ["When", "Agent", "Why", "Node"],
        [
            [
                Cell(moment=task.finished_at, url=reverse("admin:agents_agenttask_change", args=[task.pk])),
                Cell(task.agent.name),
                Cell(f"{task.error_code}: {task.error_detail[:160]}"),
                Cell(task.node.name if task.node else "–"),
            ]
            for task in rows.only(*fields)[:5]
        ],
        empty="No task has failed.",
        url=_list_url(status__exact="failed"),
    )


# Nodes -------------------------------------------------------------------------------------------------------------

NODE_TONES = {Node.Status.UP: "good", Node.Status.DOWN: "bad", Node.Status.UNKNOWN: "neutral"}


def node_state(node: Node) -> tuple[str, str]:
    """How a node is, in a word or two, and its tone: what decides whether it is given tasks comes first."""
    if node.is_draining:
        return "Draining", "warning"
    if node.breaker.is_held:
        return node.breaker.state_label, "warning"
    if node.breaker.is_shut and node.status != Node.Status.DOWN:
        return "Failing", "bad"
    return Node.Status(node.status).label, NODE_TONES[Node.Status(node.status)]


def node_since(node: Node) -> datetime | None:
    return node.breaker.troubled_since or node.status_since


def nodes() -> Panel:
    """The state of every node, and what is wrong with them."""
    rows = Node.objects.select_related("breaker").prefetch_related("places")
    known = list(rows.order_by("kind", "name")[:MAX_NODES])
    running = _running_by_place()
    return Panel(problems=_node_problems(known), tables=[_node_table(known, running)])


def _node_problems(known: Iterable[Node]) -> list[Problem]:
    servers = [node for node in known if not node.is_builtin]
    if not servers:
        return [
            Problem(
                "warning",
                "No Ollama node is connected",
                "The built-in model answers from the handbook, degraded. Add a node to get real answers.",
                url=reverse("admin:agents_node_add"),
                action="Add a node",
            )
        ]
    found = [breakers.problem(node.breaker, f"The node {node.name}") for node in servers]
    return [problem for problem in found if problem]


def _node_table(known: Iterable[Node], running: Counter[int]) -> Table:
    rows = []
    for node in known:
        models = [model for model in node.places.all() if model.is_available]
        busy = sum(running[model.pk] for model in models)
        loaded = [model.name for model in models if model.is_loaded]
        state, tone = node_state(node)
        rows.append(
            [
                Cell(node.name, url=reverse("admin:agents_node_change", args=[node.pk])),
                Cell(state, tone=tone),
                Cell(moment=node_since(node)),
                Cell(f"{busy} of {node.slots} per model"),
                Cell(", ".join(loaded) or "none"),
            ]
        )
    return Table(
        "nodes",
        "Nodes",
        ["Node", "State", "Since", "Running", "Loaded models"],
        rows,
        empty="No nodes yet. Open Nodes and add an Ollama server by its address.",
        url=reverse("admin:agents_node_changelist"),
    )


dashboard.register("tasks", tasks, permission="agents.view_agenttask", position=10)
dashboard.register("nodes", nodes, permission="agents.view_node", position=20)
