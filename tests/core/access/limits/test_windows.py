"""Counting, wherever counts are kept."""

import os
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.conf import settings as django_settings
from django.db import connection
from limits import RateLimitItemPerMinute
from limits.strategies import FixedWindowRateLimiter

from core.access.limits import windows
from core.access.limits.windows import DatabaseWindows
from tests.services.server import free_port

ROOT = Path(__file__).resolve().parents[4]
PROCESSES, TRIES, LIMIT = 8, 25, 50

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


def new_key():
    return f"test:{uuid.uuid4()}"


def check_counting():
    one, two = new_key(), new_key()
    assert [window.hits for window in windows.hit([one, two], 60)] == [1, 1]
    assert [window.hits for window in windows.hit([two], 60)] == [2]
    found = windows.look([two, new_key(), one])
    assert [window.hits for window in found] == [2, 0, 1]
    assert all(58 < window.seconds_left <= 60 for window in (found[0], found[2]))
    assert found[1].seconds_left == 0
    assert windows.hit([two], 60, amount=-1)[0].hits == 1


def test_the_database_counts_for_each_key():
    check_counting()


@pytest.mark.redis
def test_redis_counts_for_each_key(in_redis):
    check_counting()
    assert DatabaseWindows().size() == 0


def test_a_window_ends_when_it_said_and_the_next_begins_with_the_next_hit(hand_clock):
    key = new_key()
    windows.hit([key], 60)
    hand_clock.advance(59.9)
    (window,) = windows.hit([key], 60)
    assert window.hits == 2
    assert round(window.seconds_left, 3) == 0.1
    hand_clock.advance(0.1)
    (window,) = windows.hit([key], 60)
    assert (window.hits, window.seconds_left) == (1, 60)


@pytest.mark.redis
def test_a_window_of_redis_ends_when_it_said(in_redis, wait_until):
    key = new_key()
    windows.hit([key], 1)
    left = windows.hit([key], 1)[0].seconds_left
    assert 0 < left <= 1
    wait_until(lambda: windows.look([key])[0].hits == 0, timeout_seconds=left + 1)


def test_the_storage_serves_the_algorithms_of_the_library():
    limiter, item, key = FixedWindowRateLimiter(DatabaseWindows()), RateLimitItemPerMinute(3), new_key()
    assert [limiter.hit(item, key) for _ in range(5)] == [True, True, True, False, False]
    assert not limiter.test(item, key)
    assert limiter.get_window_stats(item, key).remaining == 0
    limiter.clear(item, key)
    assert limiter.test(item, key)


def test_spent_windows_are_swept(hand_clock):
    spent, open_ = new_key(), new_key()
    windows.hit([spent], 10)
    windows.hit([open_], 60)
    hand_clock.advance(10)
    assert windows.sweep() == 1
    assert windows.size() == 1


def test_while_redis_is_away_the_database_counts(settings):
    settings.REDIS_URL = f"redis://127.0.0.1:{free_port()}/0"
    settings.CACHES = {
        "default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": settings.REDIS_URL, "OPTIONS": {}}
    }
    key = new_key()
    assert [windows.hit([key], 60)[0].hits for _ in range(3)] == [1, 2, 3]
    assert DatabaseWindows().size() == 1


# Many at once --------------------------------------------------------------------------------------------------------

HITTER = """
import sys, django
django.setup()
from django.db import connection
from core.access.limits import windows
key, tries, limit = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
windows.look([key])
print("ready", flush=True)
sys.stdin.readline()
print(sum(windows.hit([key], 600)[0].hits <= limit for _ in range(tries)), flush=True)
"""


def passed_in_processes(key, **environment):
    """How many tries of many processes at once stay within the limit."""
    command = [sys.executable, "-c", HITTER, key, str(TRIES), str(LIMIT)]
    environment = {**os.environ, "DATABASE_URL": database_url(), **environment}
    processes = [
        subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(PROCESSES)
    ]
    try:
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        return sum(int(process.communicate(timeout=60)[0]) for process in processes)
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def database_url():
    name = connection.settings_dict["NAME"]
    if connection.vendor == "sqlite":
        return f"sqlite:///{name}"
    return urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}").geturl()


@pytest.mark.django_db(transaction=True)
def test_eight_processes_together_pass_as_often_as_is_allowed():
    key = new_key()
    assert passed_in_processes(key) == LIMIT
    assert windows.look([key])[0].hits == PROCESSES * TRIES


@pytest.mark.redis
@pytest.mark.django_db(transaction=True)
def test_eight_processes_together_pass_redis_as_often_as_is_allowed(in_redis, redis_url):
    key = new_key()
    assert passed_in_processes(key, REDIS_URL=redis_url) == LIMIT
    assert windows.look([key])[0].hits == PROCESSES * TRIES


@pytest.mark.django_db(transaction=True)
def test_the_threads_of_a_process_together_pass_as_often_as_is_allowed():
    keys = [new_key(), new_key()]

    def tries(number):
        try:
            # In either order: nobody waits for somebody who waits for them.
            return [windows.hit(keys if number % 2 else keys[::-1], 600)[number % 2 - 1].hits for _ in range(TRIES)]
        finally:
            connection.close()

    with ThreadPoolExecutor(PROCESSES) as pool:
        counts = [count for found in pool.map(tries, range(PROCESSES)) for count in found]
    assert sum(count <= LIMIT for count in counts) == LIMIT
    assert sorted(counts) == list(range(1, PROCESSES * TRIES + 1))


@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="it is about the file")
def test_whoever_writes_to_the_database_keeps_no_request_waiting(transactional_db):
    with connection.cursor() as cursor:
        cursor.execute("BEGIN IMMEDIATE")
        try:
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(windows.hit, [new_key()], 60).result(timeout=2)[0].hits == 1
        finally:
            cursor.execute("ROLLBACK")
    assert django_settings.LIMITS_FILE.exists()
