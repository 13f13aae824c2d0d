"""People who may make an account: nobody else can."""

from datetime import datetime
from typing import Self

from django.conf import settings
from django.db import models
from django.utils import timezone

from core.models.base import UUIDModel


class InvitationQuerySet(models.QuerySet["Invitation"]):
    def open(self, now: datetime | None = None) -> Self:
        """Those that can still be accepted."""
        return self.filter(used_at=None, revoked_at=None, expires_at__gt=now or timezone.now())


class Invitation(UUIDModel):
    """A link that makes one account; only a hash of its token is stored.

    OPEN -> ACCEPTED (used_at) | REVOKED (revoked_at) | EXPIRED (expires_at has passed)
    """

    class Role(models.TextChoices):
        VIEWER = "viewer", "Viewer"
        USER = "user", "User"
        OPERATOR = "operator", "Operator"

    class State(models.TextChoices):
        OPEN = "open", "Open"
        ACCEPTED = "accepted", "Accepted"
        REVOKED = "revoked", "Revoked"
        EXPIRED = "expired", "Expired"

    email = models.EmailField("email address", blank=True, help_text="Of the person; the account gets it.")
    role = models.CharField(max_length=20, choices=Role, default=Role.USER, help_text="What the person may do.")
    token_hash = models.CharField(max_length=64, unique=True, editable=False)  # serves the link
    invited_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="invitations", editable=False
    )
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(editable=False)
    used_at = models.DateTimeField(null=True, blank=True, editable=False)
    used_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+", editable=False
    )
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = InvitationQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.email or f"Invitation of {self.created_at:%Y-%m-%d %H:%M}"

    @property
    def state(self) -> State:
        if self.used_at:
            return self.State.ACCEPTED
        if self.revoked_at:
            return self.State.REVOKED
        return self.State.OPEN if self.expires_at > timezone.now() else self.State.EXPIRED
