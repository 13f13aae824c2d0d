"""Circuit breakers in the console."""

from datetime import timedelta

import pytest
import time_machine
from django.contrib.auth.models import Permission
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from core.models import AuditEntry, CircuitBreaker, User
from core.net import breakers
from tests.factories import make_node, make_staff

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

LIST = reverse("admin:core_circuitbreaker_changelist")


def make(name: str = "dependency:mail", *, is_open: bool = False) -> CircuitBreaker:
    breaker = CircuitBreaker.objects.create(name=name, kind=name.split(":", maxsplit=1)[0])
    if is_open:
        breakers.failed(breaker.pk, "connection refused", is_certain=True)
    return breaker


def page(breaker: CircuitBreaker) -> str:
    return reverse("admin:core_circuitbreaker_change", args=[breaker.pk])


def press(client: Client, button: str, breaker: CircuitBreaker, **data: object) -> str:
    address = reverse(f"admin:core_circuitbreaker_{button}", args=[breaker.pk])
    return client.post(address, data, follow=True).text


def read(breaker: CircuitBreaker) -> CircuitBreaker:
    return CircuitBreaker.objects.get(pk=breaker.pk)


def problems(client: Client) -> list[dict[str, str]]:
    cache.clear()
    found = client.get(reverse("console-dashboard")).json()["problems"]
    return [problem for problem in found if "Ollama" not in problem["title"]]


def test_the_list_begins_with_what_is_wrong_and_says_why(console: Client) -> None:
    make("dependency:a-is-well")
    make("dependency:z-is-broken", is_open=True)
    text = console.get(LIST).text
    assert "connection refused" in text
    assert text.index("z-is-broken") < text.index("a-is-well")


def test_the_list_costs_the_same_for_many(console: Client, django_assert_max_num_queries) -> None:
    for number in range(30):
        make(f"dependency:{number}", is_open=True)
    with django_assert_max_num_queries(9):
        assert console.get(LIST).text.count("connection refused") == 30


def test_the_page_tells_the_history(console: Client, operator: User) -> None:
    breaker = make(is_open=True)
    breakers.hold(breaker.pk, breakers.Forced.CLOSED, by=operator, reason="the <b>probe</b> lies", minutes=5)
    text = console.get(page(breaker)).text
    for shown in ("Held closed", "by op", "Opened", "connection refused", "the &lt;b&gt;probe&lt;/b&gt; lies"):
        assert shown in text
    assert "<b>probe" not in text


def test_one_that_never_opened_says_so(console: Client) -> None:
    text = console.get(page(make())).text
    assert "It has never opened." in text
    assert "Everything goes through." in text


def test_the_buttons_trip_and_reset_and_leave_a_record(console: Client) -> None:
    breaker = make()
    assert "Then a probe decides." in press(console, "trip", breaker)
    assert read(breaker).state == "open"
    assert "nothing is held against it" in press(console, "reset", breaker)
    assert read(breaker).state == "closed"
    entries = AuditEntry.objects.filter(object_id=str(breaker.pk)).order_by("pk")
    assert [(entry.action, entry.actor_name) for entry in entries] == [
        ("circuit-breaker.tripped", "op"),
        ("circuit-breaker.reset", "op"),
    ]


def test_only_buttons_that_change_something_are_offered(console: Client) -> None:
    well, broken = console.get(page(make())).text, console.get(page(make("dependency:x", is_open=True))).text
    assert ("../trip/" in well, "../reset/" in well) == (True, False)
    assert ("../trip/" in broken, "../reset/" in broken) == (False, True)


def test_to_hold_one_takes_a_reason(console: Client) -> None:
    breaker = make()
    assert "Nothing has changed. reason: This field is required." in press(console, "hold", breaker, state="open")
    for wrong in ({"state": "none"}, {"state": "open", "minutes": "0"}, {"state": "open", "minutes": "x"}):
        assert "Nothing has changed." in press(console, "hold", breaker, **{"reason": "disks", **wrong})
    assert not read(breaker).is_held
    assert "Held open." in press(console, "hold", breaker, state="open", reason="disks", minutes="5")
    assert (read(breaker).forced, read(breaker).forced_by, read(breaker).why) == ("open", "op", "disks")


def test_tripping_and_holding_need_a_recent_sign_in(console: Client) -> None:
    breaker = make()
    with time_machine.travel(timezone.now() + timedelta(minutes=16), tick=True):
        for button in ("trip", "hold"):
            address = reverse(f"admin:core_circuitbreaker_{button}", args=[breaker.pk])
            assert "?next=" in console.post(address, {"state": "open", "reason": "x"})["Location"]
    assert not read(breaker).is_shut


def test_nothing_is_added_deleted_or_written_by_a_form(console: Client) -> None:
    breaker = make(is_open=True)
    assert console.get(reverse("admin:core_circuitbreaker_add")).status_code == 403
    assert console.post(reverse("admin:core_circuitbreaker_delete", args=[breaker.pk])).status_code == 403
    console.post(page(breaker), {"state": "closed", "name": "x"})
    assert (read(breaker).state, read(breaker).name) == ("open", "dependency:mail")


def test_it_is_for_those_who_may(clerk: Client) -> None:
    breaker = make()
    assert clerk.get(LIST).status_code == 403
    assert clerk.get(page(breaker)).status_code == 403
    viewer = Client()
    viewer.force_login(make_staff("view_circuitbreaker"))
    text = viewer.get(page(breaker)).text
    assert "Everything goes through." in text
    assert "../trip/" not in text
    assert "../hold/" not in text
    for button in ("trip", "reset", "hold"):
        address = reverse(f"admin:core_circuitbreaker_{button}", args=[breaker.pk])
        assert viewer.post(address, {"state": "open", "reason": "x"}).status_code == 403
    assert read(breaker).state == "closed"


def test_an_open_breaker_is_one_click_from_the_dashboard(console: Client, operator: User) -> None:
    breaker = make(is_open=True)
    (problem,) = problems(console)
    assert (problem["level"], problem["title"]) == ("bad", "The dependency mail is down")
    assert (problem["detail"], problem["url"]) == ("connection refused", page(breaker))
    breakers.hold(breaker.pk, breakers.Forced.CLOSED, by=operator, reason="it lies")
    (problem,) = problems(console)
    assert (problem["level"], problem["detail"]) == ("warning", "By op: it lies")
    breakers.hold(breaker.pk, breakers.Forced.OPEN, by=operator, reason="it costs too much")
    assert problems(console)[0]["title"] == "The dependency mail is held out of use"
    breakers.reset(breaker.pk, by=operator)
    assert problems(console) == []


def test_a_node_is_told_of_once_and_its_breaker_leads_back_to_it(console: Client) -> None:
    node = make_node(name="gpu1", is_down=True)
    (problem,) = problems(console)
    assert (problem["title"], problem["url"]) == ("The node gpu1 is down", page(node.breaker))
    assert reverse("admin:agents_node_change", args=[node.pk]) in console.get(page(node.breaker)).text


def test_the_dashboard_shows_breakers_to_those_who_may_see_them(db: None) -> None:
    make(is_open=True)
    person, client = make_staff(), Client()
    client.force_login(person)
    assert problems(client) == []
    person.user_permissions.add(Permission.objects.get(codename="view_circuitbreaker"))
    assert len(problems(client)) == 1
