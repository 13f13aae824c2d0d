"""The console's pages about the response cache."""

import json

import pytest
from django.test import Client
from django.urls import reverse

from core.cache import hits, upkeep
from core.cache.shared import shared
from core.models import AuditEntry, CacheInvalidation
from tests.core.cache.conftest import empty
from tests.core.cache.conftest import own_redis as own_redis  # noqa: PLC0414 - a fixture of its neighbours
from tests.core.cache.test_answers import TAGS, found, put
from tests.factories import make_staff

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_databases]

PAGE = "/admin/cache/"
SECRET = b'{"answer": "<script>alert(1)</script> confidential"}'


@pytest.fixture(autouse=True)
def empty_cache():
    empty()
    hits.take()


@pytest.fixture
def entry():
    """An entry that was asked for twice; returns the address of its page."""
    put("team-1:key<b>", SECRET)
    for _ in range(2):
        found("team-1:key<b>")
    upkeep.tell_hits()
    return f"{reverse('console-cache-entry')}?key=team-1%3Akey%3Cb%3E"


def browser_of(*permissions: str) -> Client:
    client = Client()
    client.force_login(make_staff(*permissions))
    return client


def test_the_page_says_what_to_expect_while_there_is_nothing(console):
    text = console.get(PAGE).text
    assert "Nothing was asked for again yet." in text


def test_the_page_shows_what_is_asked_for_most_and_never_its_content(console, entry):
    response = console.get(PAGE)
    text = response.text
    assert "team-1:key&lt;b&gt;" in text
    assert "agent:helper, model:tiny, team:one" in text
    assert "confidential" not in text
    assert [(row.hits, row.value_bytes) for row, _ in response.context["entries"]] == [(2, len(SECRET))]


def test_the_page_costs_the_same_for_many_entries(console, django_assert_max_num_queries):
    for number in range(30):
        put(f"key:{number}")
        found(f"key:{number}")
    upkeep.tell_hits()
    with django_assert_max_num_queries(12):
        assert len(console.get(PAGE).context["entries"]) == 30


def test_the_content_is_opened_on_demand_and_the_log_tells(console, entry):
    assert "confidential" not in console.get(entry).text
    assert not AuditEntry.objects.filter(action="cache-entry.opened").exists()
    response = console.post(entry)
    assert "&lt;script&gt;alert(1)&lt;/script&gt; confidential" in response.text
    assert "<script>alert(1)" not in response.text
    assert "no-store" in response["Cache-Control"]
    assert AuditEntry.objects.get(action="cache-entry.opened").object_id == "team-1:key<b>"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(b'{"a":"\xc3\xbc"}', '{\n  "a": "ü"\n}'), (b"\xff plain", "\ufffd plain"), (b"[" * 100_000, "[" * 100_000)],
)
def test_content_of_any_kind_can_be_shown(console, value, shown):
    put("any", value)
    response = console.post(f"{reverse('console-cache-entry')}?key=any")
    assert response.context["content"] == shown


def test_very_long_content_is_cut(console):
    put("long", json.dumps("x" * 200_000).encode())
    content = console.post(f"{reverse('console-cache-entry')}?key=long").context["content"]
    assert content.endswith("…")
    assert len(content) == 100_001


@pytest.mark.parametrize("key", ["", "nothing", "x" * 500, "%00", "%0A", "%ED%A0%80"])
def test_an_entry_that_is_not_there_leads_back_and_says_so(console, key):
    for ask in (console.get, console.post):
        response = ask(f"{reverse('console-cache-entry')}?key={key}", follow=True)
        assert response.redirect_chain == [(PAGE, 302)]
        assert "This entry is gone" in response.text
    assert not AuditEntry.objects.filter(action="cache-entry.opened").exists()


def test_a_tag_is_invalidated(console, entry):
    text = console.post(reverse("console-cache-invalidate"), {"tag": " agent:helper "}, follow=True).text
    assert "Invalidated what has the tag agent:helper." in text
    assert found("team-1:key<b>") is None
    assert "This entry is gone" in console.get(entry, follow=True).text
    assert AuditEntry.objects.get(action="cache.invalidated").object_id == "agent:helper"


@pytest.mark.parametrize("tag", ["", "*", "x" * 101, "a\nb"])
def test_what_can_be_no_tag_is_refused(console, tag):
    text = console.post(reverse("console-cache-invalidate"), {"tag": tag}, follow=True).text
    assert "Nothing was invalidated" in text
    assert not CacheInvalidation.objects.exists()


def test_everything_is_cleared(console, entry):
    assert "Cleared the cache." in console.post(reverse("console-cache-clear"), follow=True).text
    assert found("team-1:key<b>") is None
    assert AuditEntry.objects.filter(action="cache.cleared").exists()


@pytest.mark.redis
def test_the_page_says_that_redis_is_away(console, own_redis):
    put()
    found()
    own_redis.kill()
    console.get(f"{reverse('console-cache-entry')}?key=key")
    assert shared.is_away
    text = console.get(PAGE).text
    assert "Redis is away" in text
    assert "Mend Redis, or the database, where it stands." in text
    assert "Open the health" in text
    assert "Redis knows, and is away." in text
    text = console.post(reverse("console-cache-invalidate"), {"tag": TAGS[0]}, follow=True).text
    assert "it will hold as soon as that is back" in text


@pytest.mark.parametrize(
    ("permissions", "statuses"),
    [
        ((), [403, 403, 403, 403, 403]),
        (("view_cacheentry",), [200, 200, 200, 403, 403]),
        (("view_cacheentry", "delete_cacheentry"), [200, 200, 200, 302, 302]),
    ],
)
def test_each_page_asks_for_its_permission(entry, permissions, statuses):
    client = browser_of(*permissions)
    answers = [
        client.get(PAGE),
        client.get(entry),
        client.post(entry),
        client.post(reverse("console-cache-invalidate"), {"tag": "agent:other"}),
        client.post(reverse("console-cache-clear")),
    ]
    assert [answer.status_code for answer in answers] == statuses
    shows_buttons = b"Clear everything" in answers[0].content
    assert shows_buttons == ("delete_cacheentry" in permissions)


def test_nothing_is_forgotten_by_a_link(console, entry):
    for name in ("console-cache-invalidate", "console-cache-clear"):
        assert console.get(reverse(name)).status_code == 405
    assert found("team-1:key<b>") == SECRET
