"""Budgets of work: tokens within a day and within a calendar month (UTC), and tasks at a time.

Before the work the tokens that it may take are reserved, after it they are settled: the counter of a subject's day is
always the sum of what unfinished work reserved and what finished work used; a month is the sum of its days. Whoever
does the work keeps both numbers with it, writes them in the same transaction, and so settles once. A process that
dies changes neither.

Counters change only under the locks of their subjects, so that looking and reserving is one step.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple

from django.db import connection

from core.access.limits.allowances import Level
from core.access.limits.refusals import Period, TokenBudgetExhausted, TooManyTasks
from core.access.limits.subjects import Subject
from core.models import TokenUse

_TABLE = TokenUse._meta.db_table

CountTasks = Callable[[Collection[Subject]], Mapping[Subject, int]]


class Used(NamedTuple):
    """The tokens that somebody used and reserved on a day, and in the month of that day."""

    in_day: int = 0
    in_month: int = 0


@dataclass(frozen=True)
class Charge:
    """What a piece of work is going to cost those it counts for. tokens: by estimate."""

    levels: tuple[Level, ...]
    tokens: int

    @property
    def subjects(self) -> tuple[Subject, ...]:
        return tuple(level.subject for level in self.levels)

    @property
    def has_token_budget(self) -> bool:
        return any(level.has_token_budget for level in self.levels)


class Book:
    """The budgets of some charges, locked until the end of the transaction: nobody else reserves meanwhile."""

    def __init__(self, charges: Collection[Charge], now: datetime, count_tasks: CountTasks) -> None:
        """count_tasks: counts the unfinished tasks of subjects."""
        self._now = now
        self._reserved: Counter[Subject] = Counter()
        levels = {level.subject: level for charge in charges for level in charge.levels}
        _lock(levels)
        spending = {subject for charge in charges if charge.has_token_budget for subject in charge.subjects}
        self._used = tokens_used(spending, now.date()) if spending else {}
        limited = [subject for subject, level in levels.items() if level.concurrent_tasks is not None]
        self._tasks = Counter(count_tasks(limited)) if limited else Counter[Subject]()

    def reserve(self, charge: Charge) -> int | None:
        """Reserve the tokens of a piece of work; returns how many, None where nobody it counts for has a budget.

        Raises TooManyTasks, TokenBudgetExhausted; then nothing is reserved.
        """
        for level in charge.levels:
            self._check(level, charge.tokens)
        self._tasks.update(charge.subjects)
        if not charge.has_token_budget:
            return None
        for subject in charge.subjects:
            self._reserved[subject] += charge.tokens
        return charge.tokens

    def _check(self, level: Level, tokens: int) -> None:
        if level.concurrent_tasks is not None and self._tasks[level.subject] >= level.concurrent_tasks:
            raise TooManyTasks(level.subject, limit=level.concurrent_tasks)
        used = self._used.get(level.subject, Used())
        # The month first: whoever has nothing left of either waits for its end.
        self._check_tokens("month", level.subject, level.tokens_per_month, used.in_month, tokens)
        self._check_tokens("day", level.subject, level.tokens_per_day, used.in_day, tokens)

    def _check_tokens(self, period: Period, subject: Subject, limit: int | None, used: int, tokens: int) -> None:
        if limit is None:
            return
        left = limit - used - self._reserved[subject]
        if tokens > left:
            raise TokenBudgetExhausted(
                subject,
                period=period,
                limit=limit,
                left=max(0, left),
                needed=tokens,
                retry_after_seconds=seconds_left_of(period, self._now),
            )

    def write(self) -> None:
        """Write down what was reserved."""
        day = self._now.date()
        _add({(subject, day): tokens for subject, tokens in self._reserved.items()})


@dataclass(frozen=True)
class Settlement:
    """Work that has ended: what was reserved for it on a day, and what it used."""

    subjects: tuple[Subject, ...]
    day: date
    reserved: int
    used: int


def settle(settlements: Collection[Settlement]) -> None:
    """Put what work used in the place of what was reserved for it, in the transaction that ends the work."""
    if not settlements:
        return
    changes: Counter[tuple[Subject, date]] = Counter()
    for item in settlements:
        for subject in item.subjects:
            changes[subject, item.day] += item.used - item.reserved
    _lock({subject for subject, _ in changes})
    _add(changes)


def tokens_used(subjects: Collection[Subject], day: date) -> dict[Subject, Used]:
    """Tell how many tokens these used and reserved on a day, and in its month; whoever was not counted is left out.

    Where nobody concerned has a budget, nobody is counted.
    """
    names = {str(subject): subject for subject in subjects}
    days = [connection.ops.adapt_datefield_value(moment) for moment in (day, day.replace(day=1), _next_month(day))]
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT subject, SUM(CASE WHEN day = %s THEN tokens ELSE 0 END), SUM(tokens) FROM {_TABLE} "  # noqa: S608
            f"WHERE day >= %s AND day < %s AND subject IN ({', '.join(['%s'] * len(names)) or 'NULL'}) "
            "GROUP BY subject",
            [*days, *names],
        )
        return {names[name]: Used(int(in_day), int(in_month)) for name, in_day, in_month in cursor.fetchall()}


def seconds_left_of(period: Period, now: datetime) -> int:
    """Whole seconds until the next day, or the next month, has begun (UTC)."""
    today = now.astimezone(UTC).date()
    following = _next_month(today) if period == "month" else today + timedelta(days=1)
    return int((datetime.combine(following, time(), UTC) - now).total_seconds()) + 1


def _next_month(day: date) -> date:
    """The first day of the month after a day's."""
    return (day.replace(day=1) + timedelta(days=31)).replace(day=1)


def _lock(subjects: Collection[Subject]) -> None:
    """Lock subjects until the end of the transaction, in one order everywhere so that two never wait for each other.

    They need no rows for it. On SQLite whoever writes has the whole database, from the BEGIN on.
    """
    if not subjects or connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(name, 0)) FROM unnest(%s::text[]) AS name",
            [sorted(map(str, subjects))],
        )


def _add(changes: Mapping[tuple[Subject, date], int]) -> None:
    rows = [
        (str(subject), connection.ops.adapt_datefield_value(day), tokens)
        for (subject, day), tokens in changes.items()
        if tokens
    ]
    if not rows:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {_TABLE} (subject, day, tokens) VALUES {', '.join(['(%s, %s, %s)'] * len(rows))} "  # noqa: S608
            f"ON CONFLICT (subject, day) DO UPDATE SET tokens = {_TABLE}.tokens + excluded.tokens",
            [value for row in rows for value in row],
        )
