"""API keys: making them, and recognising them again."""

import hashlib
import hmac
import secrets
import threading
from datetime import timedelta
from typing import Any

from cachetools import TTLCache, cached
from django.conf import settings
from django.db.models import Q, QuerySet
from django.db.models.signals import post_delete, post_save
from django.utils import timezone

from core.models import ApiKey, User

PREFIX = "stz"
KEY_ID_BYTES = 6
SECRET_BYTES = 32
# `last_used_at` is this exact, so that a busy key costs one write a minute instead of one a request.
LAST_USED_PRECISION = timedelta(minutes=1)
# A key that was revoked, or whose user was, may still open doors of other processes for so long.
REMEMBER_SECONDS = 2.0

remembered: TTLCache[Any, ApiKey] = TTLCache(maxsize=1024, ttl=REMEMBER_SECONDS)


def issue(user: User, name: str = "") -> tuple[ApiKey, str]:
    """Make a key for a user; returns it with its text, which can never be shown again."""
    secret = secrets.token_urlsafe(SECRET_BYTES)
    key = ApiKey.objects.create(
        user=user, name=name, key_id=secrets.token_hex(KEY_ID_BYTES), secret_hash=_hash(secret)
    )
    return key, f"{PREFIX}_{key.key_id}_{secret}"


def revoke(keys: QuerySet[ApiKey]) -> int:
    """Revoke those of these keys that still work; returns how many."""
    count = keys.filter(revoked_at=None).update(revoked_at=timezone.now())
    forget()
    return count


def verify(text: str) -> ApiKey | None:
    """Find the working key that a text stands for, its user with it; None where there is none."""
    prefix, _, rest = text.partition("_")
    key_id, _, secret = rest.partition("_")
    if prefix != PREFIX or not key_id or not secret or not text.isascii():
        return None
    try:
        key = _find(key_id, _hash(secret))
    except ApiKey.DoesNotExist:
        return None
    _note_use(key)
    return key


@cached(remembered, lock=threading.Lock())
def _find(key_id: str, secret_hash: str) -> ApiKey:
    """Find a working key, and remember it for a moment: a client sends many requests. Unknown keys are not kept."""
    key = ApiKey.objects.select_related("user").get(key_id=key_id, revoked_at=None)
    if not hmac.compare_digest(secret_hash, key.secret_hash) or not key.user.is_active:
        raise ApiKey.DoesNotExist
    return key


def forget(**_: Any) -> None:
    """Look at the rows again: a key or a user was changed."""
    remembered.clear()


for _model in (ApiKey, User):
    post_save.connect(forget, sender=_model)
    post_delete.connect(forget, sender=_model)


def _hash(secret: str) -> str:
    """HMAC-SHA256 under the installation's pepper; a fast hash suffices, because a secret has 256 random bits."""
    return hmac.new(settings.API_KEY_PEPPER.encode(), secret.encode(), hashlib.sha256).hexdigest()


def _note_use(key: ApiKey) -> None:
    now = timezone.now()
    stale = now - LAST_USED_PRECISION
    if key.last_used_at is None or key.last_used_at <= stale:
        key.last_used_at = now  # remembered keys need not be noted again
        unnoted = ApiKey.objects.filter(Q(last_used_at=None) | Q(last_used_at__lte=stale), pk=key.pk)
        unnoted.update(last_used_at=now)
