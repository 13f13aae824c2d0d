"""Redis is killed, hangs, comes back with older data, or has no room; the cache has less to tell, and never lies."""

import logging
import os
import signal
from dataclasses import replace
from datetime import timedelta

import pytest
from django.core.cache import caches
from django.db import OperationalError
from django.utils import timezone

from core import cache
from core.cache import answers, figures, invalidations, upkeep
from core.cache.memory import memory
from core.cache.shared import shared
from core.cache.stores import store
from core.models import CacheInvalidation
from core.ops.probes import State
from tests.core.cache.conftest import counted, empty
from tests.core.cache.test_answers import TAGS, found, put

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.redis]


def in_memory(key="key", value=b"value"):
    put(key, value)
    assert [found(key), found(key)] == [value, value]


def bring_back(server):
    server.start()
    server.wait_until_ready()
    assert shared.try_again(at_once=True)


def as_another_process():
    """Know nothing but what is in the database and the store."""
    memory.clear()
    shared.forget()


def test_while_redis_is_away_memory_answers_and_the_cache_says_so(own_redis, caplog):
    in_memory()
    put("in-redis-alone")
    stamp = cache.get("made-meanwhile", TAGS)
    own_redis.kill()
    with caplog.at_level(logging.WARNING, logger="core.cache"):
        assert found() == b"value"
        assert found("in-redis-alone") is None
        cache.put("made-meanwhile", b"new", stamp, ttl_seconds=60)
        cache.put("made-later", b"newer", cache.get("made-later", TAGS), ttl_seconds=60)
        assert [found("made-meanwhile"), found("made-later")] == [b"new", b"newer"]

    assert [record.message for record in caplog.records if "is away" in record.message] == [
        record.message for record in caplog.records
    ]
    assert len(caplog.records) == 1
    told = figures.figures()
    assert told.is_degraded
    assert told.degraded_since is not None
    assert (told.shared.entries, told.shared.bytes) == (None, None)
    assert figures.most_used(10) == []
    assert shared.finding().state == State.DEGRADED
    assert counted("sutazai_cache_degraded") == 1

    caplog.clear()
    bring_back(own_redis)
    assert not figures.figures().is_degraded
    assert shared.finding().state == State.UP
    assert counted("sutazai_cache_degraded") == 0
    assert ["back" in record.message for record in caplog.records] == [True]
    put(value=b"after")
    assert found() == b"after"


def test_a_copy_is_trusted_for_a_short_time_alone(own_redis, wait_until, monkeypatch):
    monkeypatch.setattr(answers, "TRUST_SECONDS", 1.0)
    in_memory()
    own_redis.kill()
    assert found() == b"value"
    wait_until(lambda: found() is None, timeout_seconds=5)


def test_trust_counts_from_when_a_copy_was_compared_last(own_redis):
    in_memory()
    memory.get("key").checked_at -= 2 * answers.TRUST_SECONDS
    assert found() == b"value"
    own_redis.kill()
    assert found() == b"value"
    memory.get("key").checked_at -= answers.TRUST_SECONDS
    assert found() is None


def test_trust_counts_from_when_the_making_began(own_redis):
    stamp = cache.stamp(TAGS)
    own_redis.kill()
    assert found() is None
    cache.put("key", b"value", stamp, ttl_seconds=60)
    assert found() == b"value"
    cache.put("key", b"value", replace(stamp, taken_at=stamp.taken_at - answers.TRUST_SECONDS), ttl_seconds=60)
    assert found() is None


def test_a_server_that_hangs_keeps_nobody_waiting_twice(own_redis):
    in_memory()
    os.kill(own_redis.pid, signal.SIGSTOP)
    try:
        assert [found() for _ in range(500)] == [b"value"] * 500  # each would wait half a second
    finally:
        os.kill(own_redis.pid, signal.SIGCONT)


def test_an_invalidation_holds_in_this_process_while_redis_is_away(own_redis):
    in_memory()
    in_memory("other")
    own_redis.kill()
    assert found() == b"value"
    stamp = cache.get("new", TAGS)
    cache.invalidate("agent:helper")
    cache.put("new", b"stale", stamp, ttl_seconds=60)
    assert [found(), found("other"), found("new")] == [None, None, None]


def test_an_invalidation_holds_in_others_that_cannot_ask_redis_either(own_redis):
    in_memory()
    own_redis.kill()
    assert found() == b"value"
    invalidations.announce(["agent:helper"])  # by another process
    CacheInvalidation.objects.update(at=timezone.now() - timedelta(hours=1))  # on a host whose clock is slow
    assert found() is None


def test_an_invalidation_that_another_process_delivered_first_holds_too(own_redis):
    in_memory()
    os.kill(own_redis.pid, signal.SIGSTOP)
    assert found() == b"value"
    invalidations.announce(["agent:helper"])  # by another process, for which Redis is back already
    os.kill(own_redis.pid, signal.SIGCONT)
    invalidations.carry_out(store())
    assert shared.is_away
    assert found() is None


