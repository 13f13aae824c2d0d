"""Maintenance jobs that delete rows: the same querysets say how many would go, and are deleted."""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from django.db.models import Model, QuerySet

from core.formats import number
from core.ops import maintenance

Row = TypeVar("Row", bound=Model)
# What is to go now.
Rows = Callable[[], "QuerySet[Row]"]

BATCH = 500  # rows for each transaction, so that others get their turn in between


def register(name: str, title: str, rows: "Mapping[str, Rows[Row]]", *, is_long: bool = False) -> None:
    """Register a job that deletes rows. rows: by what they are called, "sign-in sessions"; deleted in this order.

    is_long: as of any job, such as where much else goes with each row.
    """

    def figures() -> Mapping[str, int]:
        return {_figure(what): of().model._default_manager.count() for what, of in rows.items()}

    def preview() -> str:
        return f"It would delete {told((what, of().count()) for what, of in rows.items())}."

    @maintenance.job(name, title, figures=figures, preview=preview, is_long=is_long)
    def delete() -> str:
        return f"Deleted {told([(what, in_batches(of())) for what, of in rows.items()])}."


def in_batches(rows: "QuerySet[Row]") -> int:
    """Delete rows, a batch at a time; returns how many, without those that went with them."""
    deleted = 0
    while keys := list(rows.values_list("pk", flat=True)[:BATCH]):
        # Without what they hold, which may be much.
        rows.model._default_manager.filter(pk__in=keys).only("pk").delete()
        deleted += len(keys)
    return deleted


def told(counts: Iterable[tuple[str, int]]) -> str:
    """Say how many there are of each: "3 alerts and 1,200 silences"."""
    *first, last = [f"{number(count)} {what}" for what, count in counts]
    return f"{', '.join(first)} and {last}" if first else last


def _figure(what: str) -> str:
    return what.replace(" ", "_").replace("-", "_")
