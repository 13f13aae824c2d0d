"""The processes that serve together, on all machines: whether each lives, and what it does at this moment.

Other applications register what their own work is.
"""

import enum
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from core.models import Lease, MaintenanceRun, Process
from core.ops import clock, heartbeat, leases, maintenance
from core.ops.processes import ProcessIdentity


class State(enum.StrEnum):
    ALIVE = "alive"
    SILENT = "silent"  # it has not told of itself for ALIVE_SECONDS
    DEAD = "dead"  # it ran on this host, where it does not any more


@dataclass(frozen=True)
class Work:
    """Something that a process does. kind: "task" or "job". page: the name of its page in the console."""

    kind: str
    id: str
    title: str
    since: datetime | None
    page: str


@dataclass
class Member:
    """A process. duties: what it does for all processes, by the names of its leases."""

    process: Process
    state: State
    last_heard_at: datetime
    work: list[Work] = field(default_factory=list)
    duties: list[str] = field(default_factory=list)

    @property
    def host(self) -> str:
        return ProcessIdentity.parse(self.process.identity).machine

    @property
    def pid(self) -> int:
        return ProcessIdentity.parse(self.process.identity).pid


Reader = Callable[[Collection[str]], Mapping[str, list[Work]]]

_readers: list[Reader] = []
_ROLES = list(Process.Role)


def register(reader: Reader) -> Reader:
    """Have a function say what processes, by their identities, do now, the oldest first; usable as a decorator."""
    _readers.append(reader)
    return reader


def known() -> list[Member]:
    """All processes: web, then workers, then beats; those that were lost are known for a day. Without their work."""
    held: dict[str, list[Lease]] = {}
    for lease in Lease.objects.order_by("name"):
        held.setdefault(lease.holder, []).append(lease)
    return sorted(
        (_member(process, held.get(process.identity, [])) for process in Process.objects.all()),
        key=lambda member: (_ROLES.index(Process.Role(member.process.role)), member.host, member.process.started_at),
    )


def members() -> list[Member]:
    """All processes that are known, and what each does now."""
    found = {member.process.identity: member for member in known()}
    for reader in _readers:
        for identity, work in reader(found.keys()).items():
            if identity in found:
                found[identity].work += work
    return list(found.values())


def _member(process: Process, held: Collection[Lease]) -> Member:
    own = heartbeat.row_name(process.role, process.identity)
    until = next((lease.held_until for lease in held if lease.name == own), process.started_at)
    now = clock.now()
    others = [lease.name for lease in held if lease.name != own and lease.held_until >= now]
    return Member(
        process,
        _state(process.identity, until, now),
        last_heard_at=max(process.started_at, until - timedelta(seconds=heartbeat.ALIVE_SECONDS)),
        duties=[name for name in others if not name.startswith(maintenance.LEASE_PREFIX)],
    )


def _state(identity: str, until: datetime, now: datetime) -> State:
    if leases.is_dead(identity):
        return State.DEAD
    return State.ALIVE if until >= now else State.SILENT


@register
def jobs(identities: Collection[str]) -> dict[str, list[Work]]:
    """Maintenance jobs."""
    titles = {job.name: job.title for job in maintenance.jobs()}
    runs = {run.job: run for run in MaintenanceRun.objects.filter(status=MaintenanceRun.Status.RUNNING).order_by("pk")}
    found: dict[str, list[Work]] = {}
    for lease in Lease.objects.filter(name__startswith=maintenance.LEASE_PREFIX, held_until__gte=clock.now()):
        name = lease.name.removeprefix(maintenance.LEASE_PREFIX)
        if (run := runs.get(name)) and lease.holder in identities:
            work = Work("job", str(run.pk), titles.get(name, name), run.started_at, "admin:core_maintenancerun_change")
            found.setdefault(lease.holder, []).append(work)
    return found
