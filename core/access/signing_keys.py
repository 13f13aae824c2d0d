"""The keys that tokens are signed with: rows, so that every process of every host has them at once."""

import secrets
import threading
from dataclasses import dataclass

from cachetools import TTLCache, cached
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from django.db import IntegrityError, transaction
from django.utils import timezone

from core import audit
from core import secrets as core_secrets
from core.models import SigningKey

FIRST = "first"
# How long another process may use a key that was dropped, or not know a new one.
REMEMBER_SECONDS = 2.0


@dataclass(frozen=True)
class KeyPair:
    kid: str
    private: Ed25519PrivateKey

    @property
    def public(self) -> Ed25519PublicKey:
        return self.private.public_key()


_remembered: TTLCache[tuple[()], list[KeyPair]] = TTLCache(maxsize=1, ttl=REMEMBER_SECONDS)


@cached(_remembered, lock=threading.Lock())
def key_pairs() -> list[KeyPair]:
    """Read the keys, the one that signs first; make the first of all where there is none."""
    if not SigningKey.objects.exists():
        _create_first()
    return [KeyPair(row.kid, _read(row)) for row in SigningKey.objects.all()]


def current() -> KeyPair:
    return key_pairs()[0]


def find(kid: str) -> KeyPair | None:
    return next((pair for pair in key_pairs() if pair.kid == kid), None)


def rotate() -> str:
    """Sign with a new key from now on; returns its name. What others signed stays good until those are dropped."""
    kid = secrets.token_hex(8)
    with transaction.atomic():
        audit.record("signing-key.added", target=_create(kid))
    forget()
    return kid


def drop_old() -> list[str]:
    """Forget all keys but the newest: whatever they signed is void. Returns their names."""
    old = list(SigningKey.objects.all()[1:])
    with transaction.atomic():
        for row in old:
            audit.record("signing-key.deleted", target=row)
            row.delete()
    forget()
    return [row.kid for row in old]


def forget() -> None:
    """Look at the rows again."""
    _remembered.clear()


def _create_first() -> None:
    try:
        with transaction.atomic():
            _create(FIRST)
    except IntegrityError:  # another process was first
        return


def _create(kid: str) -> SigningKey:
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return SigningKey.objects.create(
        kid=kid, private_key=core_secrets.encrypt(pem.decode()), created_at=timezone.now()
    )


def _read(row: SigningKey) -> Ed25519PrivateKey:
    pem = core_secrets.decrypt(row.private_key).encode()
    private = serialization.load_pem_private_key(pem, password=None)
    assert isinstance(private, Ed25519PrivateKey)
    return private
