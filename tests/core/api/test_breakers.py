"""Circuit breakers through the API."""

from datetime import timedelta
from urllib.parse import quote

import pytest
import time_machine
from django.test import Client
from django.utils import timezone

from core.access import api_keys
from core.models import AuditEntry, CircuitBreaker, Verb
from core.net import breakers
from tests.api import ApiClient, assert_problem
from tests.factories import make_operator, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

PATH = "/api/v1/circuit-breaker"
STATUS = f"{PATH}/status/"


@pytest.fixture
def operator():
    return ApiClient(make_operator(username="ada"))


@pytest.fixture
def breaker():
    return make("node:gpu-1")


def make(name):
    return CircuitBreaker.objects.create(name=name, kind="node")


def read(breaker):
    return CircuitBreaker.objects.get(pk=breaker.pk)


def path(breaker, verb):
    return f"{PATH}/{quote(breaker.name)}/{verb}/"


def actions():
    entries = AuditEntry.objects.filter(object_type="circuit-breaker").order_by("pk")
    return list(entries.values_list("action", flat=True))


def test_it_tells_what_is_wrong_why_and_since_when(operator, breaker):
    make("dependency:well")
    breakers.failed(breaker.pk, "connection refused", is_certain=True)
    well, broken = operator.get(STATUS).json()["breakers"]
    assert (well["name"], well["state"], well["reason"], well["changes"]) == ("dependency:well", "closed", "", [])
    assert (broken["name"], broken["kind"], broken["state"]) == ("node:gpu-1", "node", "open")
    assert (broken["reason"], broken["failures"], broken["held"]) == ("connection refused", 1, "none")
    assert broken["since"] == broken["opened_at"] == operator.get(STATUS).json()["breakers"][1]["since"]
    assert broken["next_probe_at"] > broken["opened_at"]
    assert [(change["what"], change["reason"]) for change in broken["changes"]] == [("opened", "connection refused")]


def test_many_breakers_cost_no_more_queries(operator, django_assert_max_num_queries):
    for number in range(30):
        made = make(f"node:{number}")
        for reason in range(12):
            breakers.reset(made.pk, by=operator.user, reason=str(reason))
    with django_assert_max_num_queries(8):
        shown = operator.get(STATUS).json()["breakers"]
    assert [len(item["changes"]) for item in shown] == [10] * 30
    assert shown[0]["changes"][0]["reason"] == "11"


@pytest.mark.parametrize(
    ("verbs", "status"), [([Verb.METRICS], 200), ([Verb.OPERATE], 200), ([Verb.READ], 403), ([Verb.SUBMIT], 403)]
)
def test_keys_that_watch_may_read_it_and_those_that_operate(breaker, verbs, status):
    _, text = api_keys.issue(make_operator(), "", api_keys.Scope(verbs=verbs))
    client = Client(headers={"Authorization": f"Bearer {text}"})
    assert client.get(STATUS).status_code == status
    steered = client.post(path(breaker, "trip"), "{}", content_type="application/json").status_code
    assert steered == (200 if Verb.OPERATE in verbs else 403)


def test_others_may_neither_read_nor_steer(breaker):
    stranger = ApiClient(make_user())
    assert_problem(stranger.get(STATUS), 403, "not-permitted")
    for verb in ("reset", "trip", "hold"):
        assert_problem(stranger.post(path(breaker, verb)), 403, "not-permitted")
    assert read(breaker).state == "closed"


def test_an_operator_trips_and_resets(operator, breaker):
    tripped = operator.post(path(breaker, "trip"), {"reason": "new disks"}).json()
    assert (tripped["state"], tripped["reason"]) == ("open", "new disks")
    assert tripped["changes"][0] | {"at": ""} == {"what": "tripped", "at": "", "reason": "new disks", "by": "ada"}
    reset = operator.post(path(breaker, "reset")).json()
    assert (reset["state"], reset["reason"], reset["next_probe_at"]) == ("closed", "", None)
    assert actions() == ["circuit-breaker.tripped", "circuit-breaker.reset"]


def test_an_operator_holds_it_for_some_minutes(operator, breaker):
    body = {"state": "open", "reason": "new disks", "minutes": 5}
    held = operator.post(path(breaker, "hold"), body).json()
    assert (held["state"], held["held"], held["held_by"], held["reason"]) == ("open", "open", "ada", "new disks")
    assert read(breaker).forced_until - read(breaker).forced_at == timedelta(minutes=5)
    closed = operator.post(path(breaker, "hold"), {"state": "closed", "reason": "they lie"}).json()
    assert (closed["state"], closed["held"], closed["held_until"]) == ("closed", "closed", None)
    assert actions() == ["circuit-breaker.held-open", "circuit-breaker.held-closed"]


@pytest.mark.parametrize(
    ("verb", "body", "field"),
    [
        ("hold", {}, "reason"),
        ("hold", {"state": "open"}, "reason"),
        ("hold", {"state": "open", "reason": ""}, "reason"),
        ("hold", {"reason": "x"}, "state"),
        ("hold", {"state": "none", "reason": "x"}, "state"),
        ("hold", {"state": "half_open", "reason": "x"}, "state"),
        ("hold", {"state": "open", "reason": "x" * 301}, "reason"),
        ("hold", {"state": "open", "reason": "x", "minutes": 0}, "minutes"),
        ("hold", {"state": "open", "reason": "x", "minutes": "5"}, "minutes"),
        ("hold", {"state": "open", "reason": "x", "minutes": 10**9}, "minutes"),
        ("hold", {"state": "open", "reason": "x", "by": "somebody else"}, "by"),
        ("trip", {"reason": "x" * 301}, "reason"),
        ("trip", {"minutes": 5}, "minutes"),
        ("reset", {"reason": ["x"]}, "reason"),
    ],
)
def test_bad_input_is_named_and_changes_nothing(operator, breaker, verb, body, field):
    problem = assert_problem(operator.post(path(breaker, verb), body), 422, "invalid-input")
    assert field in problem["errors"]
    assert (read(breaker).state, read(breaker).forced, actions()) == ("closed", "none", [])


@pytest.mark.parametrize("name", ["node:gpu 1/2", "node:ÄÖ", "node:status", "node:x/reset", "node:100%"])
def test_nodes_may_have_any_name(operator, name):
    breaker = make(name)
    assert operator.post(path(breaker, "trip")).json()["name"] == name
    assert read(breaker).state == "open"


@pytest.mark.parametrize("name", ["node:other", "x", "node:\x00", "%00", "'; --"])
def test_what_is_not_there_is_not_found(operator, breaker, name):
    assert_problem(operator.post(f"{PATH}/{name}/trip/"), 404, "not-found")


def test_a_browser_that_was_left_open_is_not_enough_for_what_is_dangerous(breaker):
    person = make_operator(username="op", password="a long enough secret")
    browser = Client()
    browser.post("/login", {"login": "op", "password": "a long enough secret"})
    assert post(browser, breaker, "trip").status_code == 200
    with time_machine.travel(timezone.now() + timedelta(minutes=16), tick=True):
        for verb in ("trip", "hold"):
            assert_problem(post(browser, breaker, verb), 403, "sign-in-not-recent")
        assert post(browser, breaker, "reset").status_code == 200
        assert ApiClient(person).post(path(breaker, "trip")).status_code == 200


def post(browser, breaker, verb):
    return browser.post(path(breaker, verb), "{}", content_type="application/json")
