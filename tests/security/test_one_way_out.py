"""Nothing connects past the pools: what could do so is imported in `core.net` alone, or for another reason.

That the pools' limits hold while the program works stands in tests/sutazai/test_connections.py.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Modules that open connections. What is below one of them counts too, but for the names of its errors.
OPENERS = {
    "aiohttp",
    "amqp",
    "asyncpg",
    "ftplib",
    "http.client",
    "httptools",
    "httpx",
    "kombu",
    "psycopg",
    "psycopg_pool",
    "redis",
    "requests",
    "smtplib",
    "socket",
    "telnetlib",
    "urllib.request",
    "urllib3",
    "websockets",
}
NAMES_OF_ERRORS = {"kombu.exceptions", "redis.exceptions"}
# Calls that open connections without an import of their own.
CALLS = {"create_connection", "open_connection", "open_unix_connection", "sock_connect", "urlopen"}
# What `requests` does at once; whoever imports it for its names does none of it.
OF_REQUESTS = {"Session", "delete", "get", "head", "options", "patch", "post", "put", "request"}

# Who else imports one, and what for.
REASONS = {
    ("core/postgresql/base.py", "psycopg"): "is the way to the database: the pool's own checks",
    ("core/postgresql/base.py", "psycopg_pool"): "is the way to the database: the pool's own checks",
    ("core/postgresql/absence.py", "psycopg"): "names what the way to the database raises",
    ("core/postgresql/absence.py", "psycopg_pool"): "names what the way to the database raises",
    ("core/ops/probes.py", "kombu"): "asks the broker, over one connection that is kept, whether it is there",
    ("core/ops/file_broker.py", "kombu.transport"): "is a broker that consists of files",
    ("core/ops/file_broker.py", "kombu.utils.json"): "is a broker that consists of files",
    ("core/ops/programs.py", "http.client"): "asks the own web process, before anything serves, whether it does",
    ("core/ops/supervisor.py", "socket"): "has a pair of sockets that carries the numbers of signals",
    ("core/ops/processes.py", "socket"): "asks for this host's name",
    ("core/management/commands/up.py", "socket"): "tries whether the port to listen on is free",
    ("core/access/sign_in/identity_calls.py", "requests"): "hands allauth's calls to the pool",
    ("core/access/sign_in/identity_calls.py", "requests.Session()"): "hands allauth's calls to the pool",
    ("core/access/sign_in/adapter.py", "requests"): "names what allauth gets from identity_calls",
    ("core/access/sign_in/oidc.py", "requests"): "names what those calls raise",
    ("core/notifications/emails.py", "smtplib"): "names what sending a mail raises",
}


def sources() -> Iterator[Path]:
    for package in ("agents", "core", "sutazai"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if "migrations" not in path.parts and (ROOT / "core" / "net") not in path.parents:
                yield path


def imported(tree: ast.Module) -> Iterator[str]:
    """Every module that is imported, also inside of functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def openers_in(tree: ast.Module) -> set[str]:
    found = set()
    for module in imported(tree):
        parents = {module.rsplit(".", depth)[0] for depth in range(module.count(".") + 1)}
        if OPENERS & parents and not NAMES_OF_ERRORS & parents:
            found.add(module)
    # `from requests.utils import x` names requests.utils, not each x.
    return {module for module in found if module.rpartition(".")[0] not in found}


def calls_in(tree: ast.Module) -> set[str]:
    called = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    attributes = [function for function in called if isinstance(function, ast.Attribute)]
    at_once = {item.attr for item in attributes if isinstance(item.value, ast.Name) and item.value.id == "requests"}
    return {item.attr for item in attributes} & CALLS | {f"requests.{name}()" for name in at_once & OF_REQUESTS}


def offences(source: str) -> set[str]:
    tree = ast.parse(source)
    return openers_in(tree) | calls_in(tree)


def test_connections_are_opened_in_one_place():
    found = {(str(path.relative_to(ROOT)), name) for path in sources() for name in offences(path.read_text())}
    assert found - set(REASONS) == set(), "Call through core.net, or say above what else this is for."
    assert set(REASONS) - found == set(), "These are gone; so may their reasons."


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import requests", "requests"),
        ("def f():\n    import socket", "socket"),
        ("from urllib import request", "urllib.request"),
        ("import urllib.request as u", "urllib.request"),
        ("from http.client import HTTPConnection", "http.client"),
        ("from redis import Redis", "redis"),
        ("from redis.client import Redis", "redis.client"),
        ("requests.get('http://host')", "requests.get()"),
        ("import asyncio\nasyncio.open_connection('host', 1)", "open_connection"),
        ("async def f(loop):\n    await loop.create_connection(None)", "create_connection"),
    ],
)
def test_every_way_around_is_seen(source, name):
    assert offences(source) == {name}


@pytest.mark.parametrize(
    "source",
    [
        "from redis.exceptions import RedisError",
        "from urllib.parse import urlsplit",
        "from http import HTTPStatus",
        "from kombu.exceptions import OperationalError",
        "from django_redis import get_redis_connection",
    ],
)
def test_what_opens_nothing_is_left_alone(source):
    assert offences(source) == set()
