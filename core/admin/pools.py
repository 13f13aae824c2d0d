"""How full the pools of the group's processes are, and what to do where one is full."""

from dataclasses import dataclass

from django.contrib import admin
from django.contrib.auth.decorators import permission_required
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.safestring import SafeString

from core.admin import dashboard
from core.admin.dashboard import Panel, Problem
from core.formats import badge, is_high, meter, number
from core.ops import pool_use
from core.ops.pool_use import PoolUse, ProcessUse

PERMISSION = "core.view_maintenancerun"


@dataclass(frozen=True)
class _About:
    """A pool in words. setting: what makes it larger."""

    title: str
    what: str
    help: str
    setting: str


ABOUT = {
    "threads": _About(
        "Threads",
        "Requests that a web process answers at a time; streams and calls of the gateway need none.",
        "Who finds none for 5 seconds, or for half a second where that has lasted, is refused with 503. Look in the"
        " metrics for the route that is asked most, and give its callers a limit. Where the load has simply grown, run"
        " more web processes (SUTAZAI_WEB_PROCESSES), with PostgreSQL.",
        "SUTAZAI_WEB_THREADS",
    ),
    "ollama": _About(
        "Model servers",
        "Calls at a time to one model server.",
        "Slots should limit the work of a model server long before this. Look for a node that takes calls and does not"
        " answer, and drain it; or give nodes fewer slots.",
        "SUTAZAI_OLLAMA_CONNECTIONS",
    ),
    "agents": _About(
        "Agents elsewhere",
        "Calls at a time to one agent on another machine.",
        "The agent takes calls and is slow to answer. Look at it first.",
        "SUTAZAI_AGENT_CONNECTIONS",
    ),
    "external": _About(
        "Other addresses",
        "Calls at a time to one identity provider or other address.",
        "The other side takes calls and is slow to answer. Look at it first.",
        "SUTAZAI_EXTERNAL_CONNECTIONS",
    ),
    "database": _About(
        "PostgreSQL",
        "Connections to the database.",
        "Look for statements that take long, and for a database that is short of processors or disk. All processes"
        " together must stay below its max_connections.",
        "SUTAZAI_DATABASE_POOL",
    ),
    "redis": _About(
        "Redis",
        "Connections to Redis.",
        "Commands take microseconds, so Redis, or the network to it, is slow. Look at them first.",
        "SUTAZAI_REDIS_CONNECTIONS",
    ),
}


@dataclass(frozen=True)
class _Row:
    """A process's use of a pool, as the page draws it."""

    process: str
    state: SafeString
    bar: SafeString
    text: str
    waiting: str


@permission_required(PERMISSION, raise_exception=True)
def page(request: HttpRequest) -> HttpResponse:
    group = pool_use.of_the_group()
    context = {
        **admin.site.each_context(request),
        "title": "Pools",
        "figures": [
            ("Calls to others", group.http_requests),
            ("Database statements", group.db_queries),
            ("Redis operations", group.redis_operations),
            ("Connection errors", group.connection_errors),
        ],
        "pools": [(pool, ABOUT[pool.name], [_row(pool, use) for use in pool.processes]) for pool in group.pools],
    }
    return TemplateResponse(request, "console/pools.html", context)


def _row(pool: PoolUse, use: ProcessUse) -> _Row:
    fullest = round(use.utilisation * use.limit)
    text = f"{number(fullest)} of {number(use.limit)}"
    name = f"{ABOUT[pool.name].title}, {use.process}: {text}"
    return _Row(_name(use), _state(use), meter(fullest, use.limit, name), text, number(use.waiting))


def _name(use: ProcessUse) -> str:
    return f"{use.process} ({use.pid})" if use.pid else use.process


def _state(use: ProcessUse) -> SafeString:
    if use.waiting or use.utilisation >= 1:
        return badge("Full", "bad")
    if _is_nearly_full(use):
        return badge("Nearly full", "warning")
    return badge("Free", "good")


def _is_nearly_full(use: ProcessUse) -> bool:
    return is_high(round(use.utilisation * use.limit), use.limit)


def problems() -> Panel:
    """What the dashboard says while a pool is full, or nearly so."""
    found = []
    for pool in pool_use.of_the_group().pools:
        uses = [use for use in pool.processes if use.waiting or _is_nearly_full(use)]
        if uses:
            about, fullest = ABOUT[pool.name], max(uses, key=lambda use: (use.waiting, use.utilisation))
            state = "full" if fullest.waiting or fullest.utilisation >= 1 else "nearly full"
            title = f"The pool “{about.title}” of {_name(fullest)} is {state}"
            level = "bad" if state == "full" else "warning"
            found.append(Problem(level, title, about.help, url=reverse("console-pools"), action="Open the pools"))
    return Panel(problems=found)


dashboard.register("pools", problems, permission=PERMISSION, position=95)
