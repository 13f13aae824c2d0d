"""Secrets that must be read again, encrypted in the database. Those that are only compared are hashed instead.

SUTAZAI_ENCRYPTION_KEYS lists the keys, newest first. The first one encrypts, all of them decrypt. To change it: put a
new key in front, start again, `manage.py rotate_secrets`, then take the old key off the list.

The keys themselves are never in the database: a stolen copy of it reveals nothing.
"""

import base64
import hashlib
from collections.abc import Callable
from functools import cache
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.db import models, transaction
from django.db.models.functions import Cast

BATCH = 500  # rows of one transaction of a rotation

# Re-encrypts what stands elsewhere than in an EncryptedTextField; returns how many.
Rotation = Callable[[], int]
_rotations: dict[str, Rotation] = {}


class CannotDecrypt(Exception):
    """No key of SUTAZAI_ENCRYPTION_KEYS fits. Put the key back on the list under which the value was written."""


def encrypt(text: str) -> str:
    return _cipher(tuple(settings.ENCRYPTION_KEYS)).encrypt(text.encode()).decode("ascii")


def decrypt(token: str) -> str:
    """Raises CannotDecrypt."""
    try:
        return _cipher(tuple(settings.ENCRYPTION_KEYS)).decrypt(token.encode()).decode()
    except InvalidToken as error:
        raise CannotDecrypt("No key of SUTAZAI_ENCRYPTION_KEYS decrypts a stored secret.") from error


def reencrypt(token: str) -> str:
    """Encrypt again, with the newest key. Raises CannotDecrypt."""
    return encrypt(decrypt(token))


@cache
def _cipher(keys: tuple[str, ...]) -> MultiFernet:
    """Make keys of texts, which are random and of any length: Fernet wants 32 bytes."""
    digests = (hashlib.sha256(key.encode()).digest() for key in keys)
    return MultiFernet([Fernet(base64.urlsafe_b64encode(digest)) for digest in digests])


class EncryptedTextField(models.TextField):
    """A text that only this program reads. The empty text stays empty.

    It cannot be searched: the same text is never written the same way twice. Reading raises CannotDecrypt.
    """

    def from_db_value(self, value: str | None, *_: Any) -> str | None:
        return decrypt(value) if value else value

    def get_db_prep_save(self, value: Any, connection: Any) -> Any:
        if hasattr(value, "resolve_expression"):  # as in a rotation, which writes what is encrypted already
            return super().get_db_prep_save(value, connection)
        return encrypt(str(value)) if value else value

    def get_lookup(self, lookup_name: str) -> Any:
        return super().get_lookup(lookup_name) if lookup_name == "isnull" else None


# Rotation -----------------------------------------------------------------------------------------------------------


def rotation(name: str) -> Callable[[Rotation], Rotation]:
    """Register a function that re-encrypts (`reencrypt`) what `encrypt` wrote elsewhere; it returns how many.

    name: what it re-encrypts, for people. It stands in the module `rotations` of its application.
    """

    def register(function: Rotation) -> Rotation:
        _rotations[name] = function
        return function

    return register


def rotations() -> dict[str, Rotation]:
    return dict(_rotations)


def encrypted_fields(model: type[models.Model]) -> list[EncryptedTextField]:
    return [field for field in model._meta.local_concrete_fields if isinstance(field, EncryptedTextField)]


def rotate_field(field: EncryptedTextField) -> tuple[int, list[Any]]:
    """Encrypt a column again with the newest key, in batches; safe beside writers and to repeat.

    Returns how many rows were changed, and the keys of those that no key decrypts.
    """
    rows = field.model._base_manager.annotate(token=Cast(field.name, models.TextField())).order_by("pk")
    rows = rows.exclude(token=None).exclude(token="")
    changed = 0
    failed: list[Any] = []
    last = None
    while True:
        batch = list((rows if last is None else rows.filter(pk__gt=last)).values_list("pk", "token")[:BATCH])
        if not batch:
            return changed, failed
        with transaction.atomic():
            for pk, token in batch:
                try:
                    fresh = models.Value(reencrypt(token), output_field=models.TextField())
                except CannotDecrypt:
                    failed.append(pk)
                    continue
                # Whoever wrote it in between has used the newest key.
                changed += rows.filter(pk=pk, token=token).update(**{field.name: fresh})
        last = batch[-1][0]
