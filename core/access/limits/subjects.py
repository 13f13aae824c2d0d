"""Who is counted: the key that asks, the person it belongs to, and the person's team."""

import uuid
from typing import Literal, NamedTuple, cast

from core.models import ApiKey, User

Kind = Literal["key", "user", "team"]


class Subject(NamedTuple):
    """One who is counted; written as "user:<id>"."""

    kind: Kind
    id: uuid.UUID

    def __str__(self) -> str:
        return f"{self.kind}:{self.id}"

    @classmethod
    def read(cls, text: str) -> "Subject":
        """Read what was written; by us, so it is right."""
        kind, _, key = text.partition(":")
        return cls(cast("Kind", kind), uuid.UUID(key))


def subjects(*, key_id: uuid.UUID | None, user_id: uuid.UUID, team_id: uuid.UUID) -> tuple[Subject, ...]:
    """Name everybody whom a request or a task counts for. The first is its credential: the key, or the person."""
    levels = Subject("user", user_id), Subject("team", team_id)
    return levels if key_id is None else (Subject("key", key_id), *levels)


def subjects_of(user: User, key: ApiKey | None) -> tuple[Subject, ...]:
    """Name everybody whom something counts for that a person does, by a key or without one."""
    team_id: uuid.UUID = user.team_id  # type: ignore[assignment]  # keys with a default look optional to the stubs
    return subjects(key_id=key.pk if key else None, user_id=user.pk, team_id=team_id)
