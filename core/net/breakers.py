"""Circuit breakers: nobody waits for what is known not to answer.

A breaker stands before one node, one dependency or one webhook. It is a row, so that all processes share what each of
them learns.

1. CLOSED: calls go through. Failures that speak against the target are counted (`failed`); enough of them, with no
   success in between (`succeeded`), open it. Where something only looks wrong, `suspect` asks for a probe first.
2. OPEN: nothing goes through until the cool-down is over.
3. HALF_OPEN: one process of all sends one call (`take_probe`), under a lease that ends with the process. If it
   succeeds the breaker closes; if it fails the breaker is open again, for a longer cool-down, up to a limit.

Which failures count is for those who call to say: `agents.engine.node_health` for nodes, `Guard` for the rest.
A success of a breaker that is closed and well reads and writes nothing: what is noted of any breaker is remembered for
a second. Operators `trip` and `reset` breakers, or `hold` them open or closed.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from cachetools import TTLCache, cached
from django.conf import settings
from django.db import transaction
from prometheus_client import Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from core import audit
from core.models import CircuitBreaker, CircuitBreakerChange, User
from core.net.errors import BreakerOpen, NetError
from core.ops import clock, leases, metrics
from core.ops.processes import ProcessIdentity

logger = logging.getLogger(__name__)

Kind, State, Forced = CircuitBreaker.Kind, CircuitBreaker.State, CircuitBreaker.Forced
What = CircuitBreakerChange.What
HOLDS = (Forced.OPEN, Forced.CLOSED)

REMEMBERED_SECONDS = 1.0
# A process that stops in the middle of a probe keeps others from theirs for so long; one that dies on this host keeps
# nobody.
PROBE_SECONDS = 30.0
# A breaker that a person tripped is not probed before: its target may be well.
TRIPPED_SECONDS = 60.0
MAX_HOLD_MINUTES = 7 * 24 * 60
CHANGES_KEPT = 100  # of each breaker
_DOUBLINGS = 30  # of a cool-down; more would only make big numbers

transitions = Counter("sutazai_circuit_breaker_transitions", "Changes of breakers' states.", ["name", "to"])

# Moves a locked breaker; returns what the history shall tell, if anything.
Move = Callable[[CircuitBreaker, datetime], CircuitBreakerChange | None]


# What calls learn ---------------------------------------------------------------------------------------------------


def failed(breaker_id: UUID, reason: str, *, is_certain: bool = False) -> None:
    """Count a failure; enough of them open the breaker. is_certain: this one suffices.

    What fails while the breaker is not closed was sent before, and says nothing new.
    """
    if not CircuitBreaker.objects.filter(pk=breaker_id, state=State.CLOSED).exists():
        return

    def move(breaker: CircuitBreaker, now: datetime) -> CircuitBreakerChange | None:
        if breaker.state != State.CLOSED:
            return None
        breaker.count_failure(reason, now, timedelta(seconds=settings.BREAKER_WINDOW_SECONDS))
        if not is_certain and breaker.failures < settings.BREAKER_FAILURES:
            return None
        breaker.open(now, now + _cool_down(breaker))
        return _step(What.OPENED, reason)

    _move(breaker_id, move)


def succeeded(breaker_id: UUID) -> None:
    """Let a success end a row of failures. Open breakers are closed by a probe alone."""
    noted = remembered().get(breaker_id)
    if noted is not None and noted.state == State.CLOSED and (noted.failures or noted.probe_at):
        closed = CircuitBreaker.objects.filter(pk=breaker_id, state=State.CLOSED)
        closed.update(failures=0, probe_at=None, probe_until=None, probe_holder="")
        forget()


def suspect(breaker_id: UUID, *, pause_seconds: float = 0) -> None:
    """Ask for a probe of a target whose breaker is closed: soon, but so long after the last one."""
    if not CircuitBreaker.objects.filter(pk=breaker_id, state=State.CLOSED, probe_at=None).exists():
        return

    def move(breaker: CircuitBreaker, now: datetime) -> None:
        if breaker.state == State.CLOSED and breaker.probe_at is None:
            last = breaker.probed_at or now - timedelta(seconds=pause_seconds)
            breaker.probe_at = max(now, last + timedelta(seconds=pause_seconds))

    _move(breaker_id, move)


def clear(breaker_id: UUID) -> None:
    """Take a suspicion back. A probe under way decides nothing then; failures stay counted."""
    noted = remembered().get(breaker_id)
    if noted is not None and noted.state == State.CLOSED and noted.probe_at is not None:
        closed = CircuitBreaker.objects.filter(pk=breaker_id, state=State.CLOSED)
        closed.update(probe_at=None, probe_until=None, probe_holder="")
        forget()


@cached(TTLCache(maxsize=1, ttl=REMEMBERED_SECONDS), lock=threading.Lock())
def remembered() -> dict[UUID, CircuitBreaker]:
    """The breakers of which anything is noted; what other processes note is missing for a second at most."""
    return {breaker.pk: breaker for breaker in CircuitBreaker.objects.noted()}


def forget() -> None:
    """Read everything anew."""
    remembered.cache_clear()
    _written.clear()


# Probes -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Probe:
    """The right to send the one call that decides. was_closed: there is a suspicion only.

    number: tells it from those before, whose ends come too late.
    """

    breaker_id: UUID
    number: int
    was_closed: bool

    def succeeded(self) -> None:
        def move(breaker: CircuitBreaker, now: datetime) -> CircuitBreakerChange | None:
            breaker.close(now)
            return None if self.was_closed else _step(What.CLOSED, "A probe succeeded.")

        self._end(move)

    def failed(self, reason: str) -> None:
        def move(breaker: CircuitBreaker, now: datetime) -> CircuitBreakerChange | None:
            breaker.reason = reason[:300]
            if self.was_closed:
                breaker.failures, breaker.failed_at = breaker.failures + 1, now
            else:
                breaker.failed_probes += 1
            # From the probe's beginning: one that waited for seconds has cooled down enough.
            breaker.open(now, max(now, (breaker.probed_at or now) + _cool_down(breaker)))
            return _step(What.OPENED, reason) if self.was_closed else None

        self._end(move)

    def abandon(self) -> None:
        """Give the right back, to whoever asks next; nothing was learnt."""
        self._end(lambda breaker, _: breaker.leave_probe())

    def _end(self, move: Move) -> None:
        def end(breaker: CircuitBreaker, now: datetime) -> CircuitBreakerChange | None:
            is_mine = breaker.probes == self.number and breaker.probe_until is not None
            return move(breaker, now) if is_mine else None

        _move(self.breaker_id, end)


def due(kind: "CircuitBreaker.Kind") -> list[UUID]:
    """The breakers of a kind that a process may probe now."""
    now = clock.now()
    rows = CircuitBreaker.objects.filter(kind=kind, probe_at__lte=now).exclude(forced=Forced.OPEN)
    return [breaker.pk for breaker in rows if _is_free(breaker, now)]


def take_probe(breaker_id: UUID, *, at_once: bool = False) -> Probe | None:
    """Take the right to send a probe; None unless one is due, and nobody else has taken it.

    at_once: do not wait for the end of the cool-down.
    One update, which names the row's state as it was seen: of several processes, one changes it.
    """
    now = clock.now()
    seen = CircuitBreaker.objects.filter(pk=breaker_id, probe_at__isnull=False).exclude(forced=Forced.OPEN).first()
    if seen is None or not _is_free(seen, now) or not (at_once or _has_come(seen, now)):
        return None
    state, since = seen.state, seen.since
    if state == State.OPEN:
        state, since = State.HALF_OPEN, now
    unchanged = CircuitBreaker.objects.filter(
        pk=seen.pk, state=seen.state, forced=seen.forced, probes=seen.probes, probe_at=seen.probe_at
    )
    taken = unchanged.update(
        state=state,
        since=since,
        probes=seen.probes + 1,
        probed_at=now,
        probe_until=now + timedelta(seconds=PROBE_SECONDS),
        probe_holder=str(ProcessIdentity.current()),
    )
    if not taken:
        return None
    forget()
    _after_commit(seen, str(seen.state), str(state))
    return Probe(seen.pk, seen.probes + 1, was_closed=seen.state == State.CLOSED)


def refuses(breaker: CircuitBreaker) -> bool:
    """Tell whether a call would be refused now: nothing goes through, and no probe is due."""
    now = clock.now()
    may_probe = breaker.forced != Forced.OPEN and _has_come(breaker, now) and _is_free(breaker, now)
    return breaker.is_shut and not may_probe


def _has_come(breaker: CircuitBreaker, now: datetime) -> bool:
    return breaker.probe_at is not None and breaker.probe_at <= now


def _is_free(breaker: CircuitBreaker, now: datetime) -> bool:
    """Tell whether no probe is under way, or only one whose process is dead or has stopped."""
    return breaker.probe_until is None or breaker.probe_until < now or leases.is_dead(breaker.probe_holder)


def _cool_down(breaker: CircuitBreaker) -> timedelta:
    """Twice as long for each probe that failed in a row."""
    seconds = settings.BREAKER_COOL_DOWN_SECONDS * 2 ** min(breaker.failed_probes, _DOUBLINGS)
    return timedelta(seconds=min(seconds, settings.BREAKER_MAX_COOL_DOWN_SECONDS))


# What operators want ------------------------------------------------------------------------------------------------


def reset(breaker_id: UUID, *, by: User, reason: str = "") -> None:
    """Close a breaker, end its hold and forget its failures, as if nothing had been wrong."""

    def move(breaker: CircuitBreaker, now: datetime) -> CircuitBreakerChange:
        breaker.end_hold()
        breaker.close(now)
        return _step(What.RESET, reason)

    _move(breaker_id, move, by=by)


def trip(breaker_id: UUID, *, by: User, reason: str = "") -> None:
    """Open a breaker, for a minute at least; then a probe decides. A hold ends."""

    def move(breaker: CircuitBreaker, now: datetime) -> CircuitBreakerChange:
        breaker.end_hold()
        breaker.reason = reason[:300] or f"Tripped by {by.get_username()}."
        breaker.open(now, now + timedelta(seconds=TRIPPED_SECONDS))
        return _step(What.TRIPPED, reason)

    _move(breaker_id, move, by=by)


def hold(
    breaker_id: UUID, forced: "CircuitBreaker.Forced", *, by: User, reason: str, minutes: int | None = None
) -> None:
    """Keep a breaker open, or closed, whatever calls and probes say. minutes: then by itself no longer."""

    def move(breaker: CircuitBreaker, now: datetime) -> CircuitBreakerChange:
        until = now + timedelta(minutes=minutes) if minutes else None
        breaker.hold(forced, now, by=by.get_username(), reason=reason, until=until)
        return _step(What.HELD_OPEN if forced == Forced.OPEN else What.HELD_CLOSED, reason)

    _move(breaker_id, move, by=by)


def end_holds() -> None:
    """End the holds whose time is over."""

    def move(breaker: CircuitBreaker, now: datetime) -> CircuitBreakerChange | None:
        if breaker.forced_until is None or breaker.forced_until > now:
            return None
        breaker.end_hold()
        return _step(What.HOLD_ENDED, "Its time was over.")

    for breaker_id in CircuitBreaker.objects.filter(forced_until__lte=clock.now()).values_list("pk", flat=True):
        _move(breaker_id, move)


# Writing it down ----------------------------------------------------------------------------------------------------


def _step(what: "CircuitBreakerChange.What", reason: str) -> CircuitBreakerChange:
    return CircuitBreakerChange(what=what, reason=reason[:300])


def _move(breaker_id: UUID, move: Move, *, by: User | None = None) -> None:
    """Move a breaker under its lock; what happened goes into its history, and what a person did into the audit log.

    One that is gone, with its node, is left alone.
    """
    now = clock.now()
    with transaction.atomic():
        breaker = CircuitBreaker.objects.select_for_update(no_key=True).filter(pk=breaker_id).first()
        if breaker is None:
            return
        state, before = str(breaker.state), audit.snapshot(breaker) if by else None
        step = move(breaker, now)
        breaker.save()
        if step is not None:
            step.breaker, step.at, step.by = breaker, now, by.get_username() if by else ""
            _keep(step)
        if step is not None and by is not None:
            action = f"circuit-breaker.{step.what.replace('_', '-')}"
            audit.record(action, target=breaker, before=before, after=breaker, detail=step.reason, actor=by)
        _after_commit(breaker, state, str(breaker.state), step)
    forget()


def _keep(step: CircuitBreakerChange) -> None:
    step.save(force_insert=True)
    steps = CircuitBreakerChange.objects.filter(breaker=step.breaker)
    if oldest := steps.order_by("-pk").values_list("pk", flat=True)[CHANGES_KEPT - 1 : CHANGES_KEPT].first():
        steps.filter(pk__lt=oldest).delete()


def _after_commit(breaker: CircuitBreaker, before: str, after: str, step: CircuitBreakerChange | None = None) -> None:
    def tell() -> None:
        if before != after:
            transitions.labels(breaker.name, after).inc()
        if step is not None:
            level = logging.INFO if step.what in {What.CLOSED, What.RESET, What.HOLD_ENDED} else logging.WARNING
            by = f" by {step.by}" if step.by else ""
            logger.log(level, "Breaker %s: %s%s. %s", breaker.name, What(step.what).label.lower(), by, step.reason)

    transaction.on_commit(tell, robust=True)


@metrics.register
def breaker_metrics() -> Iterator[Metric]:
    """Read what the rows say now."""
    values = {State.CLOSED: 0.0, State.HALF_OPEN: 0.5, State.OPEN: 1.0}
    state = GaugeMetricFamily(
        "sutazai_circuit_breaker_state", "0: closed, 0.5: half-open, 1: open, as it holds.", labels=["name"]
    )
    for breaker in CircuitBreaker.objects.all():
        state.add_metric([breaker.name], values[State(breaker.state_that_holds)])
    yield state


# Dependencies -------------------------------------------------------------------------------------------------------


@dataclass
class Call:
    """A call under way. failure: why its answer, though one came, speaks against the target."""

    failure: str = field(default="", init=False)


class Guard:
    """A breaker at work: `with guard.call() as call: …` stands around each call to its target.

    The call that comes first after a cool-down is the probe.
    """

    def __init__(self, breaker: CircuitBreaker) -> None:
        self.name = breaker.name
        self._breaker_id = breaker.pk

    @contextmanager
    def call(self) -> Iterator[Call]:
        """Let a call happen, and learn from its end. Raises BreakerOpen; what the call raises goes on."""
        probe, call = self._admit(), Call()
        try:
            yield call
        except BaseException as error:
            if isinstance(error, NetError) and error.counts_for_breaker:
                self._failed(probe, str(error))
            elif probe is not None:
                probe.abandon()
            raise
        if call.failure:
            self._failed(probe, call.failure)
        elif probe is not None:
            probe.succeeded()
        elif noted := self._noted():
            succeeded(noted.pk)

    def _admit(self) -> Probe | None:
        noted = self._noted()
        if noted is None or not noted.is_shut:
            return None
        probe = take_probe(noted.pk)
        if probe is None:
            raise BreakerOpen(f"{self.name} is away: {noted.why}")
        return probe

    def _failed(self, probe: Probe | None, reason: str) -> None:
        if probe is not None:
            probe.failed(reason)
        else:
            failed(self._key(), reason)

    def _noted(self) -> CircuitBreaker | None:
        return remembered().get(self._key())

    def _key(self) -> UUID:
        return self._breaker_id


_written: set[str] = set()  # names of dependencies that have a row


class Dependency(Guard):
    """Something outside that is called, by its name. Operators see its breaker from the first call on."""

    def __init__(self, name: str) -> None:
        self.name = f"{Kind.DEPENDENCY}:{name}"

    def _admit(self) -> Probe | None:
        if self.name not in _written:
            self._row()
        return super()._admit()

    def _noted(self) -> CircuitBreaker | None:
        return next((breaker for breaker in remembered().values() if breaker.name == self.name), None)

    def _key(self) -> UUID:
        return self._row().pk

    def _row(self) -> CircuitBreaker:
        breaker, _ = CircuitBreaker.objects.get_or_create(name=self.name, defaults={"kind": Kind.DEPENDENCY})
        _written.add(self.name)
        return breaker
