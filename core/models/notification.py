"""What people are told of, and how they want to be told."""

from django.conf import settings
from django.db import models

from core.models.base import UUIDModel


class Notification(UUIDModel):
    """Something that one person was told: UNREAD -> READ, and never back.

    One that stands for many of the same kind counts them while it is unread. Its email is due until it was sent or
    given up.
    """

    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="notifications", db_index=False
    )
    event = models.SlugField(max_length=60, db_index=False, help_text="The name of an event (`core.notifications`).")
    title = models.CharField(max_length=200)
    body = models.CharField(
        max_length=500, blank=True, help_text="Never what a model wrote: it is also sent by email."
    )
    link = models.CharField(max_length=300, help_text="Where to look: a path inside the product.")
    created_at = models.DateTimeField()
    read_at = models.DateTimeField(null=True, blank=True)
    collapse_key = models.CharField(  # noqa: DJ001 - null is like no other, so that it collapses with nothing
        max_length=100, null=True, blank=True, help_text="Unread ones of an event with the same key are one."
    )
    count = models.PositiveIntegerField(default=1, help_text="How many it stands for.")

    in_app = models.BooleanField(default=True, help_text="Whether the person's list shows it.")
    email_due_at = models.DateTimeField(null=True, blank=True, help_text="Empty: there is no email to send.")
    email_attempts = models.PositiveSmallIntegerField(default=0)
    emailed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            # What collapses. Serves the count of a person's unread ones as well.
            models.UniqueConstraint(
                fields=["person", "event", "collapse_key", "in_app"],
                condition=models.Q(read_at=None),
                name="unread_notifications_collapse",
            ),
            models.CheckConstraint(
                condition=models.Q(link__startswith="/") & ~models.Q(link__startswith="//"),
                name="notifications_lead_inside",
            ),
        ]
        indexes = [
            models.Index(fields=["person", "-id"], name="notifications_of_person"),  # a person's list
            # Emails that are to be sent, or sent again.
            models.Index(
                fields=["email_due_at"], condition=models.Q(email_due_at__isnull=False), name="due_notification_emails"
            ),
        ]

    def __str__(self) -> str:
        return self.title


class NotificationPreference(models.Model):
    """How a person wants to be told of an event, where that is not the event's default."""

    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="notification_preferences", db_index=False
    )
    event = models.SlugField(max_length=60, db_index=False)
    in_app = models.BooleanField()
    email = models.BooleanField()

    class Meta:
        constraints = [
            # Serves the look-up when there is something to tell.
            models.UniqueConstraint(fields=["person", "event"], name="one_preference_per_event"),
        ]

    def __str__(self) -> str:
        return f"{self.event} for {self.person}"
