"""The same request again makes nothing twice: one rule for every POST that creates."""

import uuid
from dataclasses import asdict, dataclass
from datetime import datetime

from core.exceptions import IdempotencyConflict
from core.models import IdempotencyRecord


@dataclass(frozen=True)
class IdempotencyKey:
    """A caller's promise that a request is one and the same: who, where, which key, and the hash of what was sent."""

    principal: str
    route: str
    key: str
    body_hash: str


def find(key: IdempotencyKey) -> uuid.UUID | None:
    """Find the object that an earlier request with this key made; None when the key is free.

    Raises IdempotencyConflict when that request had another body.
    """
    record = IdempotencyRecord.objects.filter(principal=key.principal, route=key.route, key=key.key).first()
    if record is None:
        return None
    if record.body_hash != key.body_hash:
        raise IdempotencyConflict
    return record.object_id


def claim(key: IdempotencyKey, object_id: uuid.UUID, now: datetime) -> uuid.UUID:
    """Claim a key for an object about to be made, in the caller's transaction.

    Returns object_id when the key was free, else the id of the object that the first request made.
    Raises IdempotencyConflict when the first request had another body.
    """
    IdempotencyRecord.objects.bulk_create(
        [IdempotencyRecord(object_id=object_id, created_at=now, **asdict(key))], ignore_conflicts=True
    )
    return find(key) or object_id
