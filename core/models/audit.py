"""What was done, by whom and from where: rows that are only ever added, and sealed into a chain."""

from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, NoReturn

from django.db import models
from django.db.models import Q

# Equal denials of one minute are one row, which is sealed a few seconds after the minute: some process may be late.
REPEAT_SECONDS = 60
SETTLED_AFTER = timedelta(seconds=REPEAT_SECONDS + 5)


class AppendOnlyError(TypeError):
    """The audit log only grows. What has to be put right is put right by a new row."""


class AppendOnlyModel(models.Model):
    """Rows that nothing changes or deletes once they are written."""

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise AppendOnlyError(f"{self._meta.verbose_name} {self.pk} stands as it was written.")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise AppendOnlyError(f"{self._meta.verbose_name} {self.pk} stays.")


class AuditEntryQuerySet(models.QuerySet["AuditEntry"]):
    def sealed(self) -> "AuditEntryQuerySet":
        return self.filter(sequence__isnull=False)

    def unsealed(self) -> "AuditEntryQuerySet":
        return self.filter(sequence__isnull=True)

    def settled(self, now: datetime) -> "AuditEntryQuerySet":
        """Those that nobody counts repeats in any more."""
        return self.filter(Q(repeat_id=None) | Q(created_at__lt=now - SETTLED_AFTER))

    def delete(self) -> NoReturn:
        raise AppendOnlyError("Entries of the audit log stay.")


class AuditEntry(AppendOnlyModel):
    """One thing that was done or refused. Columns instead of keys to other rows: it outlives what it tells of.

    written -> sealed (sequence and seal set by `core.audit.sealer`, at most seconds later), for ever, or until
    `core.audit.retention` removes it for its age.
    Triggers in the database refuse to change a sealed row, and to delete any that no AuditBeginning names (see the
    migrations that made the tables). SQLite drops them with a table that a later migration remakes, which then has to
    install them again.
    """

    class Outcome(models.TextChoices):
        SUCCEEDED = "succeeded", "Done"
        REFUSED = "refused", "Refused"

    id = models.BigAutoField("entry", primary_key=True)
    created_at = models.DateTimeField("when")
    action = models.CharField(max_length=80, help_text='What was done, such as "user.changed".')
    outcome = models.CharField(max_length=10, choices=Outcome, default=Outcome.SUCCEEDED)
    actor_id = models.UUIDField("person's id", null=True)
    actor_name = models.CharField("who", max_length=150, blank=True)
    credential = models.CharField(
        max_length=60, blank=True, help_text="What the actor signed in with; never a secret."
    )
    address = models.CharField(max_length=45, blank=True, help_text="The network address that the request came from.")
    request_id = models.CharField("request", max_length=64, blank=True, help_text="As in the server's log.")
    object_type = models.CharField(max_length=60, blank=True)
    object_id = models.CharField("object's id", max_length=64, blank=True)
    object_name = models.CharField("object", max_length=300, blank=True)
    changes = models.JSONField(default=dict, blank=True, help_text="Field -> [before, after], secrets masked.")
    detail = models.CharField(max_length=500, blank=True)
    count = models.PositiveIntegerField(default=1, help_text="How often it happened within the minute.")
    repeat_id = models.UUIDField(null=True, editable=False)  # equal for denials that one row counts
    sequence = models.PositiveBigIntegerField("place in the chain", null=True, editable=False)
    seal = models.CharField(max_length=64, blank=True, editable=False)

    objects = AuditEntryQuerySet.as_manager()

    class Meta:
        verbose_name = "audit entry"
        verbose_name_plural = "audit entries"
        ordering = ["-id"]
        default_permissions = ("view",)
        permissions = [("export_auditentry", "Can export the audit log")]
        constraints = [
            # Serves the walk along the chain and finds its head; two sealers at once cannot both give a place away.
            models.UniqueConstraint(fields=["sequence"], name="one_audit_entry_per_place"),
            # Finds the row that counts a denial's repeats, and decides between two that would make it at once.
            models.UniqueConstraint(
                fields=["repeat_id"], condition=Q(repeat_id__isnull=False), name="one_audit_entry_per_repeat"
            ),
        ]
        indexes = [
            # What the sealer takes next, and how much is unsealed; sealed rows are not in it.
            models.Index(fields=["id"], condition=Q(sequence__isnull=True), name="audit_unsealed"),
            models.Index(fields=["created_at"], name="audit_by_moment"),  # filters and exports of a span of time
            # The console's search: exact, each of them newest first.
            models.Index(fields=["actor_name", "-id"], name="audit_by_actor"),
            models.Index(fields=["object_id", "-id"], name="audit_by_object"),
            models.Index(fields=["object_name", "-id"], name="audit_by_object_name"),
            models.Index(fields=["address", "-id"], name="audit_by_address"),
            models.Index(fields=["request_id", "-id"], name="audit_by_request"),
            models.Index(fields=["action", "-id"], name="audit_by_action"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.object_name}".strip()


class SignedPlace(models.Model):
    """A signed statement about a place in the chain: whoever has the public key can check it, anywhere.

    sequence and seal: of the entry at the place. count: how many entries had been sealed up to it.
    public_key, signature: Ed25519, in hexadecimal digits.
    """

    KIND: ClassVar[str]

    sequence = models.PositiveBigIntegerField(unique=True)  # serves the comparison along the walk over the chain
    seal = models.CharField(max_length=64)
    count = models.PositiveBigIntegerField()
    created_at = models.DateTimeField()
    public_key = models.CharField(max_length=64)
    signature = models.CharField(max_length=128)

    class Meta:
        abstract = True

    def statement(self) -> dict[str, Any]:
        """What is signed."""
        return {
            "kind": self.KIND,
            "sequence": self.sequence,
            "seal": self.seal,
            "count": self.count,
            "created_at": self.created_at.astimezone(UTC).isoformat(timespec="microseconds"),
            "public_key": self.public_key,
        }


class AuditCheckpoint(SignedPlace, AppendOnlyModel):
    """Where the chain stood at a moment: at its newest sealed entry."""

    KIND = "sutazai-audit-checkpoint"

    class Meta:
        ordering = ["-sequence"]
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.sequence} at {self.created_at:%Y-%m-%d %H:%M:%S}"


class AuditBeginning(SignedPlace):
    """Where the chain begins since its oldest entries were removed: behind this place. The one row, if there is one.

    until: when the newest of them had been written. mac: made with the sealing key, which never changes, while the
    signing key may.
    """

    KIND = "sutazai-audit-beginning"

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    until = models.DateTimeField()
    mac = models.CharField(max_length=64)

    class Meta:
        default_permissions = ()
        constraints = [
            models.CheckConstraint(condition=Q(id=1), name="one_audit_beginning"),
        ]

    def __str__(self) -> str:
        return f"behind {self.sequence}"

    def statement(self) -> dict[str, Any]:
        return {**super().statement(), "until": self.until.astimezone(UTC).isoformat(timespec="microseconds")}
