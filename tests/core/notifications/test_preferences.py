from dataclasses import replace

import pytest
from django.db import IntegrityError, transaction

from core.models import AuditEntry, NotificationPreference, Role
from core.notifications import Event, events, preferences
from core.notifications.preferences import Preference
from tests.factories import make_user

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


@pytest.fixture
def person():
    return make_user(username="ada")


def held(person, event):
    return next(item for item in preferences.of(person) if item.event == event)


def test_without_a_choice_the_defaults_of_the_event_hold(event, person):
    assert held(person, event) == Preference(event, in_app=True, email=False)


def test_people_choose_among_what_their_role_may_get(monkeypatch, person):
    alert = Event("alert", "Alert", "Something is wrong.", roles=[Role.OPERATOR])
    monkeypatch.setitem(events._events, alert.name, alert)
    assert alert not in [item.event for item in preferences.of(person)]
    assert alert in [item.event for item in preferences.of(make_user(role=Role.OPERATOR))]


def test_a_row_exists_only_where_the_choice_differs(event, person):
    chosen = Preference(event, in_app=False, email=True)
    preferences.change(person, [chosen])
    assert held(person, event) == chosen
    preferences.change(person, [replace(chosen, email=False)])
    assert NotificationPreference.objects.values_list("event", "in_app", "email").get() == (event.name, False, False)
    preferences.change(person, [Preference(event, in_app=True, email=False)])
    assert not NotificationPreference.objects.exists()
    assert held(make_user(), event) == held(person, event)


def test_a_change_is_in_the_audit_log_and_no_change_is_not(event, person):
    preferences.change(person, preferences.of(person))
    assert not AuditEntry.objects.filter(action="notification-preferences.changed").exists()
    preferences.change(person, [Preference(event, in_app=False, email=False)])
    entry = AuditEntry.objects.get(action="notification-preferences.changed")
    assert (entry.object_name, entry.changes) == ("ada", {"kettle-boiled in_app": [True, False]})


def test_nobody_has_two_choices_for_one_event(event, person):
    preferences.change(person, [Preference(event, in_app=False, email=False)])
    with pytest.raises(IntegrityError), transaction.atomic():
        NotificationPreference.objects.create(person=person, event=event.name, in_app=True, email=True)
