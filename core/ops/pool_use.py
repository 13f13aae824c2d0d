"""How the processes of this group use their pools, as each wrote it down within the last seconds."""

from dataclasses import dataclass, field

from core.net import places
from core.ops import metrics
from core.ops.metrics import Totals
from core.ops.pools import DATABASE, REDIS, THREADS

NAMES = (THREADS, *places.NAMES, DATABASE, REDIS)


@dataclass
class ProcessUse:
    """How a process uses a pool. pid: 0 where processes share no figures."""

    process: str
    pid: int
    limit: int = 0
    in_use: int = 0
    waiting: int = 0
    utilisation: float = 0.0


@dataclass
class PoolUse:
    """A pool's name, what all processes did with it since the group started, and what each does now."""

    name: str
    connection_errors: int = 0
    waits: int = 0
    processes: list[ProcessUse] = field(default_factory=list)

    @property
    def utilisation(self) -> float:
        """That of the process in which it is fullest."""
        return max((use.utilisation for use in self.processes), default=0.0)


@dataclass
class GroupUse:
    http_requests: int
    db_queries: int
    redis_operations: int
    connection_errors: int
    pools: list[PoolUse]


_GAUGES = {
    "sutazai_pool_limit": "limit",
    "sutazai_pool_in_use": "in_use",
    "sutazai_pool_waiting": "waiting",
    "sutazai_pool_utilisation": "utilisation",
}


def of_the_group() -> GroupUse:
    """Read what all processes of the group wrote down."""
    totals = metrics.totals()
    processes = _processes(totals)
    errors = _by_pool(totals, "sutazai_connection_errors_total")
    waits = _by_pool(totals, "sutazai_pool_waits_total")
    return GroupUse(
        http_requests=int(totals.sum("sutazai_http_requests_total")),
        db_queries=int(totals.sum("sutazai_db_queries_total")),
        redis_operations=int(totals.sum("sutazai_redis_operations_total")),
        connection_errors=sum(errors.values()),
        pools=[
            PoolUse(name, errors.get(name, 0), waits.get(name, 0), processes[name])
            for name in NAMES
            if name in processes
        ],
    )


def _processes(totals: Totals) -> dict[str, list[ProcessUse]]:
    """The processes that have each pool, by name and id."""
    found: dict[tuple[str, str, int], ProcessUse] = {}
    for name, attribute in _GAUGES.items():
        for labels, value in totals.each(name):
            pool, process, pid = labels["pool"], labels["process"], int(labels.get("pid", 0))
            use = found.setdefault((pool, process, pid), ProcessUse(process, pid))
            setattr(use, attribute, value if attribute == "utilisation" else int(value))
    by_pool: dict[str, list[ProcessUse]] = {}
    for (pool, _, _), use in sorted(found.items()):
        by_pool.setdefault(pool, []).append(use)
    return by_pool


def _by_pool(totals: Totals, name: str) -> dict[str, int]:
    return {labels["pool"]: int(value) for labels, value in totals.each(name)}
