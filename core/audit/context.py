"""Who acts, through which door: set by the doors, read only when a row is written."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

from core.models import User


@dataclass(frozen=True)
class Origin:
    """Where an action comes from.

    credential: "session", "api-key stz_<id>", "token", "command"; never the secret itself.
    address: the client's network address. request_id: as in the log.
    """

    actor_id: uuid.UUID | None = None
    actor_name: str = ""
    credential: str = ""
    address: str = ""
    request_id: str = ""


_origin: ContextVar[Callable[[], Origin]] = ContextVar("audit_origin", default=Origin)
# Objects that rows were written about since the door was entered: (type, id), and REFUSAL for what was refused.
REFUSAL = ("", "refusal")
_told: ContextVar[set[tuple[str, str]] | None] = ContextVar("audit_told", default=None)


def origin() -> Origin:
    """Find out who acts now; this may read the signed-in user from the database."""
    return _origin.get()()


class entered:  # noqa: N801 - reads as the word that it is
    """Let what happens within come from an origin that is found out when a row needs it."""

    __slots__ = ("_find", "_outer", "_told")

    def __init__(self, find: Callable[[], Origin]) -> None:
        self._find = find

    def __enter__(self) -> None:
        self._outer, self._told = _origin.set(self._find), _told.set(set())

    def __exit__(self, *_: object) -> None:
        _origin.reset(self._outer)
        _told.reset(self._told)


@contextmanager
def acting(
    *, actor: User | None = None, credential: str = "", address: str = "", request_id: str = ""
) -> Iterator[None]:
    """Let what happens within come from somebody; what is not given stays as it is outside.

    For management commands, Celery tasks and doors of other protocols.
    """
    given: dict[str, Any] = {"credential": credential, "address": address, "request_id": request_id}
    if actor is not None:
        given |= {"actor_id": actor.pk, "actor_name": actor.get_username()}
    given = {name: value for name, value in given.items() if value}
    outer = _origin.get()
    token = _origin.set(lambda: replace(outer(), **given))
    try:
        yield
    finally:
        _origin.reset(token)


def tell(object_type: str, object_id: str) -> None:
    """Note that a row was written about an object."""
    told = _told.get()
    if told is not None and object_id:
        told.add((object_type, object_id))


def is_told(object_type: str, object_id: str) -> bool:
    """Tell whether a row was written about an object since the door was entered, so that the door need not."""
    return (object_type, object_id) in (_told.get() or ())


def tell_refusal() -> None:
    """Note that a row tells of a refusal."""
    tell(*REFUSAL)


def is_refusal_told() -> bool:
    """Tell whether whoever refused wrote a row, so that the door need not."""
    return is_told(*REFUSAL)
