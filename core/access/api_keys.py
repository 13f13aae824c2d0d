"""API keys: making them, and recognising them again."""

import hmac
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.signals import post_delete, post_save
from django.utils import timezone

from core import audit
from core.access.known_keys import KnownKeys
from core.access.limits import allowances
from core.exceptions import InvalidInput, Refused
from core.models import ApiKey, User, Verb
from core.ops.sightings import Sightings

PREFIX = "stz"
KEY_ID_BYTES = 6
SECRET_BYTES = 32
MAX_LABEL_CHARACTERS = 100
MAX_NAMES = 100  # of agents, and of models, that a key is limited to
MAX_AGENT_CHARACTERS = 60
MAX_MODEL_CHARACTERS = 200
# `last_used_at` is this exact, so that a busy key costs one write a minute instead of one a request.
LAST_USED_PRECISION = timedelta(minutes=1)

known = KnownKeys()


class KeyNotUsable(Refused):
    """The key was revoked or has expired, so it cannot be replaced. Make a new one."""

    status = 409
    code = "key-not-usable"
    title = "The key does not work any more"


@dataclass(frozen=True)
class Scope:
    """What a key is limited to; what is empty limits nothing.

    agent_names, model_names: as they are called. expires_at: when the key stops working; None: never.
    """

    verbs: Sequence[Verb] = ()
    agent_names: Sequence[str] = ()
    model_names: Sequence[str] = ()
    expires_at: datetime | None = None


def check(name: str, scope: Scope) -> None:
    """Check what a new key is to be called and limited to, whichever door asks for it. Raises InvalidInput."""
    flaws = {
        "name": _flaw_of_text(name, MAX_LABEL_CHARACTERS),
        "agent_names": _flaw_of_names(scope.agent_names, MAX_AGENT_CHARACTERS),
        "model_names": _flaw_of_names(scope.model_names, MAX_MODEL_CHARACTERS),
        "expires_at": "This moment has passed." if scope.expires_at and scope.expires_at <= timezone.now() else "",
    }
    if found := {field: [text] for field, text in flaws.items() if text}:
        raise InvalidInput(found)


def _flaw_of_names(names: Sequence[str], limit: int) -> str:
    if len(names) > MAX_NAMES:
        return f"At most {MAX_NAMES} names; these are {len(names)}."
    if not all(name.strip() for name in names):
        return "A name is empty."
    return next(filter(None, (_flaw_of_text(name, limit) for name in names)), "")


def _flaw_of_text(text: str, limit: int) -> str:
    if len(text) > limit:
        return f"At most {limit} characters; “{text[:20]}…” has {len(text)}."
    is_storable = "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
    return "" if is_storable else "Null characters and lone surrogates are not allowed."


def issue(user: User, name: str = "", scope: Scope | None = None) -> tuple[ApiKey, str]:
    """Make a key for a user; returns it with its text, which can never be shown again. Raises InvalidInput."""
    scope = scope or Scope()
    check(name, scope)
    return _make(user, name, scope)


def _make(user: User, name: str, scope: Scope) -> tuple[ApiKey, str]:
    secret = secrets.token_urlsafe(SECRET_BYTES)
    with transaction.atomic():
        key = ApiKey.objects.create(
            user=user,
            name=name,
            key_id=secrets.token_hex(KEY_ID_BYTES),
            secret_hash=_hash(secret),
            verbs=sorted(set(scope.verbs)),
            agent_names=sorted(set(scope.agent_names)),
            model_names=sorted(set(scope.model_names)),
            expires_at=scope.expires_at,
        )
        audit.record("api-key.issued", target=key, after=key)
    return key, f"{PREFIX}_{key.key_id}_{secret}"


def rotate(key: ApiKey, *, overlap: timedelta) -> tuple[ApiKey, str]:
    """Make a key that may do the same, and have the old one stop working after a while in which both do.

    Returns the new key with its text, as `issue` does. Raises KeyNotUsable.
    """
    now = timezone.now()
    with transaction.atomic():
        old = ApiKey.objects.select_for_update(of=("self",)).select_related("user").get(pk=key.pk)
        if not old.works_at(now):
            raise KeyNotUsable
        before = audit.snapshot(old)
        scope = Scope(old.verbs, old.agent_names, old.model_names, old.expires_at)
        new, text = _make(old.user, old.name, scope)
        allowances.hand_on(old, new)
        ends_at = now + overlap
        old.expires_at = min(ends_at, old.expires_at) if old.expires_at else ends_at
        old.save(update_fields=["expires_at"])
        audit.record("api-key.rotated", target=old, before=before, after=old, detail=f"The new key is {new}.")
    return new, text


def revoke(keys: QuerySet[ApiKey]) -> int:
    """Revoke those of these keys that still work; returns how many."""
    now = timezone.now()
    with transaction.atomic():
        revoked = list(keys.filter(revoked_at=None).select_for_update(of=("self",)))
        ApiKey.objects.filter(pk__in=[key.pk for key in revoked]).update(revoked_at=now)
        for key in revoked:
            audit.record("api-key.revoked", target=key, changes={"revoked_at": [None, now.isoformat()]})
    forget()
    return len(revoked)


def verify(text: str) -> ApiKey | None:
    """Find the working key that a text stands for, its user with it; None where there is none."""
    prefix, _, rest = text.partition("_")
    key_id, _, secret = rest.partition("_")
    if prefix != PREFIX or not key_id or not secret or not text.isascii():
        return None
    try:
        key = known.find(key_id)
    except ApiKey.DoesNotExist:
        return None
    now = datetime.now(UTC)
    if not hmac.compare_digest(_hash(secret), key.secret_hash) or not key.works_at(now):
        return None
    _note_use(key, now)
    return key


def forget(**_: Any) -> None:
    """Look at the rows again: a key or a user was changed."""
    known.forget()


for _model in (ApiKey, User):
    post_save.connect(forget, sender=_model)
    post_delete.connect(forget, sender=_model)


def _hash(secret: str) -> str:
    """HMAC-SHA256 under the installation's pepper; a fast hash suffices, because a secret has 256 random bits."""
    return hmac.digest(settings.API_KEY_PEPPER.encode(), secret.encode(), "sha256").hex()


def _note_use(key: ApiKey, now: datetime) -> None:
    if key.last_used_at is None or key.last_used_at <= now - LAST_USED_PRECISION:
        key.last_used_at = now  # remembered keys need not be noted again
        _uses.note(key.pk, now)


def _write_use(key_pk: uuid.UUID, now: datetime) -> None:
    unnoted = Q(last_used_at=None) | Q(last_used_at__lte=now - LAST_USED_PRECISION)
    ApiKey.objects.filter(unnoted, pk=key_pk).update(last_used_at=now)


_uses = Sightings(_write_use)
