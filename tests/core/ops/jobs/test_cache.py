"""The maintenance jobs of the cache."""

from datetime import timedelta

import pytest
from django.utils import timezone

from core import cache
from core.cache import upkeep
from core.cache.memory import memory
from core.models import CacheInvalidation, MaintenanceRun
from core.ops import maintenance
from tests.core.cache.conftest import empty

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_databases]


def run(job):
    row = maintenance.run(job, trigger=MaintenanceRun.Trigger.SCHEDULE)
    assert row.status == "succeeded", row.error
    return row


@pytest.fixture(autouse=True)
def entries():
    empty()
    for tag in ("one", "two", "two"):
        key = f"{tag}:{timezone.now().isoformat()}"
        cache.put(key, b"value", cache.stamp([tag]), ttl_seconds=60)
        cache.get(key, [tag])
    upkeep.tell_hits()


def test_void_entries_are_swept():
    cache.invalidate("two")
    row = run("sweep_cache")
    assert row.summary == "Deleted 2 entries and 0 old invalidations."
    assert (row.before["cache_entries"], row.after["cache_entries"]) == (3, 1)
    assert row.before["cache_bytes"] > row.after["cache_bytes"] > 0


def test_old_invalidations_are_forgotten_once_they_hold():
    cache.invalidate("held", "recent")
    old = timezone.now() - timedelta(days=31)
    CacheInvalidation.objects.filter(tag="held").update(at=old)
    CacheInvalidation.objects.create(tag="owed", generation="1", at=old)
    assert maintenance.preview("sweep_cache") == "It would delete 0 entries and 1 old invalidations."
    row = run("sweep_cache")
    assert row.summary == "Deleted 0 entries and 1 old invalidations."
    assert (row.before["cache_invalidations"], row.after["cache_invalidations"]) == (3, 2)
    assert set(CacheInvalidation.objects.values_list("tag", flat=True)) == {"owed", "recent"}


def test_warming_reaches_processes_that_serve():
    process = upkeep._Upkeep()
    upkeep.sweep_soon()  # it would wait after its round otherwise
    process.round()
    memory.clear()
    run("warm_cache")
    upkeep.sweep_soon()
    process.round()
    assert memory.get(upkeep.shared.ask(lambda store: store.most_used(1))[0]) is not None
