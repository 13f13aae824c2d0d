"""Which limits hold for whom: the rows that operators edit, and the defaults of the settings."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cachetools import TTLCache, cached
from django.conf import settings
from django.db.models.signals import post_delete, post_save

from core.access.limits.subjects import Subject
from core.models import Allowance, ApiKey

# A limit that was changed in another process may go unnoticed here for so long.
REMEMBER_SECONDS = 2.0
QUEUE_SHARE = 1.0  # of everybody for whom nobody set another

_remembered: TTLCache[Any, dict[Subject, Allowance]] = TTLCache(maxsize=1, ttl=REMEMBER_SECONDS)


@dataclass(frozen=True)
class Level:
    """What one subject may use; None: there is no limit at this level.

    queue_share: its weight beside others of its kind; None for keys, which wait as their people.
    """

    subject: Subject
    requests_per_minute: int | None
    tokens_per_day: int | None
    tokens_per_month: int | None
    concurrent_tasks: int | None
    queue_share: float | None = QUEUE_SHARE

    @property
    def has_token_budget(self) -> bool:
        return self.tokens_per_day is not None or self.tokens_per_month is not None

    @property
    def bounds_work(self) -> bool:
        return self.has_token_budget or self.concurrent_tasks is not None


def levels(subjects: Sequence[Subject]) -> tuple[Level, ...]:
    """Tell what each of these may use. The first of them is the credential, which always has a request limit."""
    rows = _rows()
    credential, *others = subjects
    return (
        _level(credential, rows.get(credential), is_credential=True),
        *[_level(subject, rows.get(subject), is_credential=False) for subject in others],
    )


def level_of(subject: Subject) -> Level:
    """Tell what a single subject may use; keys and people are credentials."""
    return _level(subject, _rows().get(subject), is_credential=subject.kind != "team")


def _level(subject: Subject, row: Allowance | None, *, is_credential: bool) -> Level:
    is_person = subject.kind == "user"
    return Level(
        subject,
        (row.requests_per_minute if row else None) or (settings.REQUESTS_PER_MINUTE if is_credential else None),
        (row.tokens_per_day if row else None) or (settings.TOKENS_PER_DAY if is_person else None),
        (row.tokens_per_month if row else None) or (settings.TOKENS_PER_MONTH if is_person else None),
        (row.concurrent_tasks if row else None) or (settings.CONCURRENT_TASKS if is_person else None),
        None if subject.kind == "key" else (row.queue_share if row else None) or QUEUE_SHARE,
    )


def subject_of(row: Allowance) -> Subject:
    if row.key_id is not None:
        return Subject("key", row.key_id)
    if row.user_id is not None:
        return Subject("user", row.user_id)
    assert row.team_id is not None, "a constraint of the database"
    return Subject("team", row.team_id)


def hand_on(old: ApiKey, new: ApiKey) -> None:
    """Give a key that takes another's place the limits of that one."""
    if row := Allowance.objects.filter(key=old).first():
        Allowance.objects.create(
            key=new,
            requests_per_minute=row.requests_per_minute,
            tokens_per_day=row.tokens_per_day,
            tokens_per_month=row.tokens_per_month,
            concurrent_tasks=row.concurrent_tasks,
        )


@cached(_remembered, lock=threading.Lock())
def _rows() -> dict[Subject, Allowance]:
    """Read all rows, which are few, and remember them for a moment: nearly every request asks."""
    return {subject_of(row): row for row in Allowance.objects.order_by()}


def forget(**_: Any) -> None:
    """Look at the rows again."""
    _remembered.clear()


post_save.connect(forget, sender=Allowance)
post_delete.connect(forget, sender=Allowance)
