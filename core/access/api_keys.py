"""API keys: making them, and recognising them again."""

import hashlib
import hmac
import secrets
from datetime import timedelta

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from core.models import ApiKey, User

PREFIX = "stz"
KEY_ID_BYTES = 6
SECRET_BYTES = 32
# `last_used_at` is this exact, so that a busy key costs one write a minute instead of one a request.
LAST_USED_PRECISION = timedelta(minutes=1)


def issue(user: User, name: str = "") -> tuple[ApiKey, str]:
    """Make a key for a user; returns it with its text, which can never be shown again."""
    secret = secrets.token_urlsafe(SECRET_BYTES)
    key = ApiKey.objects.create(
        user=user, name=name, key_id=secrets.token_hex(KEY_ID_BYTES), secret_hash=_hash(secret)
    )
    return key, f"{PREFIX}_{key.key_id}_{secret}"


def verify(text: str) -> ApiKey | None:
    """Find the working key that a text stands for, its user with it; None where there is none."""
    prefix, _, rest = text.partition("_")
    key_id, _, secret = rest.partition("_")
    if prefix != PREFIX or not key_id or not secret or not text.isascii():
        return None
    keys = ApiKey.objects.select_related("user").filter(key_id=key_id, revoked_at=None).order_by()
    key = next(iter(keys[:1]), None)
    # The same work for an unknown key as for a known one.
    is_right = hmac.compare_digest(_hash(secret), key.secret_hash if key else _hash(""))
    if key is None or not is_right or not key.user.is_active:
        return None
    _note_use(key)
    return key


def _hash(secret: str) -> str:
    """HMAC-SHA256 under the installation's pepper; a fast hash suffices, because a secret has 256 random bits."""
    return hmac.new(settings.API_KEY_PEPPER.encode(), secret.encode(), hashlib.sha256).hexdigest()


def _note_use(key: ApiKey) -> None:
    now = timezone.now()
    stale = now - LAST_USED_PRECISION
    if key.last_used_at is None or key.last_used_at <= stale:
        unnoted = ApiKey.objects.filter(Q(last_used_at=None) | Q(last_used_at__lte=stale), pk=key.pk)
        unnoted.update(last_used_at=now)
