"""Alerts through the API."""

import pytest
from django.test import Client
from django.utils import timezone

from core.access import api_keys
from core.models import Verb
from core.ops.alerts import handling
from tests.api import ApiClient, assert_problem, counting_queries
from tests.factories import make_alert, make_operator, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

PATH = "/api/v1/alerts/"


@pytest.fixture
def operator():
    return ApiClient(make_operator(username="ada"))


def names(response):
    return [alert["name"] for alert in response.json()["results"]]


def test_it_tells_what_is_wrong_since_when_and_what_to_do(operator):
    alert = make_alert(labels={"node": "gpu-1"})
    handling.acknowledge(alert, by=operator.user, note="new disks")
    silence = handling.silence("NodeLost", "node=gpu-1", minutes=5, reason="x", by=operator.user)
    (shown,) = operator.get(PATH).json()["results"]
    assert shown == operator.get(f"{PATH}{alert.pk}/").json()
    assert (shown["title"], shown["severity"], shown["labels"]) == (
        "The node gpu-1 is lost",
        "critical",
        {"node": "gpu-1"},
    )
    assert (shown["value"], shown["limit"], shown["resolved_at"]) == (0, 1, None)
    assert (shown["acknowledged_by"], shown["note"]) == ("ada", "new disks")
    assert shown["silenced_until"] == silence.until.isoformat().replace("+00:00", "Z")
    assert "Ollama" in shown["help"]


def test_what_is_over_is_silenced_by_nothing_and_one_of_no_rule_has_no_help(operator):
    handling.silence("NodeLost", minutes=5, reason="x", by=operator.user)
    alert = make_alert(resolved_at=timezone.now())
    type(alert).objects.update(name="gone")
    (shown,) = operator.get(PATH).json()["results"]
    assert (shown["silenced_until"], shown["help"]) == (None, "")


def test_the_list_can_be_narrowed(operator):
    make_alert(resolved_at=timezone.now())
    make_alert("DiskNearlyFull")
    make_alert("APIResponseSlow")
    assert names(operator.get(PATH)) == ["APIResponseSlow", "DiskNearlyFull", "NodeLost"]
    assert names(operator.get(f"{PATH}?is_firing=true")) == ["APIResponseSlow", "DiskNearlyFull"]
    assert names(operator.get(f"{PATH}?is_firing=false")) == ["NodeLost"]
    assert names(operator.get(f"{PATH}?severity=warning")) == ["APIResponseSlow"]
    assert names(operator.get(f"{PATH}?name=NodeLost")) == ["NodeLost"]
    assert names(operator.get(f"{PATH}?search=disk")) == ["DiskNearlyFull"]


@pytest.mark.parametrize("query", ["is_firing=x", "severity=x", "nonsense=1", "ordering=note", "cursor=x"])
def test_a_query_that_makes_no_sense_is_refused(operator, query):
    assert operator.get(f"{PATH}?{query}").status_code == 400


def test_many_alerts_cost_no_more_queries(operator, django_assert_max_num_queries):
    for number in range(30):
        handling.silence("NodeLost", f"node={number}", minutes=5, reason="x", by=operator.user)
        make_alert(labels={"node": str(number)})
    with django_assert_max_num_queries(5 + counting_queries()):
        shown = operator.get(f"{PATH}?page_size=30").json()["results"]
    assert all(alert["silenced_until"] for alert in shown)


@pytest.mark.parametrize(
    ("verbs", "status"), [([Verb.METRICS], 200), ([Verb.OPERATE], 200), ([Verb.READ], 403), ([Verb.SUBMIT], 403)]
)
def test_keys_that_watch_may_read_it_and_those_that_operate(verbs, status):
    _, text = api_keys.issue(make_operator(), "", api_keys.Scope(verbs=verbs))
    client = Client(headers={"Authorization": f"Bearer {text}"})
    assert client.get(PATH).status_code == status


def test_others_may_not_read_it_and_nobody_writes(operator):
    alert = make_alert()
    for path in (PATH, f"{PATH}{alert.pk}/"):
        assert_problem(ApiClient(make_user()).get(path), 403, "not-permitted")
        assert_problem(operator.post(path, {"note": "x"}), 405, "method-not-allowed")
        assert_problem(operator.delete(path), 405, "method-not-allowed")
