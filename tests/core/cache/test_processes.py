"""Real processes, each with its own memory, over one store."""

import os
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest

from core import cache
from tests.core.access.limits.test_windows import database_url
from tests.core.cache.test_answers import TAGS, found, put

ROOT = Path(__file__).resolve().parents[3]
PROCESSES = 3

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.both_databases,
    pytest.mark.usefixtures("any_store"),
]

READER = """
import sys, django
django.setup()
from core import cache
tags = sys.argv[1:]
for line in sys.stdin:
    word, key, *value = line.split()
    if word == "get":
        hit = cache.get(key, tags)
        answer = "nothing" if isinstance(hit, cache.Stamp) else f"{hit.value.decode()} from {hit.level}"
    elif word == "put":
        cache.put(key, value[0].encode(), cache.stamp(tags), ttl_seconds=60)
        answer = "done"
    else:
        cache.invalidate(key)
        answer = "done"
    print(answer, flush=True)
"""


class Process:
    """Asks the cache for us."""

    def __init__(self, settings):
        environment = {**os.environ, "DATABASE_URL": database_url(), "REDIS_URL": settings.REDIS_URL}
        self._process = subprocess.Popen(
            [sys.executable, "-c", READER, *TAGS],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def do(self, *words):
        self._process.stdin.write(" ".join(words) + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def end(self):
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def started():
    """Processes by the Redis that they use; they take seconds to start."""
    groups = {}
    yield groups
    for process in chain(*groups.values()):
        process.end()


@pytest.fixture
def processes(started, settings):
    if settings.REDIS_URL not in started:
        started[settings.REDIS_URL] = [Process(settings) for _ in range(PROCESSES)]
    return started[settings.REDIS_URL]


def test_all_share_one_store(processes):
    first, *others = processes
    assert first.do("get", "once") == "nothing"
    first.do("put", "once", "made-once")
    for process in others:
        assert process.do("get", "once") == "made-once from shared"
        assert process.do("get", "once") == "made-once from memory"
    assert found("once") == b"made-once"


def test_an_invalidation_holds_at_once_in_every_process(processes):
    for tag in TAGS * 3:
        put(value=tag.encode())
        for process in processes:
            process.do("get", "key")
            assert process.do("get", "key") == f"{tag} from memory"
        processes[0].do("invalidate", tag)
        # At the very next question: nobody waits for anything here.
        assert [process.do("get", "key") for process in processes] == ["nothing"] * PROCESSES
        assert found() is None


def test_clearing_holds_at_once_in_every_process(processes):
    put()
    for process in processes:
        process.do("get", "key")
    cache.clear()
    assert [process.do("get", "key") for process in processes] == ["nothing"] * PROCESSES
