"""What was used of each limit, for the people and programs that it holds back."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields

from core.access.limits import budgets, requests
from core.access.limits.allowances import Level
from core.access.limits.budgets import CountTasks, Used
from core.access.limits.subjects import Subject
from core.ops import clock


@dataclass(frozen=True)
class Gauge:
    """limit: None for no limit. used: None where nobody counts. resets_in_seconds: None where time frees nothing."""

    limit: int | None
    used: int | None
    resets_in_seconds: int | None = None

    @property
    def remaining(self) -> int | None:
        return None if self.limit is None or self.used is None else max(0, self.limit - self.used)


@dataclass(frozen=True)
class Usage:
    """How far one subject got with each of its limits."""

    subject: Subject
    requests_per_minute: Gauge
    tokens_per_day: Gauge
    tokens_per_month: Gauge
    concurrent_tasks: Gauge
    queue_share: float | None

    @property
    def gauges(self) -> dict[str, Gauge]:
        """Every gauge by its name, for those who tell of all."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in found.items() if isinstance(value, Gauge)}


_task_counters: list[CountTasks] = []


def register_tasks(count_tasks: CountTasks) -> None:
    """Say how unfinished tasks of subjects are counted: core knows of none."""
    _task_counters.append(count_tasks)


def of(levels: Sequence[Level]) -> list[Usage]:
    """Look up what these used by now, all at once."""
    now = clock.now()
    subjects = [level.subject for level in levels]
    quotas = _quotas(levels)
    tokens = budgets.tokens_used(subjects, now.date())
    day_ends, month_ends = budgets.seconds_left_of("day", now), budgets.seconds_left_of("month", now)
    tasks = sum((Counter(count_tasks(subjects)) for count_tasks in _task_counters), Counter[Subject]())
    usages = []
    for level in levels:
        # Without a budget for anybody concerned, nobody counts.
        used = tokens.get(level.subject, Used() if level.has_token_budget else None)
        usages.append(
            Usage(
                level.subject,
                quotas.get(level.subject, Gauge(None, None)),
                Gauge(level.tokens_per_day, None if used is None else used.in_day, day_ends),
                Gauge(level.tokens_per_month, None if used is None else used.in_month, month_ends),
                Gauge(level.concurrent_tasks, tasks[level.subject]),
                level.queue_share,
            )
        )
    return usages


def _quotas(levels: Sequence[Level]) -> dict[Subject, Gauge]:
    limited = [level for level in levels if level.requests_per_minute is not None]
    quotas = requests.look(limited) if limited else []
    return {
        level.subject: Gauge(quota.limit, quota.used, quota.seconds_left)
        for level, quota in zip(limited, quotas, strict=False)  # no quotas while nobody can count
    }
