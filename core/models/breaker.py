"""What is known of the things that calls go to, shared by all processes."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, ClassVar, Self

from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone

from core.models.base import UUIDModel


class CircuitBreakerQuerySet(models.QuerySet["CircuitBreaker"]):
    def shut(self) -> Self:
        """Those that let nothing through now."""
        held, free = CircuitBreaker.Forced.OPEN, CircuitBreaker.Forced.NONE
        return self.filter(Q(forced=held) | Q(forced=free) & ~Q(state=CircuitBreaker.State.CLOSED))

    def noted(self) -> Self:
        """Those about which anything is known but that they are closed and well."""
        quiet = Q(state=CircuitBreaker.State.CLOSED, forced=CircuitBreaker.Forced.NONE, failures=0, probe_at=None)
        return self.exclude(quiet)


class CircuitBreaker(UUIDModel):
    """The breaker before one node, dependency or webhook.

    CLOSED -> OPEN -> HALF_OPEN -> CLOSED | OPEN. Only `core.net.breakers` moves it, and says there when and why.
    Whatever its state, an operator may hold it open or closed (`forced`).
    """

    class Kind(models.TextChoices):
        NODE = "node", "Model server"
        DEPENDENCY = "dependency", "Dependency"
        WEBHOOK = "webhook", "Webhook"

    class State(models.TextChoices):
        CLOSED = "closed", "Closed"
        OPEN = "open", "Open"
        HALF_OPEN = "half_open", "Half-open"

    class Forced(models.TextChoices):
        NONE = "none", "Not held"
        OPEN = "open", "Held open"
        CLOSED = "closed", "Held closed"

    name = models.CharField(max_length=80, unique=True)  # also serves the lists, and the dependency that looks it up
    kind = models.CharField(max_length=10, choices=Kind)
    state = models.CharField(max_length=10, choices=State, default=State.CLOSED)
    since = models.DateTimeField(default=timezone.now, help_text="When it came into this state.")
    reason = models.CharField(max_length=300, blank=True, help_text="Of the last failure that counted.")
    failures = models.PositiveIntegerField(default=0, help_text="That counted, in a row, while it was closed.")
    failed_at = models.DateTimeField(null=True, blank=True, help_text="The last of them.")
    opened_at = models.DateTimeField(null=True, blank=True, help_text="Since when it has not been closed.")

    # The probe: one call of one process, which decides.
    failed_probes = models.PositiveIntegerField(default=0, help_text="In a row, since it opened.")
    probe_at = models.DateTimeField(null=True, blank=True, help_text="When the next probe is due.")
    probed_at = models.DateTimeField(null=True, blank=True, help_text="When the last probe began.")
    probe_until = models.DateTimeField(null=True, blank=True, help_text="How long the running probe has time.")
    probe_holder = models.CharField(max_length=200, blank=True, help_text="The process that sends it.")
    probes = models.PositiveBigIntegerField(
        default=0, help_text="Sent so far; tells the running one from earlier ones."
    )

    # What an operator wants, whatever the calls say.
    forced = models.CharField("held", max_length=10, choices=Forced, default=Forced.NONE)
    forced_by = models.CharField("held by", max_length=150, blank=True)
    forced_reason = models.CharField("held because", max_length=300, blank=True)
    forced_at = models.DateTimeField("held since", null=True, blank=True)
    forced_until = models.DateTimeField("held until", null=True, blank=True, help_text="Empty: until it is reset.")

    objects = CircuitBreakerQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        verbose_name = "circuit breaker"
        constraints = [
            models.CheckConstraint(
                condition=Q(state="closed", opened_at=None)
                | (~Q(state="closed") & Q(opened_at__isnull=False, probe_at__isnull=False)),
                name="open_breakers_have_a_moment_and_a_probe",
            ),
            models.CheckConstraint(
                condition=Q(forced="none", forced_at=None, forced_until=None)
                | (~Q(forced="none") & Q(forced_at__isnull=False)),
                name="held_breakers_have_a_moment",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_held(self) -> bool:
        return self.forced != self.Forced.NONE

    @property
    def is_shut(self) -> bool:
        """Whether nothing goes through now; a probe does."""
        return self.state_that_holds != self.State.CLOSED

    @property
    def state_that_holds(self) -> str:
        return self.forced if self.is_held else self.state

    @property
    def state_label(self) -> str:
        """The state that holds, for people."""
        return self.Forced(self.forced).label if self.is_held else self.State(self.state).label

    @property
    def why(self) -> str:
        """The reason of the state that holds; a breaker that is closed and well has none."""
        if self.is_held:
            return self.forced_reason
        return self.reason if self.is_shut or self.failures else ""

    @property
    def troubled_since(self) -> datetime | None:
        """Since when the state that holds has not been plainly closed."""
        return self.forced_at if self.is_held else self.opened_at

    def count_failure(self, reason: str, now: datetime, window: timedelta) -> None:
        """Note a failure; one long after the last begins a new count."""
        is_stale = self.failed_at is None or self.failed_at < now - window
        self.failures = 1 if is_stale else self.failures + 1
        self.failed_at, self.reason = now, reason[:300]

    def open(self, now: datetime, probe_at: datetime) -> None:
        self.leave_probe()
        self.state, self.since, self.probe_at = self.State.OPEN, now, probe_at
        self.opened_at = self.opened_at or now

    def close(self, now: datetime) -> None:
        """Begin anew; what was wrong last stays readable."""
        self.leave_probe()
        if self.state != self.State.CLOSED:
            self.state, self.since = self.State.CLOSED, now
        self.opened_at = self.probe_at = None
        self.failures = self.failed_probes = 0

    def leave_probe(self) -> None:
        self.probe_until, self.probe_holder = None, ""

    def hold(
        self, forced: "CircuitBreaker.Forced", now: datetime, *, by: str, reason: str, until: datetime | None
    ) -> None:
        self.forced, self.forced_at, self.forced_until = forced, now, until
        self.forced_by, self.forced_reason = by[:150], reason[:300]

    def end_hold(self) -> None:
        self.forced, self.forced_at, self.forced_until = self.Forced.NONE, None, None
        self.forced_by = self.forced_reason = ""


class GuardedModel(UUIDModel):
    """Something with a name that calls go to. Its breaker, the field `breaker`, is made with it and bears its name."""

    breaker_kind: ClassVar[CircuitBreaker.Kind]
    name: Any
    breaker: Any
    breaker_id: Any

    class Meta:
        abstract = True

    def save(self, *args: Any, update_fields: Iterable[str] | None = None, **kwargs: Any) -> None:
        with transaction.atomic():
            if self._state.adding and not hasattr(self, "breaker"):
                self.breaker = CircuitBreaker.objects.create(name=self.breaker_name, kind=self.breaker_kind)
            elif update_fields is None or "name" in update_fields:
                renamed = CircuitBreaker.objects.filter(pk=self.breaker_id).exclude(name=self.breaker_name)
                renamed.update(name=self.breaker_name)
            super().save(*args, update_fields=update_fields, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        with transaction.atomic():
            deleted = super().delete(*args, **kwargs)
            CircuitBreaker.objects.filter(pk=self.breaker_id).delete()
        return deleted

    @property
    def breaker_name(self) -> str:
        return f"{self.breaker_kind}:{self.name}"


class CircuitBreakerChange(models.Model):
    """A step in a breaker's history. Only the latest are kept; failed probes are counted in the breaker itself."""

    class What(models.TextChoices):
        OPENED = "opened", "Opened"
        CLOSED = "closed", "Closed by a probe"
        TRIPPED = "tripped", "Tripped"
        RESET = "reset", "Reset"
        HELD_OPEN = "held_open", "Held open"
        HELD_CLOSED = "held_closed", "Held closed"
        HOLD_ENDED = "hold_ended", "Hold ended"

    breaker = models.ForeignKey(CircuitBreaker, on_delete=models.CASCADE, related_name="changes", db_index=False)
    what = models.CharField(max_length=20, choices=What)
    at = models.DateTimeField()
    reason = models.CharField(max_length=300, blank=True)
    by = models.CharField(max_length=150, blank=True, help_text="Who did it; empty: it happened by itself.")

    class Meta:
        ordering = ["-id"]
        default_permissions = ()
        indexes = [
            models.Index(fields=["breaker", "-id"], name="changes_of_breaker"),  # a breaker's latest
        ]

    def __str__(self) -> str:
        return f"{self.what} {self.at:%Y-%m-%d %H:%M:%S}"
