"""The response cache, by the API."""

import pytest
from django.urls import reverse

from core.cache import hits
from core.models import AuditEntry, CacheInvalidation
from tests.api import ApiClient, assert_problem
from tests.core.cache.conftest import empty
from tests.core.cache.conftest import own_redis as own_redis  # noqa: PLC0414 - a fixture of its neighbours
from tests.core.cache.test_answers import TAGS, found, put
from tests.factories import make_operator, make_user

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_databases]

PATH = "/api/v1/cache/"


@pytest.fixture(autouse=True)
def empty_cache():
    empty()
    hits.take()


@pytest.fixture
def operator():
    return ApiClient(make_operator())


def test_operators_read_the_figures(operator):
    before = operator.get(PATH).json()
    put()
    for _ in range(3):
        found()
    told = operator.get(PATH).json()
    assert set(told) == {
        "store",
        "is_degraded",
        "degraded_since",
        "hit_ratio",
        "invalidations",
        "memory",
        "shared",
    }
    assert told["store"] in {"SQLite file", "PostgreSQL"}
    assert (told["is_degraded"], told["degraded_since"]) == (False, None)
    assert 0 < told["hit_ratio"] <= 1
    assert told["memory"]["hits"] - before["memory"]["hits"] == 2
    assert told["shared"]["hits"] - before["shared"]["hits"] == 1
    assert told["memory"]["entries"] == 1


def test_figures_cost_a_fixed_number_of_queries(operator, django_assert_max_num_queries):
    for number in range(20):
        put(f"key:{number}")
    operator.get(PATH)
    with django_assert_max_num_queries(5):
        operator.get(PATH)


@pytest.mark.parametrize("path", [f"{PATH}invalidate/", f"{PATH}invalidate"])
def test_a_tag_is_invalidated_and_the_log_tells_who_did_it(operator, path):
    put()
    put("other", tags=["agent:other"])
    assert found() == b"value"
    response = operator.post(path, {"tag": "agent:helper"})
    assert (response.status_code, response.json()) == (200, {"holds": True})
    assert [found(), found("other", ["agent:other"])] == [None, b"value"]
    row = AuditEntry.objects.get(action="cache.invalidated")
    assert (row.object_type, row.object_id, row.actor_name) == ("cache-tag", "agent:helper", operator.user.username)


def test_everything_is_cleared_and_the_log_tells_who_did_it(operator):
    put()
    response = operator.post(f"{PATH}clear/")
    assert (response.status_code, response.json()) == (200, {"holds": True})
    assert found() is None
    row = AuditEntry.objects.get(action="cache.cleared")
    assert (row.object_type, row.actor_name) == ("cache", operator.user.username)


@pytest.mark.redis
def test_while_redis_is_away_it_says_that_it_will_hold_later(operator, own_redis):
    put()
    found()
    own_redis.kill()
    response = operator.post(f"{PATH}invalidate/", {"tag": "agent:helper"})
    assert (response.status_code, response.json()) == (202, {"holds": False})
    told = operator.get(PATH).json()
    assert (told["store"], told["is_degraded"]) == ("Redis", True)
    assert (told["shared"]["entries"], told["shared"]["bytes"]) == (None, None)
    assert found() is None


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"tag": ""},
        {"tag": None},
        {"tag": 1},
        {"tag": ["agent:helper"]},
        {"tag": "x" * 101},
        {"tag": "*"},
        {"tag": "*warming"},
        {"tag": "a\nb"},
        {"tag": "a\u0000b"},
        {"tag": "agent:helper", "more": 1},
    ],
)
def test_what_can_be_no_tag_is_refused_and_changes_nothing(operator, body):
    put()
    assert_problem(operator.post(f"{PATH}invalidate/", body), 422, "invalid-input")
    assert found() == b"value"
    assert not CacheInvalidation.objects.exists()
    assert not AuditEntry.objects.filter(action="cache.invalidated").exists()


def test_clearing_takes_no_body(operator):
    put()
    assert_problem(operator.post(f"{PATH}clear/", {"tag": "agent:helper"}), 422, "invalid-input")
    assert found() == b"value"


@pytest.mark.parametrize("name", ["cache-invalidate", "cache-clear"])
def test_nobody_else_makes_it_forget(name):
    put()
    path = reverse(name)
    assert_problem(ApiClient().post(path, {"tag": TAGS[0]}), 401, "not-authenticated")
    assert_problem(ApiClient(make_user()).post(path, {"tag": TAGS[0]}), 403, "not-permitted")
    assert found() == b"value"
