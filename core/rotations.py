"""What of the platform `manage.py rotate_secrets` encrypts again."""

from allauth.mfa.models import Authenticator

from core import secrets
from core.models import SigningKey

# Names in the data of allauth's authenticators.
ENCRYPTED = frozenset({"secret", "seed"})


@secrets.rotation("signing keys")
def signing_keys() -> int:
    """Whoever writes a key in between has used the newest encryption key, so that row is left alone."""
    changed = 0
    for row in SigningKey.objects.all():
        unchanged = SigningKey.objects.filter(pk=row.pk, private_key=row.private_key)
        changed += unchanged.update(private_key=secrets.reencrypt(row.private_key))
    return changed


@secrets.rotation("second factors")
def second_factors() -> int:
    """Secrets of authenticator apps, and what recovery codes are made from; passkeys have none here."""
    changed = 0
    for row in Authenticator.objects.exclude(type=Authenticator.Type.WEBAUTHN):
        data = {name: secrets.reencrypt(value) if name in ENCRYPTED else value for name, value in row.data.items()}
        changed += Authenticator.objects.filter(pk=row.pk, data=row.data).update(data=data)
    return changed
