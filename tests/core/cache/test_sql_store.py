"""What only the database's store, or its file, has to see to by itself."""

import pytest

from core.cache.entries import EVERYTHING, MAX_TTL_SECONDS, OVERHEAD_BYTES, Stamp
from core.cache.sql_store import BATCH
from core.cache.stores import store
from tests.core.access.limits.conftest import hand_clock as hand_clock  # noqa: PLC0414 - a fixture of its neighbours
from tests.core.cache.conftest import empty

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

TAGS = (EVERYTHING, "agent:helper")


@pytest.fixture
def another_process():
    """The store as a process has it that has put nothing yet."""
    empty()
    return type(store())()


def put(to, key, *, ttl_seconds=60):
    stamp = Stamp(TAGS, to.look("", TAGS, "").generations, 0)
    return to.put(key, b"x" * 1000, stamp, ttl_seconds)


def test_a_process_trims_what_others_left(another_process, settings):
    for number in range(50):
        put(store(), f"key:{number}")
    settings.CACHE_SHARED_BYTES = 20 * (OVERHEAD_BYTES + 1010)
    assert put(another_process, "last") > 30
    assert another_process.usage().bytes <= settings.CACHE_SHARED_BYTES


def test_trimming_drops_what_has_ended_first(another_process, settings, hand_clock):
    for number in range(10):
        put(store(), f"valid:{number}", ttl_seconds=600)
    for number in range(10):
        put(store(), f"ended:{number}", ttl_seconds=60)
    hand_clock.advance(60)
    settings.CACHE_SHARED_BYTES = 20 * (OVERHEAD_BYTES + 1010)
    assert put(another_process, "last") == 0
    assert another_process.usage().entries == 11


def test_trimming_goes_on_until_it_is_enough(another_process, settings):
    for number in range(BATCH + 200):
        put(store(), f"key:{number}")
    settings.CACHE_SHARED_BYTES = 50 * (OVERHEAD_BYTES + 1010)
    put(another_process, "last")
    assert another_process.usage().bytes <= settings.CACHE_SHARED_BYTES
    assert another_process.rows(["last"])


def test_a_generation_ends_after_the_longest_life(hand_clock):
    first = store().look("", TAGS, "").generations
    hand_clock.advance(MAX_TTL_SECONDS - 1)
    assert store().look("", TAGS, "").generations == first
    hand_clock.advance(1)
    second = store().look("", TAGS, "").generations
    assert not set(first.split(".")) & set(second.split("."))
    assert store().look("", TAGS, "").generations == second
