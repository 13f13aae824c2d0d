"""Which request made which object, so that the same request again makes nothing twice."""

from django.db import models


class IdempotencyRecord(models.Model):
    """One use of an Idempotency-Key by one person on one route."""

    principal = models.CharField(max_length=64, help_text="Who asked: the user's id.")
    route = models.CharField(max_length=100)
    key = models.CharField(max_length=255)
    body_hash = models.CharField(max_length=64)
    object_id = models.UUIDField()
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            # Serves the look-up at every POST that carries a key, and decides between two at the same moment.
            models.UniqueConstraint(fields=["principal", "route", "key"], name="one_object_per_idempotency_key"),
        ]
        indexes = [
            models.Index(fields=["created_at"], name="idempotency_expiry"),  # the clean-up of old records
        ]

    def __str__(self) -> str:
        return f"{self.route} {self.key}"
