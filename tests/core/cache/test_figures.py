"""What the cache tells of itself."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from core import cache
from core.cache import figures, upkeep
from core.cache.memory import memory
from core.ops import metrics
from tests.core.access.limits.test_windows import database_url
from tests.core.cache.test_answers import TAGS, found, put

ROOT = Path(__file__).resolve().parents[3]
COUNTED = ("hits", "misses", "sets", "evictions")

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.both_databases,
    pytest.mark.usefixtures("any_store"),
]


def test_each_level_counts_what_happens_to_it():
    before = figures.figures()
    found()
    put()
    for _ in range(3):
        found()
    cache.invalidate("agent:helper", "team:one")
    told = figures.figures()

    def more(level):
        earlier, later = getattr(before, level), getattr(told, level)
        return {
            name: getattr(later, name) - getattr(earlier, name) for name in ("hits", "misses", "sets", "evictions")
        }

    assert more("memory") == {"hits": 2, "misses": 2, "sets": 1, "evictions": 0}
    assert more("shared") == {"hits": 1, "misses": 1, "sets": 1, "evictions": 0}
    assert told.invalidations - before.invalidations == 2
    assert not told.is_degraded


def test_they_tell_how_full_each_level_is(settings):
    put("one")
    put("two")
    found("one")
    told = figures.figures()
    assert (told.memory.entries, told.shared.entries) == (1, 2)
    assert told.shared.bytes == 2 * told.memory.bytes + len("onetwo")
    assert (told.memory.limit_bytes, told.shared.limit_bytes) == (
        settings.CACHE_MEMORY_BYTES,
        settings.CACHE_SHARED_BYTES,
    )


def test_the_most_used_entries_are_those_that_can_be_found():
    for key, times in (("one", 3), ("two", 2), ("three", 1)):
        put(key, tags=[f"agent:{key}"])
        for _ in range(times):
            found(key, [f"agent:{key}"])
    upkeep.tell_hits()
    cache.invalidate("agent:two")
    rows = figures.most_used(10)
    assert [(row.key, row.hits, row.value_bytes, row.tags) for row in rows] == [
        ("one", 3, 5, ("*", "agent:one")),
        ("three", 1, 5, ("*", "agent:three")),
    ]
    assert [row.key for row in figures.most_used(1)] == ["one"]
    assert figures.entry("one")[1] == b"value"
    assert figures.entry("two") is None
    assert figures.entry("none") is None


COUNTING = """
import sys, django
django.setup()
from core import cache
tags = ["agent:a"]
for number in range(4):
    hit = cache.get(sys.argv[1], tags)
    if isinstance(hit, cache.Stamp):
        cache.put(sys.argv[1], b"value", hit, ttl_seconds=60)
print("ready", flush=True)
sys.stdin.readline()
"""
SCRAPING = """
import django
django.setup()
from core.cache import figures
from core.ops import metrics
print(metrics.page("")[1].decode())
"""


def test_metrics_are_right_for_several_processes(tmp_path, settings, request):
    """Two processes ask four times each and miss once; a third, which asks nothing, tells of it."""
    environment = {
        **os.environ,
        "DATABASE_URL": database_url(),
        "REDIS_URL": settings.REDIS_URL,
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path),
    }

    def start(*arguments):
        command = [sys.executable, "-c", *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, text=True)

    processes = [start(COUNTING, f"{request.node.name}:{number}") for number in range(2)]
    try:
        assert [process.stdout.readline() for process in processes] == ["ready\n"] * 2
        text = start(SCRAPING).communicate(timeout=60)[0]
    finally:
        for process in processes:
            process.communicate("\n", timeout=60)
    values = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in parse(text)
        for sample in family.samples
    }
    assert values["cache_hit_ratio",] == 6 / 8
    assert values["sutazai_cache_lookups_total", "hit", "memory"] == 4
    assert values["sutazai_cache_lookups_total", "memory", "miss"] == 4
    assert values["sutazai_cache_lookups_total", "hit", "shared"] == 2
    assert values["sutazai_cache_lookups_total", "miss", "shared"] == 2
    assert values["sutazai_cache_sets_total", "shared"] == 2
    assert values["sutazai_cache_memory_entries",] == 2
    assert values["sutazai_cache_memory_bytes",] > 2000
    assert values["sutazai_cache_shared_entries",] == 2
    assert values["sutazai_cache_degraded",] == 0


def test_before_the_first_question_the_ratio_is_no_number():
    (family,) = figures.ratio(metrics.Totals([]))
    assert math.isnan(family.samples[0].value)


def test_the_figures_hold_no_key_and_no_value():
    put("secret-key", b"secret-value")
    memory.clear()
    found("secret-key")
    text = metrics.page("")[1].decode() + json.dumps(str(figures.figures()))
    assert "secret" not in text
    assert all(tag not in text for tag in TAGS)
