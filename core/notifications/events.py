"""What people can be told of. Other applications register theirs when Django starts."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from core.models import Role


@dataclass(frozen=True)
class Event:
    """Something that people can be told of. name: stands in rows, never changes.

    in_app, email: how people are told who chose nothing. webhook: whether operators may have webhooks told of it,
    too. roles: who may get it.
    """

    name: str
    label: str
    description: str
    in_app: bool = True
    email: bool = False
    webhook: bool = False
    roles: Collection[str] = frozenset(Role.values)


_events: dict[str, Event] = {}


def register(event: Event) -> Event:
    _events[event.name] = event
    return event


def find(name: str) -> Event | None:
    return _events.get(name)


def for_role(role: str) -> list[Event]:
    """The events that people of a role may be told of, by label."""
    return _by_label(event for event in _events.values() if role in event.roles)


def for_webhooks() -> list[Event]:
    """The events that webhooks may be told of, by label."""
    return _by_label(event for event in _events.values() if event.webhook)


def _by_label(events: Iterable[Event]) -> list[Event]:
    return sorted(events, key=lambda event: event.label)
