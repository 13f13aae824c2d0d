"""What is put is found, within its limits, until something invalidates it; in whatever store."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, transaction

from core import cache
from core.cache import invalidations
from core.cache.entries import MAX_TTL_SECONDS, OVERHEAD_BYTES
from core.cache.memory import memory
from core.cache.stores import store
from core.models import CacheInvalidation
from tests.core.cache.conftest import counted

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.both_databases,
    pytest.mark.usefixtures("any_store"),
]

TAGS = ("agent:helper", "model:tiny", "team:one")
OTHER = ("agent:other", "model:large", "team:two")


def put(key="key", value=b"value", tags=TAGS, **more):
    cache.put(key, value, cache.stamp(tags), **{"ttl_seconds": 60, **more})


def found(key="key", tags=TAGS):
    """The value that is found; None where there is only a stamp."""
    hit = cache.get(key, tags)
    return None if isinstance(hit, cache.Stamp) else hit.value


def test_what_was_put_is_found_in_the_store_and_from_then_on_in_memory():
    assert isinstance(cache.get("key", TAGS), cache.Stamp)
    put()
    hits = [cache.get("key", TAGS) for _ in range(3)]
    assert [(hit.value, hit.level) for hit in hits] == [
        (b"value", cache.Level.SHARED),
        (b"value", cache.Level.MEMORY),
        (b"value", cache.Level.MEMORY),
    ]
    assert 0 <= hits[0].age_seconds <= hits[1].age_seconds <= hits[2].age_seconds < 10


def test_any_bytes_come_back_as_they_were():
    for value in (b"", b"\n", b"\0" * 10, bytes(range(256)) * 40):
        put(value=value)
        memory.clear()
        assert [found(), found()] == [value, value]


def test_keys_and_tags_in_any_script_are_taken():
    put("schlüssel:名前", tags=["modell:größe", "名前:ü" * 15])
    assert found("schlüssel:名前", tags=["名前:ü" * 15, "modell:größe"]) == b"value"
    (row,) = store().rows(["schlüssel:名前"])
    assert set(row.tags) == {"*", "modell:größe", "名前:ü" * 15}


def test_a_newer_value_takes_the_place_of_an_older_one():
    put(value=b"old" * 100)
    put(value=b"new")
    assert found() == b"new"
    usage = store().usage()
    assert (usage.entries, usage.bytes) == (1, len("key") + len("new") + OVERHEAD_BYTES)


def test_it_ends_when_it_was_to_end(wait_until):
    put(ttl_seconds=0.4)
    memory_only = {"key": "other", "ttl_seconds": 0.4}
    put(**memory_only)
    assert [found("other"), found("other")] == [b"value"] * 2  # now in memory too
    wait_until(lambda: found() is None and found("other") is None, timeout_seconds=5)


def test_nothing_lives_longer_than_the_generations():
    put(ttl_seconds=10 * MAX_TTL_SECONDS)
    (row,) = store().rows(["key"])
    assert MAX_TTL_SECONDS - 60 < row.seconds_left <= MAX_TTL_SECONDS


def test_what_is_over_already_or_too_large_is_not_kept(settings):
    settings.CACHE_VALUE_BYTES = 1000
    put(ttl_seconds=0)
    assert found() is None
    put(value=b"x" * 1001)
    assert found() is None
    put(value=b"x" * 1000)
    assert found() == b"x" * 1000


@pytest.mark.parametrize("key", ["", "x" * 201, "a\0b", "a\nb", "\ud800"])
def test_what_can_be_no_key_is_refused(key):
    stamp = cache.stamp(TAGS)
    with pytest.raises(ValueError, match="cannot be a key"):
        cache.get(key, TAGS)
    with pytest.raises(ValueError, match="cannot be a key"):
        cache.put(key, b"value", stamp, ttl_seconds=60)


@pytest.mark.parametrize("tags", [[""], ["x" * 101], ["*"], ["*warming"], ["a\nb"], ["a\0b"]])
def test_what_can_be_no_tag_is_refused(tags):
    with pytest.raises(ValueError, match="cannot be tags"):
        cache.get("key", tags)
    with pytest.raises(ValueError, match="cannot be tags"):
        cache.invalidate(*tags)
    assert not CacheInvalidation.objects.exists()


def test_more_tags_than_a_look_may_compare_are_refused():
    put(tags=[f"tag:{number}" for number in range(10)])
    with pytest.raises(ValueError, match="cannot be tags"):
        put(tags=[f"tag:{number}" for number in range(11)])


# Invalidation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", TAGS)
def test_each_tag_invalidates_in_both_levels(tag):
    put("in-memory")
    put("in-store")
    put("other", tags=OTHER)
    assert [found("in-memory"), found("in-memory"), found("other", OTHER), found("other", OTHER)] == [b"value"] * 4

    cache.invalidate(tag)

    assert counted("sutazai_cache_memory_entries") == 1  # what was for somebody's eyes does not stay for nothing
    assert [found("in-memory"), found("in-store"), found("other", OTHER)] == [None, None, b"value"]
    memory.clear()
    assert [found("in-memory"), found("in-store"), found("other", OTHER)] == [None, None, b"value"]


def test_what_is_made_after_an_invalidation_is_found():
    put(value=b"old")
    cache.invalidate("model:tiny")
    put(value=b"new")
    assert [found(), found()] == [b"new", b"new"]


def test_what_began_to_be_made_before_an_invalidation_is_never_found():
    stamp = cache.get("key", TAGS)
    cache.invalidate("agent:helper")
    cache.put("key", b"stale", stamp, ttl_seconds=60)
    assert found() is None


def test_clearing_leaves_nothing():
    put()
    put("without-tags", tags=())
    stamp = cache.stamp(TAGS)
    assert [found(), found("without-tags", ())] == [b"value"] * 2
    cache.clear()
    cache.put("late", b"stale", stamp, ttl_seconds=60)
    assert [found(), found("without-tags", ()), found("late")] == [None, None, None]


def test_an_entry_is_not_found_by_other_tags():
    put()
    assert found() == b"value"
    assert found(tags=["agent:helper"]) is None
    assert found(tags=["team:two", *TAGS]) is None
    assert found(tags=reversed(TAGS)) == b"value"


def test_an_invalidation_is_part_of_the_transaction():
    put()
    assert found() == b"value"
    with transaction.atomic():
        cache.invalidate("agent:helper")
        transaction.set_rollback(True)
    assert found() == b"value"
    assert not CacheInvalidation.objects.exists()
    with transaction.atomic():
        cache.invalidate("agent:helper")
        late = cache.stamp(TAGS)  # of somebody who may still have read what was there before the commit
    cache.put("late", b"stale", late, ttl_seconds=60)
    assert [found(), found("late")] == [None, None]


def test_an_invalidation_whose_process_died_is_carried_out_by_another():
    put()
    assert found() == b"value"
    invalidations.announce(["agent:helper"])  # and no more of it
    assert invalidations.carry_out(store()) == 1
    assert found() is None
    assert invalidations.carry_out(store()) == 0


def test_an_invalidation_that_comes_while_one_is_carried_out_is_not_forgotten():
    invalidations.announce(["agent:helper"])

    class Slow:
        """A store that takes so long that the tag is invalidated again meanwhile."""

        name = store().name

        def renew(self, generations):
            store().renew(generations)
            invalidations.announce(["agent:helper"])

    invalidations.carry_out(Slow())
    assert not invalidations.hold(["agent:helper"])
    assert invalidations.carry_out(store()) == 1
    assert invalidations.hold(["agent:helper"])


def test_a_generation_that_was_lost_invalidates():
    """As when a server evicts it: the one that is made anew is no older one."""
    put()
    assert found() == b"value"
    name = store().name
    if name.startswith("redis"):
        store()._redis.delete("sutazai:cache:generation:agent:helper")
    else:
        store().run("DELETE FROM core_cachegeneration WHERE tag = %s", ["agent:helper"])
    assert [found(), found()] == [None, None]
    put(value=b"new")
    assert found() == b"new"


def test_nobody_finds_what_was_invalidated_while_many_read_and_write():
    """Entries are made from a number that is raised before each invalidation; nobody finds an older one after it."""
    number, invalidated = [0], [0]

    def work(is_writer):
        try:
            found_late = []
            for _ in range(60):
                least = invalidated[0]
                hit = cache.get("key", TAGS)
                if isinstance(hit, cache.Stamp):
                    cache.put("key", str(number[0]).encode(), hit, ttl_seconds=60)
                elif int(hit.value) < least:
                    found_late.append((hit, least))
                if is_writer:
                    number[0] += 1
                    cache.invalidate("team:one")
                    invalidated[0] = number[0]
            return found_late
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert [late for found_late in pool.map(work, [True, False, False, False]) for late in found_late] == []
    assert invalidated == [60]


# Limits -------------------------------------------------------------------------------------------------------------


def test_memory_holds_no_more_than_it_may_and_drops_the_least_used(settings):
    settings.CACHE_MEMORY_BYTES = 100 * (OVERHEAD_BYTES + 1000)
    memory.clear()
    dropped = counted("sutazai_cache_evictions_total", level="memory")
    for number in range(300):
        put(f"key:{number}", b"x" * 1000)
        found(f"key:{number}")
        assert found("key:0") is not None
        assert counted("sutazai_cache_memory_bytes") <= settings.CACHE_MEMORY_BYTES
    assert counted("sutazai_cache_memory_entries") == 100
    assert counted("sutazai_cache_evictions_total", level="memory") == dropped + 200
    assert cache.get("key:0", TAGS).level == cache.Level.MEMORY
    assert cache.get("key:299", TAGS).level == cache.Level.MEMORY
    assert cache.get("key:100", TAGS).level == cache.Level.SHARED


def test_one_large_entry_does_not_drive_out_all_others_of_memory(settings):
    settings.CACHE_MEMORY_BYTES = 80_000
    memory.clear()
    put("small")
    put("large", b"x" * 10_000)
    assert [cache.get(key, TAGS).level for key in ("small", "small", "large", "large")] == [
        cache.Level.SHARED,
        cache.Level.MEMORY,
        cache.Level.SHARED,
        cache.Level.SHARED,
    ]


def test_the_store_holds_no_more_than_it_may_and_drops_the_least_used(settings):
    settings.CACHE_SHARED_BYTES = 100 * (OVERHEAD_BYTES + 1000)
    dropped = counted("sutazai_cache_evictions_total", level="shared")
    put("used", b"x" * 1000)
    for number in range(400):
        put(f"key:{number:03}", b"x" * 900)
        if number % 10 == 0:
            store().note_hits({"used": 1})
        assert store().usage().bytes <= settings.CACHE_SHARED_BYTES
    usage = store().usage()
    assert 80 <= usage.entries <= 110
    assert counted("sutazai_cache_evictions_total", level="shared") == dropped + 401 - usage.entries
    assert found("used") is not None
    assert found("key:399") is not None
    assert found("key:000") is None


def test_the_store_drops_what_it_has_too_much_of_when_its_limit_shrinks(settings):
    for number in range(50):
        put(f"key:{number}", b"x" * 1000)
    settings.CACHE_SHARED_BYTES = 20 * (OVERHEAD_BYTES + 1000)
    put("last", b"x" * 1000)
    assert store().usage().bytes <= settings.CACHE_SHARED_BYTES
    assert found("last") is not None


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="it is about its tables")
def test_the_tables_of_postgresql_have_no_log():
    with connection.cursor() as cursor:
        cursor.execute("SELECT relname FROM pg_class WHERE relname LIKE 'core_cache%%' AND relpersistence = 'u'", [])
        names = {name for (name,) in cursor.fetchall()}
    assert {"core_cacheentry", "core_cacheuse", "core_cachegeneration"} <= names
    assert "core_cacheinvalidation" not in names


def test_tenants_have_entries_of_their_own():
    one, two = (f"{uuid.uuid4()}:same question" for _ in range(2))
    put(one, b"one", tags=["team:one"])
    assert found(two, ["team:two"]) is None
