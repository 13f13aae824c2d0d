"""How the API counts requests, and what it says of it."""

import re

import pytest
from django.db import connection  # noqa: F401 - a condition below reads it
from django.test import Client

from core.models import Allowance, ApiKey
from tests.api import ApiClient, assert_problem
from tests.core.access.limits.conftest import HandClock
from tests.core.access.limits.conftest import hand_clock as hand_clock  # noqa: PLC0414 - a fixture of its neighbours
from tests.factories import make_operator, make_team, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

PATH = "/api/v1/sessions/"


@pytest.fixture
def caller():
    return ApiClient(make_user())


def limit(client, count, level="key"):
    """Allow so many requests to a client's key, user or team."""
    key = ApiKey.objects.get(user=client.user)
    whose = {"key": key, "user": client.user, "team": client.user.team}[level]
    return Allowance.objects.create(**{level: whose}, requests_per_minute=count)


def test_answers_tell_the_limit_and_what_is_left_of_it(caller, settings):
    settings.REQUESTS_PER_MINUTE = 5
    responses = [caller.get(PATH) for _ in range(2)]
    assert [response["RateLimit-Policy"] for response in responses] == ['"key";q=5;w=60'] * 2
    assert [response["RateLimit"].rsplit(";", 1)[0] for response in responses] == ['"key";r=4', '"key";r=3']
    assert 55 < int(re.search(r"t=(\d+)", responses[1]["RateLimit"])[1]) <= 60


def test_who_asks_too_often_waits_as_long_as_is_told(caller, hand_clock: HandClock):
    limit(caller, 3)
    assert [caller.get(PATH).status_code for _ in range(3)] == [200] * 3
    hand_clock.advance(20.5)
    response = caller.get(PATH)
    problem = assert_problem(response, 429, "too-many-requests")
    assert problem["detail"] == "For this API key, 3 requests within 60 seconds are allowed."
    assert response["Retry-After"] == "40"
    assert response["RateLimit"] == '"key";r=0;t=40'
    hand_clock.advance(39)
    assert caller.get(PATH).status_code == 429
    hand_clock.advance(1)
    assert caller.get(PATH).status_code == 200


@pytest.mark.parametrize("level", ["key", "user", "team"])
def test_each_level_holds_and_the_tightest_is_told(caller, level):
    limit(caller, 2, level)
    response = caller.get(PATH)
    assert f'"{level}";q=2;w=60' in response["RateLimit-Policy"]
    assert response["RateLimit"].startswith(f'"{level}";r=1;')
    caller.get(PATH)
    assert f"For this {'API key' if level == 'key' else level}," in caller.get(PATH).json()["detail"]


def test_a_persons_keys_and_a_teams_people_share_their_limits(caller):
    limit(caller, 4, "user")
    limit(caller, 6, "team")
    second_key, colleague = ApiClient(caller.user), ApiClient(make_user(team=caller.user.team))
    stranger = ApiClient(make_user(team=make_team()))
    assert [client.get(PATH).status_code for client in (caller, second_key) * 3] == [200] * 4 + [429] * 2
    assert colleague.get(PATH).status_code == 429
    assert stranger.get(PATH).status_code == 200


@pytest.mark.parametrize("method", ["get", "post", "head"])
def test_every_method_and_every_address_counts(caller, method):
    limit(caller, 2)
    getattr(caller, method)(PATH)
    getattr(caller, method)("/api/v1/nodes")
    assert getattr(caller, method)("/api/v1/tasks/").status_code == 429


def test_operators_and_console_sign_ins_are_no_exception(settings):
    settings.REQUESTS_PER_MINUTE = 2
    operator, browser = make_operator(), Client()
    browser.force_login(operator)
    responses = [browser.get(PATH, headers={"Accept": "application/json"}) for _ in range(3)]
    assert [response.status_code for response in responses] == [200, 200, 429]
    assert responses[0]["RateLimit-Policy"] == '"user";q=2;w=60'
    assert [ApiClient(operator).get(PATH).status_code for _ in range(3)] == [200] * 3  # keys of their own


def test_requests_that_are_not_permitted_count(caller):
    limit(caller, 2)
    assert [caller.get("/metrics").status_code for _ in range(3)] == [403, 403, 429]


def test_requests_without_credentials_and_with_bad_ones_count_for_their_address(settings):
    settings.ANONYMOUS_REQUESTS_PER_MINUTE = 3
    nobody, liar = Client(), Client(headers={"Authorization": "Bearer stz_000000000000_nothing"})
    first = nobody.get(PATH)
    assert_problem(first, 401, "not-authenticated")
    assert first["RateLimit-Policy"] == '"address";q=3;w=60'
    assert [client.get(PATH).status_code for client in (liar, nobody, liar, nobody)] == [401, 401, 429, 429]
    assert liar.get(PATH)["Retry-After"]
    assert nobody.get(PATH, REMOTE_ADDR="192.0.2.7").status_code == 401
    assert ApiClient(make_user()).get(PATH).status_code == 200  # who is known is not held back by neighbours


def test_a_hundred_invented_addresses_are_one_caller(settings):
    settings.ANONYMOUS_REQUESTS_PER_MINUTE = 5
    nobody = Client()
    forged = [
        nobody.get(PATH, headers={"X-Forwarded-For": f"203.0.113.{number}", "X-Real-Ip": f"203.0.113.{number}"})
        for number in range(100)
    ]
    assert [response.status_code for response in forged] == [401] * 5 + [429] * 95


def test_everybody_may_ask_for_their_own_limits(caller):
    limit(caller, 10)
    Allowance.objects.create(
        team=caller.user.team, tokens_per_day=500, tokens_per_month=900, concurrent_tasks=2, queue_share=3
    )
    caller.get(PATH)
    response = caller.get("/api/v1/limits")
    assert response.status_code == 200
    of_key, of_user, of_team = response.json()["limits"]
    assert (of_key["level"], of_user["level"], of_team["level"]) == ("key", "user", "team")
    assert of_key["requests_per_minute"] | {"resets_in_seconds": 0} == {
        "limit": 10,
        "used": 2,
        "remaining": 8,
        "resets_in_seconds": 0,
    }
    assert 0 < of_key["requests_per_minute"]["resets_in_seconds"] <= 60
    assert of_user["requests_per_minute"] == dict.fromkeys(["limit", "used", "remaining", "resets_in_seconds"])
    assert (of_user["tokens_per_day"]["limit"], of_user["tokens_per_day"]["used"]) == (None, None)
    assert of_team["tokens_per_day"]["remaining"] == 500
    assert 0 < of_team["tokens_per_day"]["resets_in_seconds"] <= 24 * 3600 + 1
    assert of_team["tokens_per_month"]["remaining"] == 900
    assert 0 < of_team["tokens_per_month"]["resets_in_seconds"] <= 31 * 24 * 3600 + 1
    assert [level["queue_share"] for level in (of_key, of_user, of_team)] == [None, 1, 3]
    assert of_team["concurrent_tasks"] == {"limit": 2, "used": 0, "remaining": 2, "resets_in_seconds": None}
    assert_problem(Client().get("/api/v1/limits/"), 401, "not-authenticated")


@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="it is about the file")
def test_a_count_that_cannot_be_kept_stops_nobody(caller, settings, tmp_path):
    settings.LIMITS_FILE = tmp_path / "no folder" / "limits.sqlite3"
    response = caller.get(PATH)
    assert response.status_code == 200
    assert "RateLimit" not in response
