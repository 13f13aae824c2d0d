"""Values of options that several commands have."""

from argparse import ArgumentTypeError
from datetime import UTC, datetime


def moment(text: str) -> datetime:
    """Read a moment in ISO 8601, in UTC unless it says otherwise."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is no moment such as 2026-01-31 or 2026-01-31T12:00.") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)
