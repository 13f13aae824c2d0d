from datetime import timedelta

import pytest
import time_machine
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from core.access.sign_in import devices
from core.models import Device, MaintenanceRun
from core.ops import maintenance, sightings
from tests.factories import make_administrator, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

PASSWORD = "a long enough secret"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"
CHROME = "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36"


@pytest.fixture
def person():
    return make_user(username="ada", password=PASSWORD)


def browser(agent=FIREFOX):
    client = Client(headers={"User-Agent": agent})
    client.post("/login", {"login": "ada", "password": PASSWORD})
    return client


def is_signed_in(client):
    return client.get("/account/").status_code == 200


def test_a_sign_in_is_listed_with_browser_and_address(person):
    browser(CHROME)
    page = browser().get("/account/")
    assert "Firefox on Linux" in page.text
    assert "Chrome on Windows" in page.text
    assert page.text.count("127.0.0.1") == 2
    assert page.text.count("This one") == 1


def test_one_device_is_signed_out(person):
    here, there = browser(), browser(CHROME)
    device = Device.objects.get(user_agent=CHROME)
    here.post(f"/account/devices/{device.pk}/sign-out/")
    assert (is_signed_in(here), is_signed_in(there)) == (True, False)
    assert "Chrome" not in here.get("/account/").text


def test_all_others_are_signed_out(person):
    here, *others = browser(), browser(CHROME), browser(CHROME)
    here.post("/account/devices/sign-out/")
    assert is_signed_in(here)
    assert not any(is_signed_in(other) for other in others)


def test_nobody_signs_somebody_else_out(person):
    there = browser()
    client = Client()
    client.force_login(make_user())
    assert client.post(f"/account/devices/{Device.objects.get(user=person).pk}/sign-out/").status_code == 404
    client.post("/account/devices/sign-out/")
    assert is_signed_in(there)


def test_changing_the_password_signs_out_everywhere_else(person):
    here, there = browser(), browser(CHROME)
    new = "quite another secret"
    here.post("/account/password/change/", {"oldpassword": PASSWORD, "password1": new, "password2": new})
    assert (is_signed_in(here), is_signed_in(there)) == (True, False)
    assert [device.user_agent for device in devices.of(person)] == [FIREFOX]
    assert Session.objects.count() == 1


def test_an_operator_who_sets_somebodys_password_signs_them_out(person):
    there = browser()
    console = Client()
    console.force_login(make_administrator())
    new = {"password1": "quite another secret", "password2": "quite another secret"}
    assert console.post(f"/admin/core/user/{person.pk}/password/", new).status_code == 302
    assert not is_signed_in(there)
    assert not devices.of(person).exists()
    assert console.get("/admin/").status_code == 200


def test_signing_out_takes_the_device_off_the_list(person):
    here = browser()
    here.post("/logout")
    assert not Device.objects.exists()


def test_the_time_last_seen_is_written_once_in_a_while(person):
    here = browser()
    first = Device.objects.get().last_seen_at
    is_signed_in(here)
    assert sightings.flush() == 0
    assert Device.objects.get().last_seen_at == first
    with time_machine.travel(timezone.now() + timedelta(hours=1), tick=True):
        devices.forget()  # what the time does to what the process remembers
        is_signed_in(here)
        sightings.flush()
        assert Device.objects.get().last_seen_at - first > timedelta(minutes=59)


def test_operators_see_all_and_sign_out_any_but_this_one(person):
    there = browser()
    console = Client()
    console.force_login(make_administrator())
    page = console.get("/admin/core/device/")
    assert "Firefox on Linux" in page.text
    rows = [str(key) for key in Device.objects.values_list("pk", flat=True)]
    console.post("/admin/core/device/", {"action": "sign_out_selected", "_selected_action": rows})
    assert not is_signed_in(there)
    page = console.get("/admin/core/device/").text
    assert "Signed out 1 device" in page
    assert "Skipped 1 device" in page


def test_housekeeping_forgets_devices_whose_session_has_ended(person):
    browser()
    Session.objects.all().delete()
    assert not devices.of(person).exists()
    run = maintenance.run("delete_sign_in_sessions", trigger=MaintenanceRun.Trigger.COMMAND)
    assert run.status == "succeeded", run.error
    assert not Device.objects.exists()
