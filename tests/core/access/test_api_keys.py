import time
from datetime import timedelta

import pytest
from django.utils import timezone

from core.access import api_keys
from core.models import ApiKey
from tests.factories import make_user

pytestmark = pytest.mark.django_db


def test_an_issued_key_stands_for_its_user():
    user = make_user()
    key, text = api_keys.issue(user, "laptop")
    found = api_keys.verify(text)
    assert found == key
    assert found.user == user
    assert text.startswith(f"stz_{key.key_id}_")


def test_the_database_holds_no_secret():
    key, text = api_keys.issue(make_user())
    secret = text.split("_", 2)[2]
    row = ApiKey.objects.filter(pk=key.pk).values().get()
    assert all(secret not in str(value) for value in row.values())


def test_another_pepper_recognises_no_key(settings):
    _, text = api_keys.issue(make_user())
    settings.API_KEY_PEPPER = "another pepper of thirty-two characters"
    assert api_keys.verify(text) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-1] + ("A" if text[-1] != "A" else "B"),
        lambda text: text.replace("stz_", "xyz_"),
        lambda text: text + "ü",
        lambda text: text.rsplit("_", 1)[0] if text.count("_") == 2 else text[:12],
        lambda text: "stz__" + text,
        lambda text: "stz_0123456789ab_" + text.split("_", 2)[2],
        lambda _: "",
        lambda _: "stz_\x00_secret",
    ],
)
def test_a_text_that_differs_stands_for_nobody(change):
    _, text = api_keys.issue(make_user())
    assert api_keys.verify(change(text)) is None


def test_a_revoked_key_stands_for_nobody():
    key, text = api_keys.issue(make_user())
    ApiKey.objects.filter(pk=key.pk).update(revoked_at=timezone.now())
    assert api_keys.verify(text) is None


def test_a_key_that_is_revoked_while_it_is_remembered_stands_for_nobody():
    key, text = api_keys.issue(make_user())
    assert api_keys.verify(text) == key
    key.revoked_at = timezone.now()
    key.save()
    assert api_keys.verify(text) is None


def test_a_user_who_becomes_inactive_while_the_key_is_remembered_loses_it():
    user = make_user()
    key, text = api_keys.issue(user)
    assert api_keys.verify(text) == key
    user.is_active = False
    user.save()
    assert api_keys.verify(text) is None


def test_what_another_process_revokes_is_forgotten_soon():
    key, text = api_keys.issue(make_user())
    assert api_keys.verify(text) == key
    ApiKey.objects.filter(pk=key.pk).update(revoked_at=timezone.now())  # no signal tells of it
    api_keys.remembered.expire(time.monotonic() + api_keys.REMEMBER_SECONDS)
    assert api_keys.verify(text) is None


def test_wrong_secrets_are_not_remembered():
    _, text = api_keys.issue(make_user())
    api_keys.verify(text + "x")
    assert not api_keys.remembered


def test_a_key_of_an_inactive_user_stands_for_nobody():
    _, text = api_keys.issue(make_user(is_active=False))
    assert api_keys.verify(text) is None


def test_its_last_use_is_noted_once_a_minute(django_assert_num_queries):
    key, text = api_keys.issue(make_user())
    api_keys.verify(text)
    noted = ApiKey.objects.get(pk=key.pk).last_used_at
    assert noted is not None
    with django_assert_num_queries(0):
        api_keys.verify(text)
    api_keys.forget()
    with django_assert_num_queries(1):
        api_keys.verify(text)
    api_keys.forget()
    ApiKey.objects.filter(pk=key.pk).update(last_used_at=noted - timedelta(seconds=61))
    api_keys.verify(text)
    assert ApiKey.objects.get(pk=key.pk).last_used_at >= noted
