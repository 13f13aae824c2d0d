"""Who was told what: the one place where notifications are made and marked."""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import FilteredRelation, Q, QuerySet
from django.utils import timezone

from core.audit.changes import clean
from core.models import Notification, User
from core.notifications import emails
from core.notifications.events import Event

_TABLE = Notification._meta.db_table
_FIELDS = Notification._meta.concrete_fields


@dataclass(frozen=True)
class News:
    """What one person is to be told.

    body: never what a model wrote, because it is also sent by email. link: a path inside the product.
    collapse_key: news of an event with the same key are one notification while it is unread; None: each is its own.
    count: how many this stands for.
    """

    person_id: uuid.UUID
    title: str
    link: str
    body: str = ""
    collapse_key: str | None = None
    count: int = 1


def notify(event: Event, news: Sequence[News], now: datetime) -> None:
    """Tell people something, each as they want to be told; the rows stand or fall with the caller's transaction.

    Two statements, however many are told. Whoever may not get the event, or wants it in no way, is not told.
    """
    with transaction.atomic(savepoint=False):
        wishes = _wishes(event, {item.person_id for item in news})
        rows = [_row(event, item, *wishes[item.person_id], now) for item in _merged(news) if item.person_id in wishes]
        made = _write([row for row in rows if row.in_app or row.email_due_at])
        to_send = [row.pk for row in rows if row.email_due_at and row.pk in made]
        if to_send:
            transaction.on_commit(partial(emails.announce, to_send), robust=True)


def of(person: User) -> QuerySet[Notification]:
    """What a person was told in the product."""
    return Notification.objects.filter(person=person, in_app=True)


def unread(person: User) -> QuerySet[Notification]:
    return of(person).filter(read_at=None)


def mark_read(notification: Notification) -> None:
    """Note that a notification was read, unless that is known."""
    now = timezone.now()
    if Notification.objects.filter(pk=notification.pk, read_at=None).update(read_at=now):
        notification.read_at = now


def mark_all_read(person: User) -> int:
    """Note that a person has read everything; returns how much that was.

    What somebody counts up at this very moment stays unread: it is news. So nobody waits here for two rows.
    """
    free = unread(person).select_for_update(skip_locked=True, no_key=True)
    with transaction.atomic():
        return Notification.objects.filter(pk__in=free.values("pk"), read_at=None).update(read_at=timezone.now())


def _wishes(event: Event, person_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, tuple[bool, bool]]:
    """How those of these people who may be told of an event want to be told: in the product, and by email."""
    chosen = FilteredRelation("notification_preferences", condition=Q(notification_preferences__event=event.name))
    people = User.objects.filter(pk__in=person_ids, is_active=True, role__in=event.roles).annotate(chosen=chosen)
    rows = people.order_by().values_list("pk", "email", "chosen__in_app", "chosen__email")
    return {
        key: (
            event.in_app if in_app is None else in_app,
            bool(address and settings.EMAIL_IS_CONFIGURED and (event.email if email is None else email)),
        )
        for key, address, in_app, email in rows
    }


def _merged(news: Iterable[News]) -> list[News]:
    """Make those that collapse one, the last one's words with all their counts; in one order everywhere.

    The order is that of their locks, so that two processes do not wait for each other.
    """
    merged: dict[tuple[uuid.UUID, str], News] = {}
    for item in news:
        key = (item.person_id, item.collapse_key or str(uuid.uuid4()))
        earlier = merged.get(key)
        merged[key] = replace(item, count=item.count + earlier.count) if earlier else item
    return [merged[key] for key in sorted(merged)]


def _row(event: Event, item: News, in_app: bool, by_email: bool, now: datetime) -> Notification:
    return Notification(
        person_id=item.person_id,
        event=event.name,
        title=clean(item.title, 200),
        body=clean(item.body, 500),
        link=item.link,
        created_at=now,
        collapse_key=item.collapse_key,
        count=item.count,
        in_app=in_app,
        email_due_at=now if by_email else None,
    )


def _write(rows: Sequence[Notification]) -> set[uuid.UUID]:
    """Insert rows, or count up the unread ones that they collapse with; returns the keys of all that were touched.

    By hand, because the ORM cannot add to what is there in the statement that inserts.
    """
    if not rows:
        return set()
    columns = ", ".join(str(field.column) for field in _FIELDS)
    marks = f"({', '.join(['%s'] * len(_FIELDS))})"
    values: list[Any] = [
        field.get_db_prep_save(getattr(row, field.attname), connection) for row in rows for field in _FIELDS
    ]
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {_TABLE} ({columns}) VALUES {', '.join([marks] * len(rows))} "  # noqa: S608 - names of ours
            "ON CONFLICT (person_id, event, collapse_key, in_app) WHERE read_at IS NULL DO UPDATE SET "
            f"count = {_TABLE}.count + excluded.count, body = excluded.body, link = excluded.link RETURNING id",
            values,
        )
        return {key if isinstance(key, uuid.UUID) else uuid.UUID(key) for (key,) in cursor.fetchall()}
