"""What seals an entry: an HMAC over the seal before it, its place, and everything it says.

The key is a secret of the installation and never in the database, so whoever can write the database, but not read the
key, cannot make a chain that holds.
"""

import hashlib
import hmac
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.conf import settings

from core.models import AuditEntry

NO_SEAL = ""  # before the first entry
CONTENT = tuple(
    field.attname for field in AuditEntry._meta.concrete_fields if field.attname not in {"sequence", "seal"}
)
COLUMNS = ("sequence", "seal", *CONTENT)
BATCH = 1000  # rows read at a time, so that the walk over a long chain takes constant memory


@dataclass(frozen=True)
class Link:
    """An entry as the chain sees it. content: its columns, in canonical JSON."""

    sequence: int
    seal: str
    entry_id: int
    content: str


def canonical(values: tuple[Any, ...]) -> str:
    """Write the columns of CONTENT as JSON in one way only.

    Empty ones are left out, so that a column that is added later, empty in old rows, breaks no seal.
    """
    content = {name: value for name, value in zip(CONTENT, values, strict=True) if value not in (None, "", {})}
    return json.dumps(content, default=text_of, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def text_of(value: Any) -> str:
    """Write what JSON has no form for."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if isinstance(value, uuid.UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON.")


def seal_of(previous: str, sequence: int, content: str) -> str:
    """Compute the seal of an entry, in hexadecimal digits. previous: the seal of the entry before it."""
    message = f"{previous}\n{sequence}\n{content}".encode()
    return hmac.new(settings.AUDIT_KEY.encode(), message, hashlib.sha256).hexdigest()


def links(*, after: int = 0) -> Iterator[Link]:
    """Walk along the chain, behind a place in it, until it ends."""
    while rows := list(
        AuditEntry.objects.filter(sequence__gt=after).order_by("sequence").values_list(*COLUMNS)[:BATCH]
    ):
        for sequence, seal, *values in rows:
            yield Link(sequence, seal, values[0], canonical(tuple(values)))
        after = rows[-1][0]


def head() -> tuple[int, str]:
    """Read the place and the seal at the end of the chain; 0 and no seal where there is none yet."""
    newest = AuditEntry.objects.sealed().order_by("-sequence").values_list("sequence", "seal").first()
    return (newest[0] or 0, newest[1]) if newest else (0, NO_SEAL)
