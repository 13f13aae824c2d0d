"""Sign-ins of programs and apps by tokens, and the keys that tokens are signed with."""

from django.conf import settings
from django.db import models

from core.models.base import UUIDModel


class TokenFamily(UUIDModel):
    """All tokens that came from one sign-in: ACTIVE -> REVOKED (revoked_at set) | EXPIRED (expires_at passed).

    Each refresh makes the next pair, numbered by `generation`. Only the newest refresh token works; an older one was
    copied by somebody, and ends the whole family.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="token_families")
    generation = models.PositiveIntegerField(default=1)
    auth_hash = models.CharField(max_length=128, help_text="Django's session hash: another password ends the family.")
    address = models.GenericIPAddressField(null=True, blank=True)
    user_agent = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField()
    used_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)
    revoked_reason = models.CharField(max_length=100, blank=True)

    class Meta:
        verbose_name_plural = "token families"
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["expires_at"], name="token_expiry"),  # the clean-up of old families
        ]

    def __str__(self) -> str:
        return f"Sign-in of {self.user} on {self.created_at:%Y-%m-%d}"


class SigningKey(models.Model):
    """An Ed25519 key pair. The newest signs; all verify, until they are dropped."""

    kid = models.CharField(max_length=32, primary_key=True)
    private_key = models.TextField(help_text="PEM, encrypted (`core.secrets`).")
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["-created_at", "-kid"]

    def __str__(self) -> str:
        return self.kid
