"""Addresses that are told of events, and what they were told."""

from datetime import datetime
from typing import Self

from django.db import models
from django.db.models import Q

from core.models.base import UUIDModel
from core.models.breaker import CircuitBreaker, GuardedModel
from core.secrets import EncryptedTextField


class Webhook(GuardedModel):
    """An address of an operator's that is told of events, and how it does.

    `failing_since` begins with the first try that failed and ends with the next that did not.
    """

    class Format(models.TextChoices):
        STANDARD = "standard", "JSON, as Standard Webhooks describe it"
        SLACK = "slack", 'Slack, Mattermost: {"text": …}'
        DISCORD = "discord", 'Discord: {"content": …}'
        PLAIN = "plain", "Plain text, such as for ntfy"

    breaker_kind = CircuitBreaker.Kind.WEBHOOK
    # An address may let in whoever knows it, as Slack's do. Secrets are masked by their names.
    masked_in_audit = frozenset({"url"})

    name = models.CharField(max_length=60, unique=True)
    url = EncryptedTextField("address")
    format = models.CharField(max_length=10, choices=Format, default=Format.STANDARD)
    events = models.JSONField(default=list, help_text="The names of the events that it is told of.")
    is_active = models.BooleanField("active", default=True)
    secret = EncryptedTextField(editable=False, help_text="whsec_…: what it is told is signed with it.")
    previous_secret = EncryptedTextField(blank=True, editable=False, help_text="Signs as well, for a while.")
    replaced_at = models.DateTimeField(null=True, editable=False, help_text="When the secret took its place.")
    made_by = models.CharField(max_length=150, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    breaker = models.OneToOneField(CircuitBreaker, on_delete=models.PROTECT, related_name="webhook", editable=False)

    delivered_at = models.DateTimeField(null=True, editable=False, help_text="When it last took what it was sent.")
    failing_since = models.DateTimeField(null=True, editable=False)
    last_error = models.CharField(max_length=300, blank=True, editable=False)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class WebhookDeliveryQuerySet(models.QuerySet["WebhookDelivery"]):
    def due(self, now: datetime) -> Self:
        """Those that should be sent now; what waits for a webhook that is switched off goes on waiting."""
        return self.filter(next_try_at__lte=now, webhook__is_active=True)


class WebhookDelivery(UUIDModel):
    """What a webhook is told once: QUEUED -> DELIVERED | FAILED; an operator may queue what failed again.

    Only `core.notifications.webhooks` moves it. Its key goes with every try, so that receivers can drop repeats.
    """

    class Status(models.TextChoices):
        QUEUED = "queued", "Queued"
        DELIVERED = "delivered", "Delivered"
        FAILED = "failed", "Failed"

    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, related_name="deliveries", db_index=False)
    event = models.SlugField(max_length=60, db_index=False, help_text="The name of an event (`core.notifications`).")
    title = models.CharField(max_length=200)
    text = models.CharField(max_length=500, blank=True, help_text="Never what a model wrote: it leaves the house.")
    link = models.CharField(max_length=300, help_text="Where to look: a path inside the product.")
    data = models.JSONField(default=dict, help_text="The same for programs.")
    collapse_key = models.CharField(  # noqa: DJ001 - null is like no other, so that it collapses with nothing
        max_length=100, null=True, blank=True, help_text="Of an event with the same key only the first is told."
    )
    created_at = models.DateTimeField()
    status = models.CharField(max_length=10, choices=Status, default=Status.QUEUED)
    attempts = models.PositiveIntegerField(default=0, help_text="Tries since it was queued.")
    next_try_at = models.DateTimeField(null=True, blank=True, help_text="Empty: there is nothing to send.")
    give_up_at = models.DateTimeField(help_text="When it has failed, if it was not delivered before.")
    tried_at = models.DateTimeField(null=True, blank=True, help_text="When the last try began.")
    last_status = models.PositiveSmallIntegerField(
        "last answer", null=True, blank=True, help_text="The HTTP status of the last answer; empty: none came."
    )
    last_error = models.CharField(max_length=300, blank=True)

    objects = WebhookDeliveryQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name = "delivery"
        verbose_name_plural = "deliveries"
        constraints = [
            # What collapses.
            models.UniqueConstraint(fields=["webhook", "event", "collapse_key"], name="one_delivery_per_collapse_key"),
            models.CheckConstraint(
                condition=Q(status="queued", next_try_at__isnull=False)
                | (~Q(status="queued") & Q(next_try_at__isnull=True)),
                name="queued_deliveries_have_a_next_try",
            ),
        ]
        indexes = [
            models.Index(fields=["webhook", "-id"], name="deliveries_of_webhook"),  # a webhook's latest
            # What is to be sent, or sent again, and how much of that waits for a webhook.
            models.Index(
                fields=["webhook", "next_try_at"], condition=Q(next_try_at__isnull=False), name="due_deliveries"
            ),
        ]

    def __str__(self) -> str:
        return self.title
