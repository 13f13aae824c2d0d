from datetime import timedelta

import pytest
import time_machine
from django.test import Client
from django.urls import resolve
from django.utils import timezone

from core.access import known_devices, tokens
from core.models import KnownDevice, MaintenanceRun, Notification, WebhookDelivery
from core.notifications import inbox
from core.ops import maintenance
from tests.factories import make_user, make_webhook

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

PASSWORD = "a long enough secret"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"


@pytest.fixture
def person():
    return make_user(username="ada", password=PASSWORD)


def sign_in(client=None):
    """Sign in with a browser; a new one, unless it is given."""
    client = client or Client(headers={"User-Agent": FIREFOX})
    response = client.post("/login", {"login": "ada", "password": PASSWORD})
    assert response.status_code == 302
    return client, response


def told():
    """Of how many sign-ins people were told."""
    return sum(Notification.objects.values_list("count", flat=True))


def test_the_very_first_sign_in_of_an_account_is_no_news(person):
    sign_in()
    assert told() == 0


def test_a_browser_that_was_not_seen_before_is(person):
    sign_in()
    sign_in()
    notification = inbox.of(person).get()
    assert (notification.event, notification.link) == ("new-sign-in", "/account/")
    assert notification.body.startswith("Firefox on Linux, from 127.0.0.1, at ")
    assert notification.body.endswith("UTC. If it was not you, sign out there and change your password.")
    assert resolve(notification.link).url_name == "account"


def test_a_browser_is_known_again_after_its_person_signed_out(person):
    first, _ = sign_in()
    first.post("/logout")
    sign_in(first)
    assert told() == 0


def test_a_wrong_password_is_no_sign_in(person):
    sign_in()
    Client().post("/login", {"login": "ada", "password": "wrong"})
    assert told() == 0


def test_a_browser_known_to_one_person_is_new_to_another_and_stays_known_to_the_first(person):
    shared, _ = sign_in()
    other = make_user(username="grace", password=PASSWORD)
    sign_in_of_other = {"login": "grace", "password": PASSWORD}
    Client().post("/login", sign_in_of_other)
    shared.post("/logout")
    shared.post("/login", sign_in_of_other)
    assert inbox.of(other).count() == 1
    shared.post("/logout")
    sign_in(shared)
    assert not inbox.of(person).exists()


def test_the_cookie_is_kept_from_scripts_and_other_sites_and_renewed(person, settings):
    client, response = sign_in()
    cookie = response.cookies[known_devices.COOKIE]
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Lax", "/")
    assert cookie["max-age"] == 400 * 24 * 3600
    assert not cookie["secure"]
    client.post("/logout")
    settings.SESSION_COOKIE_SECURE = True
    _, again = sign_in(client)
    assert again.cookies[known_devices.COOKIE].value == cookie.value
    assert again.cookies[known_devices.COOKIE]["secure"]


def test_only_a_sign_in_gives_the_cookie(person):
    client, _ = sign_in()
    assert known_devices.COOKIE not in client.get("/account/").cookies
    assert known_devices.COOKIE not in Client().get("/login").cookies


@pytest.mark.parametrize("cookie", ["x", "", "a" * 44, "ä" * 43, "a b" * 14])
def test_a_cookie_that_is_none_of_ours_is_replaced(person, cookie):
    client = Client()
    client.cookies[known_devices.COOKIE] = cookie
    _, response = sign_in(client)
    assert response.cookies[known_devices.COOKIE].value != cookie


def test_what_the_database_holds_lets_nobody_pass_for_a_known_browser(person):
    sign_in()
    thief = Client()
    thief.cookies[known_devices.COOKIE] = KnownDevice.objects.get().fingerprint[:43]
    sign_in(thief)
    assert told() == 1


def test_what_signs_in_time_and_again_without_its_cookie_is_told_once_an_hour(person):
    with time_machine.travel(timezone.now().replace(minute=10), tick=True) as traveller:
        for _ in range(4):
            sign_in()
        assert inbox.of(person).get().count == 3
        sign_in(Client(headers={"User-Agent": "curl/8"}))
        assert inbox.of(person).count() == 2
        traveller.shift(timedelta(hours=1))
        sign_in()
        assert inbox.of(person).count() == 3


def test_webhooks_are_told_who_signed_in_once_an_hour_and_not_from_where(person):
    make_webhook()
    with time_machine.travel(timezone.now().replace(minute=10), tick=True) as traveller:
        for _ in range(3):
            sign_in()
        sign_in(Client(headers={"User-Agent": "curl/8"}))
        told = WebhookDelivery.objects.get()
        traveller.shift(timedelta(hours=1))
        sign_in()
    assert (told.event, told.title, told.data) == ("new-sign-in", "New sign-in of ada", {"person": "ada"})
    assert "127.0.0.1" not in f"{told.text} {told.link}"
    assert resolve(told.link).url_name == "core_auditentry_changelist"
    assert WebhookDelivery.objects.count() == 2


def test_programs_are_known_by_name_and_address(person):
    tokens.begin(person, address="192.0.2.1", user_agent="app/1")
    assert told() == 0
    tokens.begin(person, address="192.0.2.1", user_agent="app/1")
    assert told() == 0
    tokens.begin(person, address="192.0.2.1", user_agent="Click https://evil.example")
    tokens.begin(person, address="192.0.2.2", user_agent="app/1")
    bodies = [row.body for row in inbox.of(person).order_by("pk")]
    assert [body.partition(", at")[0] for body in bodies] == ["A program, from 192.0.2.1", "A program, from 192.0.2.2"]
    assert not any("evil" in body for body in bodies)
    assert resolve(inbox.of(person).first().link).url_name == "panel-settings"


def test_a_sign_in_that_fails_leaves_neither_the_device_nor_the_news(person, monkeypatch):
    sign_in()
    monkeypatch.setattr(known_devices, "notify", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        sign_in()
    assert KnownDevice.objects.count() == 1


def test_old_devices_are_forgotten_but_never_the_last(person):
    sign_in()
    sign_in()
    tokens.begin(make_user(), address="192.0.2.1", user_agent="app/1")
    KnownDevice.objects.update(seen_at=timezone.now() - timedelta(days=500))
    latest = KnownDevice.objects.filter(person=person).latest("pk")
    KnownDevice.objects.filter(pk=latest.pk).update(seen_at=timezone.now() - timedelta(days=450))
    assert maintenance.run("delete_sign_in_sessions", trigger=MaintenanceRun.Trigger.COMMAND).status == "succeeded"
    assert KnownDevice.objects.filter(person=person).get() == latest
    assert KnownDevice.objects.count() == 2
    sign_in()
    assert told() == 2


def test_a_device_that_signs_in_now_and_then_stays_known(person):
    client, _ = sign_in()
    with time_machine.travel(timezone.now() + timedelta(days=399), tick=True):
        client.post("/logout")
        sign_in(client)
        assert not known_devices.forgotten().exists()
        assert KnownDevice.objects.get().seen_at > timezone.now() - timedelta(minutes=1)
