"""Tokens (JWT) for programs and apps that sign in with a password: short access tokens, refresh tokens used once.

1. A sign-in begins a family, and gets a pair: an access token for some minutes, and a refresh token.
2. A refresh token buys the next pair, once. Its family counts the pairs.
3. A refresh token that comes a second time was copied: the whole family ends, the thief's tokens and the owner's.
4. A family also ends with its person's password, and with the person.
"""

import hmac
import secrets
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import jwt
from cachetools import TTLCache, cached
from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.db.models.signals import post_delete, post_save
from django.utils import timezone

from core import audit
from core.access import known_devices, signing_keys
from core.exceptions import Refused
from core.models import TokenFamily, User

ALGORITHM = "EdDSA"
ISSUER = "sutazai"
AUDIENCE = "sutazai-api"
ACCESS, REFRESH = "at+jwt", "rt+jwt"
CLAIMS = ["iss", "aud", "sub", "iat", "nbf", "exp", "jti", "fam"]
MAX_CHARACTERS = 2_000
# How long a family that ended may still open doors in other processes.
REMEMBER_SECONDS = 2.0


class TokenRefused(Refused):
    """The token is no token of ours, has expired, was used before, or its sign-in has ended. Sign in again."""

    status = 401
    code = "token-refused"
    title = "The token is not valid"


@dataclass(frozen=True)
class Pair:
    """access: for `Authorization: Bearer`. refresh: buys the next pair, once."""

    access: str
    refresh: str
    expires_in_seconds: int


def begin(user: User, *, address: str | None = None, user_agent: str = "") -> Pair:
    """Begin a sign-in; the caller has checked who it is."""
    now = timezone.now()
    with transaction.atomic():
        family = TokenFamily.objects.create(
            user=user,
            auth_hash=user.get_session_auth_hash(),
            address=address,
            user_agent=user_agent[:200],
            created_at=now,
            used_at=now,
            expires_at=now + timedelta(days=settings.SIGN_IN_DAYS),
        )
        audit.record("sign-in.succeeded", target=user, detail=f"Tokens of {family.pk}", actor=user)
        known_devices.note_program(user, address=address or "", user_agent=user_agent)
    return _pair(family, now)


def refresh(text: str) -> Pair:
    """Buy the next pair with a refresh token. Raises TokenRefused."""
    claims = _read(text, REFRESH)
    now = timezone.now()
    family = _family(claims["fam"])
    if family is None or not is_alive(family, now):
        raise TokenRefused
    rows = TokenFamily.objects.filter(pk=family.pk, generation=claims["gen"], revoked_at=None)
    if not rows.update(generation=F("generation") + 1, used_at=now):
        end(family, "A refresh token was used twice.")
        raise TokenRefused(
            "The refresh token was used before; the sign-in has ended, because it may have been copied."
        )
    family.generation += 1
    return _pair(family, now)


def verify(text: str) -> TokenFamily:
    """Find the sign-in that an access token belongs to, its person with it. Raises TokenRefused."""
    claims = _read(text, ACCESS)
    family = _remembered_family(claims["fam"])
    if family is None or str(family.user_id) != claims["sub"] or not is_alive(family, timezone.now()):
        raise TokenRefused
    return family


def end(family: TokenFamily, reason: str) -> bool:
    """End a sign-in with all its tokens; False if it had ended."""
    rows = TokenFamily.objects.filter(pk=family.pk, revoked_at=None)
    with transaction.atomic():
        has_ended = bool(rows.update(revoked_at=timezone.now(), revoked_reason=reason[:100]))
        if has_ended:
            audit.record("sign-out.succeeded", target=family.user, detail=f"Tokens of {family.pk}: {reason}")
    forget()
    return has_ended


def end_by(text: str) -> None:
    """End the sign-in that a refresh token belongs to. Raises TokenRefused."""
    family = _family(_read(text, REFRESH)["fam"])
    if family is None:
        raise TokenRefused
    end(family, "Signed out.")


def is_alive(family: TokenFamily, now: datetime) -> bool:
    """Tell whether tokens of the family are good."""
    user = family.user
    is_same_password = hmac.compare_digest(family.auth_hash, user.get_session_auth_hash())
    return family.revoked_at is None and now < family.expires_at and user.is_active and is_same_password


def _pair(family: TokenFamily, now: datetime) -> Pair:
    access_until = now + timedelta(minutes=settings.ACCESS_TOKEN_MINUTES)
    return Pair(
        access=_sign(family, ACCESS, now, access_until),
        refresh=_sign(family, REFRESH, now, family.expires_at, gen=family.generation),
        expires_in_seconds=settings.ACCESS_TOKEN_MINUTES * 60,
    )


def _sign(family: TokenFamily, kind: str, now: datetime, until: datetime, **more: Any) -> str:
    key = signing_keys.current()
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": str(family.user_id),
        "fam": str(family.pk),
        "iat": now,
        "nbf": now,
        "exp": until,
        "jti": secrets.token_urlsafe(12),
        **more,
    }
    return jwt.encode(claims, key.private, algorithm=ALGORITHM, headers={"kid": key.kid, "typ": kind})


def _read(text: str, kind: str) -> dict[str, Any]:
    """Check a token's signature, purpose and times; returns its claims. Raises TokenRefused."""
    if len(text) > MAX_CHARACTERS:
        raise TokenRefused
    try:
        header = jwt.get_unverified_header(text)
        key = signing_keys.find(str(header.get("kid", "")))
        if key is None or header.get("typ") != kind:
            raise TokenRefused
        claims: dict[str, Any] = jwt.decode(
            text, key.public, algorithms=[ALGORITHM], audience=AUDIENCE, issuer=ISSUER, options={"require": CLAIMS}
        )
    except jwt.PyJWTError as error:
        raise TokenRefused from error
    return claims


def _family(family_id: str) -> TokenFamily | None:
    return TokenFamily.objects.select_related("user").filter(pk=family_id).first()


_families: TTLCache[Any, TokenFamily | None] = TTLCache(maxsize=1024, ttl=REMEMBER_SECONDS)
_remembered_family = cached(_families, lock=threading.Lock())(_family)


def forget(**_: Any) -> None:
    """Look at the rows again: a sign-in or a person was changed."""
    _families.clear()


for _model in (TokenFamily, User):
    post_save.connect(forget, sender=_model)
    post_delete.connect(forget, sender=_model)
