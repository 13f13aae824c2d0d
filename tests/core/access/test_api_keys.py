import time
from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from core.access import api_keys, tokens
from core.access.known_keys import COMPARE_SECONDS
from core.access.limits.allowances import level_of
from core.access.limits.subjects import Subject
from core.access.principal import Principal
from core.models import Allowance, ApiKey, Verb
from core.ops import sightings
from tests.factories import make_operator, make_user

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


def test_what_another_process_revokes_is_forgotten_soon(monkeypatch):
    key, text = api_keys.issue(make_user())
    assert api_keys.verify(text) == key
    ApiKey.objects.filter(pk=key.pk).update(revoked_at=timezone.now())  # no signal tells of it
    monkeypatch.setattr(api_keys.known, "_clock", lambda: time.monotonic() + COMPARE_SECONDS)
    assert api_keys.verify(text) is None


def test_a_wrong_secret_opens_nothing_while_the_key_is_remembered():
    _, text = api_keys.issue(make_user())
    assert api_keys.verify(text)
    assert api_keys.verify(text + "x") is None


def test_a_key_of_an_inactive_user_stands_for_nobody():
    _, text = api_keys.issue(make_user(is_active=False))
    assert api_keys.verify(text) is None


def test_its_last_use_is_noted_once_a_minute(django_assert_num_queries):
    key, text = api_keys.issue(make_user())
    api_keys.verify(text)
    sightings.flush()
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
    sightings.flush()
    assert ApiKey.objects.get(pk=key.pk).last_used_at >= noted


def test_a_key_with_an_end_works_until_then():
    scope = api_keys.Scope(expires_at=timezone.now() + timedelta(hours=1))
    key, text = api_keys.issue(make_user(), scope=scope)
    assert api_keys.verify(text) == key  # and is remembered from now on
    with time_machine.travel(key.expires_at, tick=False):
        assert api_keys.verify(text) is None


def test_a_key_may_do_less_than_its_person_and_never_more():
    user, operator = make_user(), make_operator()
    everything = api_keys.Scope(verbs=list(Verb))
    cases = [
        (user, api_keys.Scope(), {Verb.READ, Verb.SUBMIT}),
        (user, api_keys.Scope(verbs=[Verb.READ]), {Verb.READ}),
        (user, everything, {Verb.READ, Verb.SUBMIT}),
        (operator, api_keys.Scope(verbs=[Verb.METRICS]), {Verb.METRICS}),
        (operator, everything, set(Verb)),
        (operator, api_keys.Scope(), set(Verb) - {Verb.MODELS}),
        (operator, api_keys.Scope(agent_names=["helper"]), set(Verb) - {Verb.MODELS}),
        (operator, api_keys.Scope(verbs=[Verb.MODELS]), {Verb.MODELS}),
        (user, api_keys.Scope(verbs=[Verb.MODELS]), set()),
    ]
    for person, scope, verbs in cases:
        principal = Principal(person, api_keys.issue(person, scope=scope)[0])
        assert principal.verbs == verbs
        assert principal.is_operator is (Verb.OPERATE in verbs)


def test_without_a_key_nobody_may_do_what_keys_must_name():
    operator = make_operator()
    family = tokens.verify(tokens.begin(operator).access)
    for credential in (None, family):
        assert Principal(operator, credential).verbs == set(Verb) - {Verb.MODELS}


def test_after_a_rotation_both_keys_work_for_a_while():
    user = make_user()
    scope = api_keys.Scope(verbs=[Verb.READ], agent_names=["helper"], model_names=["tinyllama"])
    key, old = api_keys.issue(user, "reports", scope)
    successor, new = api_keys.rotate(key, overlap=timedelta(hours=2))
    assert api_keys.verify(old) == key
    assert api_keys.verify(new) == successor
    for field in ("user", "name", "verbs", "agent_names", "model_names"):
        assert getattr(successor, field) == getattr(key, field)
    assert successor.expires_at is None
    with time_machine.travel(timezone.now() + timedelta(hours=2, seconds=1), tick=False):
        api_keys.forget()
        assert api_keys.verify(old) is None
        assert api_keys.verify(new) == successor


def test_a_rotation_is_no_way_out_of_limits():
    key, _ = api_keys.issue(make_user())
    Allowance.objects.create(key=key, requests_per_minute=3, tokens_per_day=50, tokens_per_month=70)
    successor, _ = api_keys.rotate(key, overlap=timedelta(hours=2))
    of_old, of_new = (level_of(Subject("key", pk)) for pk in (key.pk, successor.pk))
    assert (of_new.requests_per_minute, of_new.tokens_per_day, of_new.tokens_per_month) == (3, 50, 70)
    assert of_new.concurrent_tasks is None
    assert of_old.requests_per_minute == 3


def test_a_rotation_lengthens_no_life():
    ends_at = timezone.now() + timedelta(minutes=10)
    key, _ = api_keys.issue(make_user(), scope=api_keys.Scope(expires_at=ends_at))
    successor, _ = api_keys.rotate(key, overlap=timedelta(hours=2))
    key.refresh_from_db()
    assert key.expires_at == successor.expires_at == ends_at


def test_a_key_that_does_not_work_any_more_is_not_rotated():
    key, _ = api_keys.issue(make_user())
    api_keys.revoke(ApiKey.objects.all())
    with pytest.raises(api_keys.KeyNotUsable):
        api_keys.rotate(key, overlap=timedelta(hours=1))
    assert ApiKey.objects.count() == 1
