"""Keys for programs."""

from django.conf import settings
from django.db import models

from core.models.base import UUIDModel


class ApiKey(UUIDModel):
    """A key `stz_<key_id>_<secret>`; only a keyed hash of the secret is stored.

    ACTIVE -> REVOKED (revoked_at set); a revoked key never works again.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=100, blank=True)
    key_id = models.CharField(max_length=16, unique=True, editable=False)  # serves the look-up at every request
    secret_hash = models.CharField(max_length=64, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name = "API key"
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.name or 'key'} (stz_{self.key_id}_…)"
