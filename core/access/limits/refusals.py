"""How limits refuse."""

from typing import Literal

from core.access.limits.subjects import Subject
from core.exceptions import Refused

Period = Literal["day", "month"]

_NAMES = {"key": "this API key", "user": "this user", "team": "this team", "address": "this address"}
# Nobody knows when a task will end; this spares the server those who ask at once.
TASK_RETRY_SECONDS = 5


class TooManyRequests(Refused):
    """More requests came within the minute than are allowed. Wait for the rest of it."""

    status = 429
    code = "too-many-requests"
    title = "Too many requests"

    def __init__(self, *, name: str, limit: int, window_seconds: int, retry_after_seconds: int) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(f"For {_NAMES[name]}, {limit} requests within {window_seconds} seconds are allowed.")


class TooManyAttempts(Refused):
    """Too many passwords were tried for an account, or from an address. Wait; a right password is no way around."""

    status = 429
    code = "too-many-attempts"
    title = "Too many attempts to sign in"

    def __init__(self, *, retry_after_seconds: int) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(f"Try again in {retry_after_seconds} seconds.")


class TokenBudgetExhausted(Refused):
    """The tokens of the day or the month do not suffice for the work. Wait for the next (UTC), or ask for less."""

    status = 429
    code = "token-budget-exhausted"
    title = "The token budget is exhausted"

    def __init__(
        self, subject: Subject, *, period: Period, limit: int, left: int, needed: int, retry_after_seconds: int
    ) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(
            f"Of the {limit} tokens a {period} for {_NAMES[subject.kind]}, {left} are left; about {needed} are needed."
        )


class TooManyTasks(Refused):
    """As many tasks wait or run as are allowed at a time. Wait for one to end, or cancel one."""

    status = 429
    code = "too-many-tasks"
    title = "Too many tasks at a time"
    retry_after_seconds = TASK_RETRY_SECONDS

    def __init__(self, subject: Subject, *, limit: int) -> None:
        super().__init__(f"For {_NAMES[subject.kind]}, {limit} tasks may wait or run at a time.")
