"""Finds out what is wrong, from the metrics that Prometheus would read: one process does it for all, by a lease.

Every web process has the thread, and so has the worker beside it, which goes on when the web process is gone. Workers
on other machines do not share the figures, so they have none.

1. A condition that becomes true is remembered here, by a steady clock, so that nothing fires because somebody set the
   time. If another process takes over, or nobody looked for a while, its time begins anew.
2. When it has lasted, the alert fires: a row, and news for operators, unless it is silenced.
3. When it has been false for a minute, the alert is resolved; who was told that it fires is told of that too.
4. What no worker sent of that in time, this process sends itself: the alert may be about the workers.

The same process writes down how the parts were that everything depends on (`core.ops.health_history`).

While nobody can tell, as in the first minute of counting or without metrics that could not be read, everything stays
as it is.
"""

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from functools import cache

from django.db import DatabaseError, IntegrityError, InterfaceError, connection, transaction

from core.formats import span
from core.models import Alert, AlertSilence, Lease, User, alert_about
from core.models.roles import STAFF
from core.notifications import Event, News, notify, overdue, webhooks
from core.notifications import register as register_event
from core.ops import clock, health, health_history, leases, metrics
from core.ops.alerts import figures, rules
from core.ops.alerts.expressions import Breach, Labels, Metric, Past, Samples, TooEarly
from core.ops.alerts.rules import KEEP_FIRING, Rule
from core.ops.processes import ProcessIdentity
from core.ops.threads import start_endless

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 15.0
DUTY = "alerts"
DUTY_SECONDS = 60.0

ALERT = register_event(
    Event(
        name="alert",
        label="Alert",
        description="Something is wrong with the installation, or is right again.",
        email=True,
        webhook=True,
        roles=frozenset(STAFF),
    )
)


@cache
def start() -> threading.Thread:
    """Have this process watch, or be ready to."""

    def wait_and_turn() -> None:
        time.sleep(INTERVAL_SECONDS)
        try:
            if turn(_watch, time.monotonic()):
                _sender.wake()
        finally:
            if connection.vendor != "sqlite":
                connection.close()  # back to the pool until the next turn

    return start_endless("alerts", wait_and_turn)


def turn(watch: "Watch", at: float) -> bool:
    """Look once; False where that is another process's duty. at: seconds of a steady clock."""
    with _one_at_a_time:
        try:
            watched_until = None if watch.has_looked else _watched_until()
            has_duty = leases.take(DUTY, seconds=DUTY_SECONDS, renews=True)
        except (DatabaseError, InterfaceError):
            # Asking for /health needs no database; where nobody asks, Prometheus believes that nobody answers.
            if watch.has_looked:
                figures.ask_web()
            raise
        if not has_duty:
            _history.forget()
            return False
        health.start()  # in a worker nothing else does
        _write_history(watched_until)
        figures.ask_web()
        reading = metrics.reading()
        watch.look(Samples(at, reading.series), clock.now(), is_whole=reading.is_whole)
        leases.note_done(DUTY)
        return True


def _write_history(watched_until: datetime | None) -> None:
    """Write down how the parts were, if that can be done: the alerts are looked at all the same."""
    try:
        _history.write(watched_until)
    except (DatabaseError, InterfaceError) as error:
        logger.warning("How the parts were is not written down: %s", error)
    except Exception:
        logger.exception("How the parts were is not written down.")


def look_now() -> bool:
    """Look at once; False where that is another process's duty, or this one does not watch and has no figures."""
    return bool(start.cache_info().currsize) and turn(_watch, time.monotonic())


def _watched_until() -> datetime | None:
    """When a process looked last, where one ever did."""
    until = Lease.objects.filter(name=DUTY).values_list("held_until", flat=True).first()
    return until - timedelta(seconds=DUTY_SECONDS) if until else None


def watcher() -> ProcessIdentity | None:
    """The process that watches; None: none does."""
    lease = Lease.objects.filter(name=DUTY, held_until__gte=clock.now()).first()
    return ProcessIdentity.parse(lease.holder) if lease and not leases.is_dead(lease.holder) else None


def has_looked_lately() -> bool:
    """Tell whether any process looked at everything within the last minute; one whose looks fail has not."""
    return Lease.objects.filter(name=DUTY, done_at__gte=clock.now() - timedelta(seconds=DUTY_SECONDS)).exists()


