"""Picks up what was lost: a thread in every web and worker process.

Every process looks after its own host: tasks whose runner died there go back to the queue at once. One process at a
time, by a lease in the database, looks after the rest:

1. relay, each second: publish grants that were not announced, grant tasks whose retry is due;
2. breakers, each second: probe the nodes whose breakers want it, end holds whose time is over;
3. reaper, every five: leases that ran out, grants that nobody took, deadlines that passed; then it measures how long
   tasks held their slots.

Nothing here travels through the broker, where it would starve when all runners wait for models. All of it may be done
twice without harm.
"""

import logging
import threading
import time
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import F, Q

from agents.engine import counts, discovery, hints, operations, service_times
from agents.engine.owners import this_process
from agents.engine.process import writer
from agents.engine.runs import runs
from agents.models import AgentTask
from core.net import breakers
from core.ops import clock, leases
from core.ops.processes import is_alive, is_on_this_host
from core.ops.threads import start_endless

logger = logging.getLogger(__name__)

DUTY = "caretaker"
DUTY_SECONDS = 15.0
RENEW_DUTY_SECONDS = 5.0
EXPIRE_BATCH = 500
ANNOUNCE_BATCH = 500


class Caretaker:
    """The thread; it first frees what dead processes of this host held, and announces what they were to take."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._has_announced = False
        self._steps = clock.Steps()
        self._renew_duty_at = 0.0
        self._reap_at = 0.0
        self._measured_until: datetime | None = None

    def start(self) -> None:
        if self._thread is None:
            self._thread = start_endless("engine-caretaker", self._round)

    def _round(self) -> None:
        self._look()
        time.sleep(settings.RELAY_SECONDS)

    def _look(self) -> None:
        self._mind_the_clock()
        free_dead_runners()
        if not self._has_announced:
            announce_unclaimed()
            self._has_announced = True
        if not self._has_duty():
            return
        relay()
        breakers.end_holds()
        discovery.probe_due()
        self._mind_the_clock()
        if time.monotonic() >= self._reap_at:
            self._reap_at = time.monotonic() + settings.REAPER_SECONDS
            reap()
            self._measured_until = service_times.measure(self._measured_until, clock.now())

    def _mind_the_clock(self) -> None:
        """Where it was set, wait until who lives has renewed its leases by the new time, and then reap the others."""
        if seconds := self._steps.look():
            self._reap_at = time.monotonic() + settings.LEASE_SECONDS
            logger.warning("The clock was set by %+.0f s, so leases are left alone until they are renewed.", seconds)

    def _has_duty(self) -> bool:
        if time.monotonic() < self._renew_duty_at:
            return True
        if not hold_duty():
            return False
        self._renew_duty_at = time.monotonic() + RENEW_DUTY_SECONDS
        return True


def hold_duty() -> bool:
    """Take or renew the caretaker's lease; False while another living process holds it."""
    return leases.take(DUTY, seconds=DUTY_SECONDS, renews=True)


def free_dead_runners() -> int:
    """Put the tasks of this host's dead processes back into the queue; returns how many."""
    runners = set(AgentTask.objects.running().exclude(runner="").order_by().values_list("runner", flat=True))
    if this_process() in runners:
        give_back_forgotten()
    release_reservations()
    dead = [runner for runner in runners if _is_dead(runner)]
    if not dead:
        return 0
    freed = writer.call(operations.reap, Q(runner__in=dead))
    counts.freed.inc(freed)
    logger.warning("Freed %d tasks of %d dead processes.", freed, len(dead))
    return freed


def release_reservations() -> None:
    """Let any runner have the tasks that dead processes of this host waited for."""
    waiting = AgentTask.objects.queued().exclude(reserved_for="").order_by()
    for process in waiting.values_list("reserved_for", flat=True).distinct():
        if _is_dead(process):
            writer.call(operations.release, process)


def _is_dead(process: str) -> bool:
    return is_on_this_host(process) and not is_alive(process)


def give_back_forgotten() -> None:
    """Put tasks back that this process was given and does not run: the answer that said so was lost on its way."""
    late = clock.now() - timedelta(seconds=settings.REAPER_SECONDS)
    mine = AgentTask.objects.running().filter(runner=this_process(), started_at__lt=late)
    for task_id, fence in mine.values_list("pk", "fence"):
        if not runs.holds(task_id, fence):
            change = operations.SendBack(task_id, fence, reason="The run never began.")
            if writer.call(operations.send_back, change):
                counts.given_back.inc()
                logger.warning("Task %s was given to this process, which does not run it.", task_id)


def announce_unclaimed() -> None:
    """Publish every grant that no runner took: the messages may have died with the process that fetched them."""
    unclaimed = AgentTask.objects.running().filter(runner="")
    hints.granted(list(unclaimed.values_list("pk", flat=True)[:ANNOUNCE_BATCH]))


def relay() -> None:
    """Publish what was granted and not announced; grant what waits and could run."""
    now = clock.now()
    late = now - timedelta(seconds=settings.RELAY_SECONDS)
    unannounced = AgentTask.objects.running().filter(runner="", announced_at=None, granted_at__lt=late)
    if task_ids := list(unannounced.values_list("pk", flat=True)[:ANNOUNCE_BATCH]):
        hints.granted(task_ids)
    due = AgentTask.objects.queued().filter(Q(run_after=None) | Q(run_after__lte=now))
    for model in due.order_by().values_list("model", flat=True).distinct():
        writer.call(operations.grant_waiting, model)


def reap() -> None:
    """Take tasks from silent runners, publish grants that nobody took again, end what is past its deadline."""
    now = clock.now()
    silent = AgentTask.objects.running().filter(lease_until__lt=now).exclude(runner="")
    if silent.exists():
        reaped = writer.call(operations.reap, Q(lease_until__lt=now) & ~Q(runner=""))
        counts.taken_away.inc(reaped)
        logger.warning("Took %d tasks from runners whose lease ran out.", reaped)
    _announce_again(now)
    unclaimed = AgentTask.objects.running().filter(runner="", lease_until__lt=now)
    for task_id in unclaimed.values_list("pk", flat=True)[:ANNOUNCE_BATCH]:
        writer.call(operations.renew_unclaimed, task_id)
        counts.renewed.inc()
    if AgentTask.objects.unfinished().filter(deadline_at__lte=now).exists():
        counts.expired.inc(writer.call(operations.expire, EXPIRE_BATCH))


def _announce_again(now: datetime) -> None:
    """Have grants published once more that nobody took for some seconds: the broker may have lost the messages."""
    patience = timedelta(seconds=settings.REAPER_SECONDS)
    announced_once = AgentTask.objects.running().filter(runner="", granted_at__gt=F("announced_at") - patience)
    counts.announced_again.inc(announced_once.filter(announced_at__lt=now - patience).update(announced_at=None))


caretaker = Caretaker()
