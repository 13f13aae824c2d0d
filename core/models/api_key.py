"""Keys for programs."""

from datetime import datetime

from django.conf import settings
from django.db import models

from core.models.base import UUIDModel
from core.models.roles import Verb


class ApiKey(UUIDModel):
    """A key `stz_<key_id>_<secret>`; only a keyed hash of the secret is stored.

    ACTIVE -> EXPIRED (expires_at passed) | REVOKED (revoked_at set); neither ever works again.
    It may do what its person may, or less: what its scopes name.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=100, blank=True)
    key_id = models.CharField(max_length=16, unique=True, editable=False)  # serves the look-up at every request
    secret_hash = models.CharField(max_length=64, editable=False)
    verbs = models.JSONField(default=list, blank=True, help_text="What it may do; none: all that its person may.")
    agent_names = models.JSONField(default=list, blank=True, help_text="Names of the agents it may use; none: all.")
    model_names = models.JSONField(default=list, blank=True, help_text="Names of the models it may use; none: all.")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="When it stops working; empty: never.")
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name = "API key"
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.name or 'key'} (stz_{self.key_id}_…)"

    def works_at(self, now: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at) and self.user.is_active

    @property
    def credential_name(self) -> str:
        """How the audit log names the key, without its secret."""
        return f"api-key stz_{self.key_id}"

    @property
    def scope(self) -> frozenset[Verb] | None:
        """The verbs that the key is limited to; None where it is not."""
        return frozenset(map(Verb, self.verbs)) or None
