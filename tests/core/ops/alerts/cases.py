"""What metrics say for minutes, and what fires then: the same for Prometheus and for our own watch."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

STEP_SECONDS = 15
HOUR = 3600

Labels = Mapping[str, str]


@dataclass(frozen=True)
class Case:
    """series: values every 15 s, as promtool writes them. firing: by minute, the labels of each that fires then."""

    what: str
    alert: str
    series: Mapping[str, str]
    firing: Mapping[int, Sequence[Labels]] = field(default_factory=dict)


ONE: Sequence[Labels] = [{}]
NONE: Sequence[Labels] = []
# What asks by itself, every few seconds.
POLLS = ("health", "health-ready", "metrics", "panel-unread-notifications", "static")


def _requests(bad_a_step: int, good_a_step: int, *, bad_status: int = 503) -> dict[str, str]:
    """Requests of each step, and those among them that fail; with status 200 in the middle of their answers."""
    return {
        'api_request_total{method="GET",endpoint="agents",status="200"}': f"5+{good_a_step}x40",
        'api_request_total{method="GET",endpoint="agents",status="404"}': "5+20x40",
        f'api_request_total{{method="POST",endpoint="chat",status="{bad_status}"}}': f"5+{bad_a_step}x40",
        'api_errors_total{method="GET",endpoint="agents",error_type="not-found",fault="client"}': "5+20x40",
        'api_errors_total{method="POST",endpoint="chat",error_type="saturated",fault="server"}': f"5+{bad_a_step}x40",
    }


def _answers(method: str, slow_a_step: float, *, quick_a_step: int = 20, endpoint: str = "agents") -> dict[str, str]:
    """Answers within 1 s, and some that take between 5 and 10 s, in each step."""
    labels = f'method="{method}",endpoint="{endpoint}",status="200"'
    name = f"api_request_duration_seconds_bucket{{{labels}"
    quick, all_of_them = f"0+{quick_a_step}x40", f"0+{quick_a_step + slow_a_step}x40"
    return {
        f'{name},le="1.0"}}': quick,
        f'{name},le="5.0"}}': quick,
        f'{name},le="10.0"}}': all_of_them,
        f'{name},le="+Inf"}}': all_of_them,
        f"api_request_duration_seconds_count{{{labels}}}": all_of_them,
    }


def _backup(*, hours: int, limit_hours: int) -> dict[str, str]:
    return {
        "sutazai_backup_age_seconds": f"{hours * HOUR}x40",
        "sutazai_backup_max_age_seconds": f"{limit_hours * HOUR}x40",
    }


CASES = [
    Case("every fourth answer is slow", "APIResponseSlow", _answers("GET", 5), {1: NONE, 8: ONE}),
    Case("one answer in forty is slow", "APIResponseSlow", _answers("GET", 0), {8: NONE}),
    Case("a few answers are slow at night", "APIResponseSlow", _answers("GET", 0.5, quick_a_step=0), {8: NONE}),
    Case(
        "answers are slow, and static files are not",
        "APIResponseSlow",
        {**_answers("GET", 5), **_answers("GET", 0, quick_a_step=200, endpoint="static")},
        {8: ONE},
    ),
    Case("models are slow", "APIResponseSlow", _answers("POST", 5), {8: NONE}),
    Case("one request in ten fails", "APIErrorsHigh", _requests(10, 70), {1: NONE, 8: ONE}),
    Case("one request in fifty fails", "APIErrorsHigh", _requests(2, 78), {8: NONE}),
    Case("one stream in ten breaks off", "APIErrorsHigh", _requests(10, 70, bad_status=200), {1: NONE, 8: ONE}),
    Case(
        "two requests fail at night, while the watch asks for health as ever",
        "APIErrorsHigh",
        {
            'api_request_total{method="GET",endpoint="agents",status="500"}': "0x12 2x27",
            'api_errors_total{method="GET",endpoint="agents",error_type="http-500",fault="server"}': "0x12 2x27",
            'api_request_total{method="GET",endpoint="health",status="200"}': "0+1x40",
        },
        {4: NONE, 6: NONE, 8: NONE},
    ),
    Case(
        "one request in ten fails, and browsers ask for many files",
        "APIErrorsHigh",
        {
            **_requests(10, 70),
            **{f'api_request_total{{method="GET",endpoint="{name}",status="200"}}': "0+500x40" for name in POLLS},
        },
        {8: ONE},
    ),
    Case(
        "health is answered by 503, which has alerts of its own",
        "APIErrorsHigh",
        {
            **_requests(2, 78),
            'api_request_total{method="GET",endpoint="health-ready",status="503"}': "0+50x40",
            'api_errors_total{method="GET",endpoint="health-ready",error_type="http-503",fault="server"}': "0+50x40",
        },
        {8: NONE},
    ),
    Case(
        "one pool of two is nearly full, in one process of two, and free again later",
        "PoolNearlyFull",
        {
            'sutazai_pool_utilisation{process="web",pool="ollama",pid="1"}': "0.2x40",
            'sutazai_pool_utilisation{process="web",pool="database",pid="1"}': "0.9x20 0.5x19",
            'sutazai_pool_utilisation{process="web",pool="database",pid="2"}': "0.1x40",
            'sutazai_pool_utilisation{process="worker",pool="database",pid="3"}': "0.8x40",
        },
        {0: NONE, 2: [{"pool": "database", "process": "web"}], 5: [{"pool": "database", "process": "web"}], 8: NONE},
    ),
    Case(
        "a pool is nearly full on one host of two",
        "PoolNearlyFull",
        {
            'sutazai_pool_utilisation{process="web",pool="database",instance="a"}': "0.2x40",
            'sutazai_pool_utilisation{process="web",pool="database",instance="b"}': "0.9x40",
        },
        {2: [{"instance": "b", "pool": "database", "process": "web"}]},
    ),
    Case("a thousand people", "ActiveSessionsHigh", {"sutazai_sign_in_sessions": "1000x40"}, {8: NONE}),
    Case("one more", "ActiveSessionsHigh", {"sutazai_sign_in_sessions": "1001x40"}, {4: NONE, 8: ONE}),
    Case("the web process answers", "APIHealthEndpointDown", {"sutazai_health_up": "1x40"}, {8: NONE}),
    Case(
        "it stops and is back",
        "APIHealthEndpointDown",
        {"sutazai_health_up": "1x8 0x11 1x20"},
        {2: NONE, 4: ONE, 8: NONE},
    ),
    Case("it is away for half a minute", "APIHealthEndpointDown", {"sutazai_health_up": "1x8 0x1 1x30"}, {3: NONE}),
    Case("nobody can be asked", "APIHealthEndpointDown", {"sutazai_health_seconds": "1x40"}, {8: ONE}),
    Case(
        "the host that watches is well, and one of two others does not answer Prometheus",
        "APIHealthEndpointDown",
        {
            'sutazai_health_up{instance="a"}': "1x40",
            'up{instance="a",job="sutazai"}': "1x40",
            'up{instance="b",job="sutazai"}': "0x40",
            'up{instance="c",job="sutazai"}': "1x40",
            'up{instance="d",job="node"}': "0x40",
        },
        {0: NONE, 8: [{"instance": "b"}]},
    ),
    Case(
        "two hosts were asked, and the web process of one does not answer",
        "APIHealthEndpointDown",
        {'sutazai_health_up{instance="a"}': "1x40", 'sutazai_health_up{instance="b"}': "0x40"},
        {0: NONE, 8: [{"instance": "b"}]},
    ),
    Case("health takes two seconds", "APIResponseTimeSlow", {"sutazai_health_seconds": "2x40"}, {1: NONE, 3: ONE}),
    Case(
        "health takes two seconds on one host of two",
        "APIResponseTimeSlow",
        {'sutazai_health_seconds{instance="a"}': "0.1x40", 'sutazai_health_seconds{instance="b"}': "2x40"},
        {8: [{"instance": "b"}]},
    ),
    Case("health takes half a second", "APIResponseTimeSlow", {"sutazai_health_seconds": "0.5x40"}, {8: NONE}),
    Case(
        "the broker is down and the cache half so",
        "APIDependencyMissing",
        {
            'api_dependency_status{dependency="broker"}': "0x40",
            'api_dependency_status{dependency="cache"}': "0.5x40",
            'api_dependency_status{dependency="database"}': "1x40",
        },
        {4: NONE, 6: [{"dependency": "broker"}]},
    ),
    Case(
        "one host of two cannot reach the broker",
        "APIDependencyMissing",
        {
            'api_dependency_status{dependency="broker",instance="a"}': "1x40",
            'api_dependency_status{dependency="broker",instance="b"}': "0x40",
        },
        {4: NONE, 6: [{"dependency": "broker", "instance": "b"}]},
    ),
    Case(
        "a tenth of the disk is left",
        "DiskNearlyFull",
        {"sutazai_disk_free_bytes": "10x40", "sutazai_disk_size_bytes": "100x40"},
        {8: NONE},
    ),
    Case(
        "a little less",
        "DiskNearlyFull",
        {"sutazai_disk_free_bytes": "9x40", "sutazai_disk_size_bytes": "100x40"},
        {4: NONE, 6: ONE},
    ),
    Case(
        "the larger disk of two hosts is empty and the other full",
        "DiskNearlyFull",
        {
            'sutazai_disk_free_bytes{folder="data",instance="a"}': "900x40",
            'sutazai_disk_size_bytes{folder="data",instance="a"}': "1000x40",
            'sutazai_disk_free_bytes{folder="data",instance="b"}': "9x40",
            'sutazai_disk_size_bytes{folder="data",instance="b"}': "100x40",
        },
        {4: NONE, 6: [{"folder": "data", "instance": "b"}]},
    ),
    Case(
        "the disk of the backups is full, and that of the data is not",
        "DiskNearlyFull",
        {
            'sutazai_disk_free_bytes{folder="data"}': "90x40",
            'sutazai_disk_size_bytes{folder="data"}': "100x40",
            'sutazai_disk_free_bytes{folder="backups"}': "1x40",
            'sutazai_disk_size_bytes{folder="backups"}': "1000x40",
        },
        {6: [{"folder": "backups"}]},
    ),
    Case("the log holds", "AuditChainBroken", {"sutazai_audit_log_intact": "1x40"}, {8: NONE}),
    Case("the log does not hold", "AuditChainBroken", {"sutazai_audit_log_intact": "1x4 0x35"}, {1: NONE, 2: ONE}),
    Case("nobody has checked", "AuditChainBroken", {"sutazai_health_up": "1x40"}, {8: NONE}),
    Case(
        "a check finds the log damaged, and no other follows",
        "AuditFailing",
        {
            'sutazai_audit_failures_total{what="damaged"}': "0x12 1x27",
            'sutazai_audit_failures_total{what="not-written"}': "3x40",
        },
        {3: NONE, 4: [{"what": "damaged"}], 10: NONE},
    ),
    Case(
        "refusals are lost",
        "AuditFailing",
        {'sutazai_audit_failures_total{what="not-written"}': "0+1x40"},
        {8: [{"what": "not-written"}]},
    ),
    Case(
        "refusals are written down later",
        "AuditFailing",
        {'sutazai_audit_failures_total{what="written-later"}': "0+5x40"},
        {8: NONE},
    ),
    Case("the database holds", "DatabaseDamaged", {"sutazai_database_intact": "1x40"}, {8: NONE}),
    Case("the database is damaged", "DatabaseDamaged", {"sutazai_database_intact": "1x4 0x35"}, {1: NONE, 2: ONE}),
    Case("a backup of yesterday", "BackupTooOld", _backup(hours=25, limit_hours=26), {8: NONE}),
    Case("one of the day before", "BackupTooOld", _backup(hours=27, limit_hours=26), {6: ONE}),
    Case(
        "one of six days ago, where one a week is made", "BackupTooOld", _backup(hours=144, limit_hours=170), {8: NONE}
    ),
    Case("no backup was ever made", "BackupTooOld", {"sutazai_health_up": "1x40"}, {8: NONE}),
    Case(
        "tasks wait for one model of two",
        "QueueWaitLong",
        {
            "sutazai_queue_wait_target_seconds": "60x40",
            'sutazai_oldest_queued_seconds{model="tinyllama:latest"}': "61x40",
            'sutazai_oldest_queued_seconds{model="llama3.2:latest"}': "59x40",
        },
        {0: NONE, 2: [{"model": "tinyllama:latest"}]},
    ),
    Case(
        "a node answers, and its breaker stays open; that of another opens for half a minute",
        "NodeLost",
        {
            'sutazai_node_up{node="a"}': "1x40",
            'sutazai_node_up{node="b"}': "1x40",
            'sutazai_node_breaker_open_seconds{node="a"}': "0x4 0+15x35",
            'sutazai_node_breaker_open_seconds{node="b"}': "0x4 15 30 0x33",
        },
        {3: NONE, 6: [{"node": "a"}], 8: [{"node": "a"}]},
    ),
    Case(
        "an operator trips a breaker, which is open for a minute",
        "NodeLost",
        {
            'sutazai_node_up{node="a"}': "1x40",
            'sutazai_node_breaker_open_seconds{node="a"}': "0x4 0+15x5 0x29",
        },
        {4: NONE, 6: NONE},
    ),
    Case(
        "a node comes and goes, and its breaker stays open",
        "NodeLost",
        {
            'sutazai_node_up{node="a"}': " ".join(["0 1"] * 20),
            'sutazai_node_breaker_open_seconds{node="a"}': "0+15x40",
        },
        {8: [{"node": "a"}]},
    ),
    Case(
        "one node of two is lost, then both",
        "NodeLost",
        {'sutazai_node_up{node="a"}': "0x40", 'sutazai_node_up{node="b"}': "1x20 0x19"},
        {0: NONE, 3: [{"node": "a"}], 8: [{"node": "a"}, {"node": "b"}]},
    ),
]


def series_of(text: str) -> tuple[str, dict[str, str]]:
    """Read a series as promtool writes it: name and labels."""
    name, _, labels = text.partition("{")
    return name, dict(re.findall(r'(\w+)="([^"]*)"', labels))


def values_of(text: str) -> list[float]:
    """Read values as promtool writes them: "1x3" is four times 1, "0+5x2" is 0, 5 and 10."""
    values: list[float] = []
    for part in text.split():
        start, step, times = re.fullmatch(r"([\d.]+)(?:\+([\d.]+))?(?:x(\d+))?", part).groups()
        values += [float(start) + float(step or 0) * number for number in range(int(times or 0) + 1)]
    return values
