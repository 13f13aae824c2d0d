"""How people want to be told of what."""

from collections.abc import Iterable
from dataclasses import dataclass

from django.db import transaction

from core import audit
from core.models import NotificationPreference, User
from core.notifications.events import Event, for_role


@dataclass(frozen=True)
class Preference:
    """How a person is told of an event."""

    event: Event
    in_app: bool
    email: bool


def of(person: User) -> list[Preference]:
    """Each event that a person may be told of, with what they chose or else its defaults."""
    rows = NotificationPreference.objects.filter(person=person)
    chosen = {event: (in_app, email) for event, in_app, email in rows.values_list("event", "in_app", "email")}
    return [Preference(event, *chosen.get(event.name, (event.in_app, event.email))) for event in for_role(person.role)]


@transaction.atomic
def change(person: User, wanted: Iterable[Preference]) -> None:
    """Write down what a person chose; a choice that is the event's default leaves no row."""
    before = {preference.event: preference for preference in of(person)}
    changes: dict[str, list[bool]] = {}
    for preference in wanted:
        event, old = preference.event, before[preference.event]
        if preference == old:
            continue
        _store(person, preference)
        changes |= {f"{event.name} in_app": [old.in_app, preference.in_app]} if old.in_app != preference.in_app else {}
        changes |= {f"{event.name} email": [old.email, preference.email]} if old.email != preference.email else {}
    if changes:
        audit.record("notification-preferences.changed", target=person, changes=changes)


def _store(person: User, preference: Preference) -> None:
    event = preference.event
    if (preference.in_app, preference.email) == (event.in_app, event.email):
        NotificationPreference.objects.filter(person=person, event=event.name).delete()
    else:
        channels = {"in_app": preference.in_app, "email": preference.email}
        NotificationPreference.objects.update_or_create(person=person, event=event.name, defaults=channels)