class Watch:
    """What has been true, and for how long."""

    def __init__(self) -> None:
        self._past = Past()
        self._looked_at = 0.0
        self.has_looked = False
        self._true_since: dict[tuple[str, Labels], tuple[float, datetime]] = {}
        self._false_since: dict[tuple[str, str], float] = {}

    def look(self, samples: Samples, now: datetime, *, is_whole: bool = True) -> None:
        """Compare what the metrics say with what fires. is_whole: nothing is missing that could not be read."""
        if samples.at - self._looked_at > DUTY_SECONDS:
            self._true_since, self._false_since = {}, {}
        self._looked_at, self.has_looked = samples.at, True
        known = rules.registered()
        increases = {item for rule in known for part in rule.condition.expressions() for item in part.increases()}
        self._past.note(increases, samples)
        firing = {(alert.name, alert.about): alert for alert in Alert.objects.firing()}
        unclear = set()
        true: set[tuple[str, str]] = set()
        for rule in known:
            if not (is_whole or _has_all(rule, samples)):
                unclear.add(rule.name)
                continue
            try:
                breaches = rule.condition.breaches(samples, self._past)
            except TooEarly:
                unclear.add(rule.name)
                continue
            true |= self._note(rule, breaches, firing, now)
        self._resolve([alert for key, alert in firing.items() if key not in true and alert.name not in unclear], now)
        self._false_since = {key: since for key, since in self._false_since.items() if key in firing.keys() - true}
        tell_of_firing(now)

    def _note(
        self, rule: Rule, breaches: Mapping[Labels, Breach], firing: Mapping[tuple[str, str], Alert], now: datetime
    ) -> set[tuple[str, str]]:
        """Take in what is wrong by a rule; returns what identifies it among the rows."""
        for name, labels in [key for key in self._true_since if key[0] == rule.name and key[1] not in breaches]:
            del self._true_since[name, labels]
        found = set()
        for labels, breach in breaches.items():
            since_at, since = self._true_since.setdefault((rule.name, labels), (self._looked_at, now))
            key = (rule.name, alert_about(dict(labels)))
            found.add(key)
            if alert := firing.get(key):
                _update(alert, breach)
            elif self._looked_at - since_at >= rule.holds_for.total_seconds():
                _fire(rule, dict(labels), breach, since=since, now=now)
        return found

    def _resolve(self, alerts: Iterable[Alert], now: datetime) -> None:
        for alert in alerts:
            since_at = self._false_since.setdefault((alert.name, alert.about), self._looked_at)
            if self._looked_at - since_at >= KEEP_FIRING.total_seconds():
                del self._false_since[alert.name, alert.about]
                resolve(alert, now)


def _has_all(rule: Rule, samples: Samples) -> bool:
    """Tell whether each metric that a rule looks at was read: one that is missing may have failed."""
    return all(any(True for _ in samples.of(Metric(metric.name))) for metric in rule.metrics())


_watch = Watch()  # this process's
_history = health_history.Writer()
_sender = overdue.Sender(ALERT)
_one_at_a_time = threading.Lock()


def _update(alert: Alert, breach: Breach) -> None:
    if (alert.value, alert.limit) != breach:
        Alert.objects.filter(pk=alert.pk, resolved_at=None).update(value=breach.value, limit=breach.limit)


def _fire(rule: Rule, labels: dict[str, str], breach: Breach, *, since: datetime, now: datetime) -> None:
    """Write down that an alert fires, unless a process that watched until now was first."""
    alert = Alert(
        name=rule.name,
        labels=labels,
        about=alert_about(labels),
        title=rule.title_for(labels)[:200],
        severity=rule.severity,
        value=breach.value,
        limit=breach.limit,
        since=since,
        fired_at=now,
    )
    try:
        with transaction.atomic():
            alert.save(force_insert=True)
    except IntegrityError:
        return
    logger.warning("Alert %s: %s", alert.name, alert.title)


def resolve(alert: Alert, now: datetime) -> None:
    """Write down that what was wrong is right again, and tell those who were told of it."""
    with transaction.atomic():
        if not Alert.objects.filter(pk=alert.pk, resolved_at=None).update(resolved_at=now):
            return
        alert.resolved_at = now
        if alert.told_at is not None:
            _tell(alert, f"Resolved: {alert.title}", f"It lasted {span((now - alert.since).total_seconds())}.", now)
    logger.info("Alert %s is resolved: %s", alert.name, alert.title)


def tell_of_firing(now: datetime) -> None:
    """Tell operators of what fires and they were not told of, but for what is silenced."""
    untold = list(Alert.objects.firing().filter(told_at=None))
    silences = list(AlertSilence.objects.holding(now)) if untold else []
    for alert in untold:
        if any(silence.covers(alert) for silence in silences):
            continue
        rule = rules.find(alert.name)
        with transaction.atomic():
            if Alert.objects.filter(pk=alert.pk, told_at=None).update(told_at=now):
                _tell(alert, f"Alert: {alert.title}", rule.why if rule else "", now)


def _tell(alert: Alert, title: str, body: str, now: datetime) -> None:
    people = User.objects.filter(is_active=True, role__in=STAFF).values_list("pk", flat=True)
    notify(ALERT, [News(person, title, link_of(alert), body) for person in people], now)
    data = {
        "alert": alert.name,
        "state": "resolved" if alert.resolved_at else "firing",
        "severity": alert.severity,
        "labels": alert.labels,
        "since": alert.since.isoformat(),
    }
    webhooks.tell(ALERT, [webhooks.Message(title, link_of(alert), body, data)], now)


def link_of(alert: Alert) -> str:
    """The page of an alert. No address of the console's is known here but this one, which stays."""
    return f"/admin/core/alert/{alert.pk}/change/"
