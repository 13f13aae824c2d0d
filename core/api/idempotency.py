"""The Idempotency-Key header: the same request again makes nothing twice, and says so."""

import hashlib
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from django.db import transaction
from django.utils import timezone
from rest_framework.request import Request

from core.exceptions import Refused
from core.idempotency import IdempotencyKey, claim, find
from core.models import uuid7

HEADER = "Idempotency-Key"
REPLAY_HEADER = "Idempotent-Replay"
MAX_CHARACTERS = 255


class InvalidIdempotencyKey(Refused):
    """The header's value is empty, too long, or not printable ASCII."""

    status = 400
    code = "invalid-idempotency-key"
    title = "The Idempotency-Key cannot be used"


@dataclass(frozen=True)
class Made:
    """The object that a request made, now or (is_replay) the first time it was sent."""

    object_id: uuid.UUID
    is_replay: bool


def key_of(request: Request) -> IdempotencyKey | None:
    """Read a request's key; None where it has none. Raises InvalidIdempotencyKey."""
    key = request.headers.get(HEADER)
    if key is None:
        return None
    body = json.dumps(request.data, sort_keys=True, separators=(",", ":"))
    return key_for(str(request.user.pk), f"{request.method} {request.path.rstrip('/')}", key, body.encode())


def key_for(principal: str, route: str, key: str, body: bytes) -> IdempotencyKey:
    """Make the key of a request out of its parts. Raises InvalidIdempotencyKey."""
    if not 0 < len(key) <= MAX_CHARACTERS or not key.isascii() or not key.isprintable():
        raise InvalidIdempotencyKey(f"1 to {MAX_CHARACTERS} printable ASCII characters are expected.")
    return IdempotencyKey(principal=principal, route=route, key=key, body_hash=hashlib.sha256(body).hexdigest())


def made_before(request: Request) -> Made | None:
    """Find what an earlier request with the same key made, before doing anything dear.

    Raises InvalidIdempotencyKey, IdempotencyConflict.
    """
    key = key_of(request)
    object_id = find(key) if key else None
    return Made(object_id, is_replay=True) if object_id else None


def make_once(request: Request, make: Callable[[uuid.UUID], object]) -> Made:
    """Have an object made under a new id, in one transaction with the key's record; or find the one made before.

    Raises InvalidIdempotencyKey, IdempotencyConflict.
    """
    key, object_id = key_of(request), uuid7()
    with transaction.atomic():
        known_id = claim(key, object_id, timezone.now()) if key else object_id
        if known_id == object_id:
            make(object_id)
    return Made(known_id, is_replay=known_id != object_id)


def replay_headers(*, is_replay: bool) -> dict[str, str]:
    return {REPLAY_HEADER: "true"} if is_replay else {}
