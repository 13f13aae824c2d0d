"""What of the platform `manage.py rotate_secrets` encrypts again."""

from core import secrets
from core.models import SigningKey


@secrets.rotation("signing keys")
def signing_keys() -> int:
    """Whoever writes a key in between has used the newest encryption key, so that row is left alone."""
    changed = 0
    for row in SigningKey.objects.all():
        unchanged = SigningKey.objects.filter(pk=row.pk, private_key=row.private_key)
        changed += unchanged.update(private_key=secrets.reencrypt(row.private_key))
    return changed
