"""The real program under load, counted from outside: it has no connection but those of its pools.

That no code opens another stands in tests/security/test_one_way_out.py.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest
import requests

from tests.ollama_server import OllamaTestProcess
from tests.program import Program, role_of, wait_for

pytestmark = [pytest.mark.postgres, pytest.mark.redis]

AT_A_TIME = 120
DATABASE, REDIS, NODE = 12, 8, 4
# Beside its pool, web keeps one connection to Redis, over which it looks whether Redis is there.
PROBES = 1
NAME = "sutazai_connections"


@pytest.fixture
def database(postgres_url: str) -> Iterator[str]:
    """A database of the test's own."""
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {NAME}")
        yield urlsplit(postgres_url)._replace(path=f"/{NAME}").geturl()
        server.execute(f"DROP DATABASE {NAME} WITH (FORCE)")


@pytest.fixture
def ollama() -> Iterator[OllamaTestProcess]:
    with OllamaTestProcess() as server:
        yield server


@pytest.fixture
def program(tmp_path: Path, database: str, redis_url: str, ollama: OllamaTestProcess) -> Iterator[Program]:
    with Program(
        tmp_path,
        DATABASE_URL=database,
        REDIS_URL=redis_url,
        CELERY_BROKER_URL="filesystem://localhost",  # whose connections are no pool's of ours
        OLLAMA_HOST=ollama.url,
        SUTAZAI_NODE_SLOTS="16",
        SUTAZAI_WEB_THREADS="40",
        SUTAZAI_DATABASE_POOL=str(DATABASE),
        SUTAZAI_REDIS_CONNECTIONS=str(REDIS),
        SUTAZAI_OLLAMA_CONNECTIONS=str(NODE),
        SUTAZAI_POOL_WAIT_SECONDS="60",
    ) as running:
        yield running


class Watch:
    """Looks again and again at which connections each process has, and keeps the most that it saw."""

    def __init__(self, program: Program, targets: dict[int, str]) -> None:
        self.most: Counter[tuple[str, str]] = Counter()
        self.elsewhere: set[tuple[str, int]] = set()
        self._program = program
        self._targets = targets
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        processes = [(process, role_of(process)) for process in self._program.processes()]
        while not self._over.wait(0.01):
            for process, role in processes:
                with suppress(psutil.Error):
                    self._look(process, role)

    def _look(self, process: psutil.Process, role: str) -> None:
        seen: Counter[str] = Counter()
        for connection in process.net_connections("inet"):
            is_incoming = connection.laddr.port == self._program.port
            if connection.raddr and not is_incoming and connection.status == psutil.CONN_ESTABLISHED:
                target = self._targets.get(connection.raddr.port)
                if target is None:
                    self.elsewhere.add((role, connection.raddr.port))
                else:
                    seen[target] += 1
        for target, count in seen.items():
            self.most[role, target] = max(self.most[role, target], count)


def ports_of(**urls: str) -> dict[int, str]:
    return {urlsplit(url).port or 0: name for name, url in urls.items()}


def test_a_crowd_waits_for_the_pools_and_nobody_fails(
    program: Program, database: str, redis_url: str, ollama: OllamaTestProcess
) -> None:
    headers = {"Authorization": f"Bearer {program.manage('create_api_key', '--user', 'operator')}"}
    together = threading.Barrier(AT_A_TIME)

    def chat(number: int) -> requests.Response:
        together.wait()
        url = f"{program.url}/api/v1/chat/"
        return requests.post(url, json={"message": f"question {number} [[f30]]"}, headers=headers, timeout=120)

    with (
        Watch(program, ports_of(database=database, redis=redis_url, node=ollama.url)) as watch,
        ThreadPoolExecutor(AT_A_TIME) as threads,
    ):
        answers = list(threads.map(chat, range(AT_A_TIME)))

    def pools() -> dict[str, Any]:
        return requests.get(f"{program.url}/api/v1/pools/", headers=headers, timeout=20).json()

    assert Counter(answer.status_code for answer in answers) == {200: AT_A_TIME}
    assert all(f"question {number} " in answer.text for number, answer in enumerate(answers))

    assert watch.elsewhere == set()
    limits = {"database": DATABASE, "redis": REDIS + PROBES, "node": NODE}
    for (role, target), count in watch.most.items():
        assert count <= limits[target], f"{role}: {count} connections to {target}"
    # The crowd was large enough to fill what it had to wait for.
    assert watch.most["worker", "node"] == NODE
    assert watch.most["web", "database"] == DATABASE

    def is_counted() -> bool:
        counted = pools()  # each process tells of itself now and then
        return min(counted["http_requests"], counted["redis_operations"]) >= AT_A_TIME

    wait_for(is_counted, "every call was counted")
    counted = pools()
    assert counted["db_queries"] > AT_A_TIME
    assert counted["connection_errors"] == 0
    uses = {pool["name"]: pool for pool in counted["pools"]}
    assert {use["process"] for use in uses["ollama"]["processes"]} == {"web", "worker"}
    assert uses["ollama"]["waits"] > 0
    assert uses["database"]["waits"] > 0