def test_an_invalidation_made_while_redis_was_away_holds_when_it_is_back(own_redis, monkeypatch):
    in_memory()
    put("in-redis-alone")
    os.kill(own_redis.pid, signal.SIGSTOP)  # so that it comes back with everything it had
    assert found() == b"value"
    cache.invalidate("agent:helper")
    assert shared.is_away
    os.kill(own_redis.pid, signal.SIGCONT)
    forget, found_at_once = shared.forget, []

    def believe_again_and_ask():
        forget()
        found_at_once.extend([found(), found("in-redis-alone")])

    monkeypatch.setattr(shared, "forget", believe_again_and_ask)
    assert shared.try_again(at_once=True)
    assert found_at_once == [None, None]
    monkeypatch.undo()
    as_another_process()
    assert [found(), found("in-redis-alone")] == [None, None]
    put(value=b"new")
    assert found() == b"new"


def test_an_invalidation_made_while_redis_comes_back_holds_too(own_redis, monkeypatch):
    in_memory()
    os.kill(own_redis.pid, signal.SIGSTOP)
    found()
    os.kill(own_redis.pid, signal.SIGCONT)
    forget = shared.forget

    def believe_again_just_after_it():
        invalidations.announce(["agent:helper"])  # by a thread for which Redis is away still
        forget()

    monkeypatch.setattr(shared, "forget", believe_again_just_after_it)
    assert shared.try_again(at_once=True)
    assert found() is None


def test_an_invalidation_outlives_the_process_that_could_not_deliver_it(own_redis):
    in_memory()
    os.kill(own_redis.pid, signal.SIGSTOP)
    found()
    cache.invalidate("agent:helper")
    os.kill(own_redis.pid, signal.SIGCONT)
    as_another_process()
    monitor = upkeep._Upkeep()
    upkeep.sweep_soon()  # it would wait after its round otherwise
    monitor.round()
    assert found() is None
    assert invalidations.hold(TAGS)


def test_a_server_that_restarts_with_older_data_is_not_believed(own_redis):
    in_memory()
    put("in-redis-alone")
    store()._redis.save()  # what it will find at its start
    cache.invalidate("agent:helper")
    put("valid", tags=["agent:other"])
    own_redis.kill()
    own_redis.start()
    own_redis.wait_until_ready()
    caches["default"].client.get_client().connection_pool.disconnect()  # nobody noticed that it was away
    assert store()._redis.exists("sutazai:cache:entry:in-redis-alone")

    as_another_process()
    assert [found(), found("in-redis-alone")] == [None, None]
    assert not shared.is_away
    put(value=b"new")
    assert found() == b"new"
    assert upkeep.sweep() == 1
    assert store().usage().entries == 1


def test_a_store_that_was_out_of_use_gets_what_it_missed(own_redis, settings):
    url = settings.REDIS_URL
    settings.REDIS_URL = ""
    empty()
    in_memory()  # in the database's store
    settings.REDIS_URL = url
    memory.clear()
    put(value=b"in redis")
    cache.invalidate("agent:helper")
    put(value=b"new in redis")

    settings.REDIS_URL = ""
    memory.clear()
    invalidations.carry_out(store())  # as the first round of every process does
    assert found() is None
    settings.REDIS_URL = url
    memory.clear()
    invalidations.carry_out(store())
    assert found() is None or found() == b"new in redis"


def test_a_server_without_room_takes_no_more_and_still_answers(own_redis):
    put()
    client = store()._redis
    client.config_set("maxmemory", 1)
    put("no-room", b"x" * 100_000)
    assert not shared.is_away
    assert [found("no-room"), found()] == [None, b"value"]
    client.config_set("maxmemory", 0)
    put("no-room", b"x" * 100_000)
    assert found("no-room") is not None


def test_a_server_that_evicts_our_accounts_takes_entries_again(own_redis, settings):
    for number in range(20):
        put(f"key:{number}")
    store()._redis.delete("sutazai:cache:used", "sutazai:cache:sizes")
    settings.CACHE_SHARED_BYTES = 15_000  # less than what is on the account, of which nobody knows whose it is
    for number in range(30):
        put(f"new:{number}")
    assert not shared.is_away
    assert 0 < store().usage().bytes <= settings.CACHE_SHARED_BYTES
    assert found("new:29") == b"value"


def test_a_database_that_fails_after_the_commit_fails_no_caller(own_redis, monkeypatch):
    def fail(_store):
        raise OperationalError

    put()
    with monkeypatch.context() as broken:
        broken.setattr(invalidations, "carry_out", fail)
        cache.invalidate("agent:helper")
    assert not invalidations.hold(["agent:helper"])
    invalidations.carry_out(store())
    assert found() is None


def test_redis_is_asked_again_by_whoever_comes_after_a_pause(own_redis, monkeypatch):
    own_redis.kill()
    assert found() is None
    own_redis.start()
    own_redis.wait_until_ready()
    put()
    assert shared.is_away
    memory.clear()
    monkeypatch.setattr(shared._absence, "ask_again_at", 0)
    put()
    assert not shared.is_away
    assert found() == b"value"
