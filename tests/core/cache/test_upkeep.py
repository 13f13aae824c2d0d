"""What is done for the cache beside answering."""

import random

import pytest

from core import cache
from core.cache import hits, upkeep
from core.cache.entries import OVERHEAD_BYTES
from core.cache.memory import memory
from core.cache.stores import store
from tests.core.cache.conftest import counted
from tests.core.cache.test_answers import TAGS, found, put

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.both_databases,
    pytest.mark.usefixtures("any_store"),
]


def make_used(**times):
    """Entries that were found so many times."""
    for key, count in times.items():
        put(key)
        for _ in range(count):
            found(key)
    upkeep.tell_hits()


def one_round(thread_of_upkeep):
    upkeep._wake.set()  # it would wait afterwards
    thread_of_upkeep.round()


def test_what_was_found_is_told_to_the_store_in_any_level():
    make_used(seldom=1, often=5, never=0)
    assert store().most_used(10) == ["often", "seldom"]
    assert [row.hits for row in store().rows(["often", "seldom", "never"])] == [5, 1, 0]
    found("seldom")
    upkeep.tell_hits()
    assert [row.hits for row in store().rows(["seldom"])] == [2]


def test_only_so_many_keys_are_counted_between_two_tellings(monkeypatch):
    monkeypatch.setattr(hits, "MAX_KEYS", 2)
    for key in ("one", "two", "three", "one"):
        hits.note(key)
    assert hits.take() == {"one": 2, "two": 1}
    assert hits.take() == {}


def test_hits_of_what_is_gone_make_no_entry():
    hits.note("gone")
    upkeep.tell_hits()
    assert store().most_used(10) == []
    assert store().usage().entries == 0


def test_an_entry_that_is_made_anew_keeps_its_hits():
    make_used(often=3)
    put("often", b"newer")
    assert [row.hits for row in store().rows(["often"])] == [3]


def test_warming_loads_what_is_asked_for_most():
    make_used(a=5, b=3, c=1, never=0)
    memory.clear()
    assert upkeep.warm() == 3
    assert [cache.get(key, TAGS).level for key in ("a", "b", "c", "never")] == ["memory"] * 3 + ["shared"]


def test_warming_takes_half_of_the_memory_and_the_most_used_last_longest(settings):
    settings.CACHE_MEMORY_BYTES = 20 * (OVERHEAD_BYTES + 50)
    make_used(**{f"key{number:02}": 30 - number for number in range(30)})
    memory.clear()
    assert upkeep.warm() == 10
    for number in range(10, 28):  # drives out all but the last two that were loaded
        put(f"new{number}")
        found(f"new{number}")
    levels = [cache.get(key, TAGS).level for key in ("key00", "key01", "key09")]
    assert levels == ["memory", "memory", "shared"]


def test_warming_loads_nothing_void():
    make_used(a=5, b=3)
    put("b", tags=["agent:other"])
    cache.invalidate("agent:helper")
    assert upkeep.warm() == 1


def test_a_process_is_warm_soon_after_its_start_and_when_it_is_told_to():
    make_used(a=5)
    memory.clear()
    process = upkeep._Upkeep()
    one_round(process)
    assert counted("sutazai_cache_memory_entries") == 1
    memory.clear()
    one_round(process)
    assert counted("sutazai_cache_memory_entries") == 0
    upkeep.warm_everywhere()
    one_round(process)
    assert counted("sutazai_cache_memory_entries") == 1


def test_the_thread_of_a_process_tells_hits_now_and_then(monkeypatch):
    monkeypatch.setattr(upkeep, "TELL_HITS_SECONDS", 0)
    put()
    found()
    one_round(upkeep._Upkeep())
    assert store().most_used(10) == ["key"]


def test_sweeping_deletes_what_nobody_finds_any_more_and_nothing_else(wait_until):
    put("ended", ttl_seconds=0.2)
    put("void")
    put("valid", tags=["agent:other"])
    wait_until(lambda: found("ended") is None, timeout_seconds=5)
    cache.invalidate("agent:helper")
    assert upkeep.sweep() == 2
    usage = store().usage()
    assert (usage.entries, usage.bytes) == (1, len("valid") + len("value") + OVERHEAD_BYTES)
    assert found("valid", ["agent:other"]) == b"value"


def test_sweeping_goes_through_more_than_it_asks_for_at_once():
    for number in range(1100):
        put(f"key:{number}", b"", ["agent:helper" if number % 2 else "agent:other"])
    cache.invalidate("agent:helper")
    assert upkeep.sweep() == 550
    assert store().usage().entries == 550


def test_the_thread_of_a_process_sweeps_after_an_invalidation():
    put()
    process = upkeep._Upkeep()
    one_round(process)
    assert store().usage().entries == 1
    cache.clear()
    one_round(process)
    assert store().usage().entries == 0


def test_a_repeating_load_is_mostly_answered():
    """Of 5,000 questions, drawn by Zipf's law (s=1) from 1,000, at least 80 % after 1,000 that warm up."""
    draw = random.Random(7)
    prompts = draw.choices(range(1000), weights=[1 / rank for rank in range(1, 1001)], k=6000)
    answered = 0
    for number, prompt in enumerate(prompts):
        hit = cache.get(f"prompt:{prompt}", TAGS)
        if isinstance(hit, cache.Stamp):
            cache.put(f"prompt:{prompt}", f"answer {prompt}".encode(), hit, ttl_seconds=3600)
        else:
            assert hit.value == f"answer {prompt}".encode()
            answered += number >= 1000
    assert answered >= 0.8 * 5000
