"""Counts what is asked of the database, but for what the clock asks it every few seconds, whatever goes on."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection
from django.test.utils import CaptureQueriesContext

CLOCK = "SELECT clock_timestamp()"


def asked(captured: CaptureQueriesContext) -> list[str]:
    """The statements that were captured."""
    return [query["sql"] for query in captured.captured_queries if query["sql"] != CLOCK]


@contextmanager
def exactly(number: int) -> Iterator[CaptureQueriesContext]:
    """Fail unless so many statements are given to the database."""
    with CaptureQueriesContext(connection) as captured:
        yield captured
    assert len(asked(captured)) == number, "\n".join(asked(captured))


@contextmanager
def at_most(number: int) -> Iterator[CaptureQueriesContext]:
    """Fail if more statements than these are given to the database."""
    with CaptureQueriesContext(connection) as captured:
        yield captured
    assert len(asked(captured)) <= number, "\n".join(asked(captured))
