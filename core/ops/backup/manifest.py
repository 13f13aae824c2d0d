"""What an archive says about itself: the last member, so that whatever was cut off anywhere has none."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from core.ops.backup.errors import DamagedError

NAME = "manifest.json"
FORMAT = 1
MAX_BYTES = 16 * 2**20
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Member:
    """A file in the archive. sha256: in hexadecimal digits."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """version: of the program. vendor: "sqlite" or "postgresql". server: the version of that.

    database_bytes: of the database's file, unpacked. rows: by table. migrations: those that had been applied, by
    application. duration_seconds: until the archive was written.
    """

    version: str
    created_at: datetime
    vendor: str
    server: str
    database_bytes: int
    rows: dict[str, int]
    migrations: dict[str, list[str]]
    members: dict[str, Member]
    duration_seconds: float

    def facts(self) -> dict[str, Any]:
        """Everything it says, as plain data."""
        return {"format": FORMAT, **asdict(self), "created_at": self.created_at.isoformat()}

    def text(self) -> str:
        facts = self.facts()
        return json.dumps({**facts, "sha256": _digest(facts)}, indent=1, sort_keys=True) + "\n"

    @property
    def total_rows(self) -> int:
        return sum(self.rows.values())


def read(text: bytes) -> Manifest:
    """Raises DamagedError for whatever was not written by `Manifest.text`, or by a newer program."""
    try:
        given = json.loads(text)
        if given.pop("sha256") != _digest(given):
            raise DamagedError("What the archive says about itself has another checksum.")
        if given["format"] != FORMAT:
            raise DamagedError(f"This archive has the format {given['format']}, which a newer program writes.")
        return _parse(given)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError("What the archive says about itself makes no sense: it was changed.") from error


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _parse(given: Mapping[str, Any]) -> Manifest:
    created_at = datetime.fromisoformat(given["created_at"])
    if created_at.tzinfo is None:
        raise ValueError("a moment without a zone")
    return Manifest(
        version=_text(given["version"]),
        created_at=created_at,
        vendor=_text(given["vendor"]),
        server=_text(given["server"]),
        database_bytes=_count(given["database_bytes"]),
        rows={_text(table): _count(count) for table, count in given["rows"].items()},
        migrations={_text(app): [_text(name) for name in names] for app, names in given["migrations"].items()},
        members={_text(name): _member(facts) for name, facts in given["members"].items()},
        duration_seconds=float(given["duration_seconds"]),
    )


def _member(facts: Mapping[str, Any]) -> Member:
    if not _SHA256.fullmatch(facts["sha256"]):
        raise ValueError("no digest")
    return Member(_count(facts["bytes"]), facts["sha256"])


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("no count")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value
