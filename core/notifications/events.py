"""What people can be told of. Other applications register theirs when Django starts."""

from collections.abc import Collection
from dataclasses import dataclass

from core.models import Role


@dataclass(frozen=True)
class Event:
    """Something that people can be told of. name: stands in rows, never changes.

    in_app, email: how people are told who chose nothing. roles: who may get it.
    """

    name: str
    label: str
    description: str
    in_app: bool = True
    email: bool = False
    roles: Collection[str] = frozenset(Role.values)


_events: dict[str, Event] = {}


def register(event: Event) -> Event:
    _events[event.name] = event
    return event


def find(name: str) -> Event | None:
    return _events.get(name)


def for_role(role: str) -> list[Event]:
    """The events that people of a role may be told of, by label."""
    return sorted((event for event in _events.values() if role in event.roles), key=lambda event: event.label)
