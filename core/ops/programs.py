"""The programs that serve: web, worker and beat, as the settings want them."""

import http.client
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from django.conf import settings

from core.ops.supervisor import Program

# Streams and waiting callers stay open long; granian's default would refuse the 1025th.
MAX_OPEN_REQUESTS = 100_000
BACKLOG = 4096
# Open streams would hold a stopping web process for ever.
WEB_STOP_SECONDS = 5
# Granian's own lines go to the root logger, which the settings configure.
GRANIAN_LOGGING = Path(__file__).with_name("granian_logging.json")
HEADERS_TIMEOUT_SECONDS = 10  # for a request's headers to arrive; the dispatcher limits the time of its body
# Of a worker, besides those that run tasks (see `agents.engine.room`).
SPARE_THREADS = 4
START_TIMEOUT_SECONDS = 0.5
# Celery warns at length because messages might be pickled; ours are JSON only.
NO_ROOT_WARNING = "ignore:You're running the worker with superuser privileges"


def programs(environment: Mapping[str, str]) -> list[Program]:
    """Return the group. environment: what is added to our own for each of them."""
    return [
        Program("web", _web(), environment, renew_signal=signal.SIGHUP),
        Program("worker", _worker(), {**environment, "PYTHONWARNINGS": NO_ROOT_WARNING}),
        Program("beat", _beat(), environment),
    ]


def web_address() -> str:
    """Return where people reach the web process from this machine."""
    return f"http://{_local_host()}:{settings.PORT}"


def web_answers(timeout_seconds: float = START_TIMEOUT_SECONDS) -> bool:
    """Tell whether the web process serves: it listens long before."""
    connection = http.client.HTTPConnection(_local_host(), settings.PORT, timeout=timeout_seconds)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _local_host() -> str:
    return "127.0.0.1" if settings.HOST in {"0.0.0.0", "::"} else settings.HOST  # noqa: S104 compared, not bound


def _web() -> list[str]:
    """Processes that share a port: each has a queue of its own there, which the kernel fills by turns.

    One that dies is replaced by their parent, and the others go on.
    """
    return [
        *(_script("granian"), "sutazai.asgi:application", "--interface", "asgi"),
        *("--host", settings.HOST, "--port", str(settings.PORT)),
        *("--workers", str(settings.WEB_PROCESSES), "--workers-kill-timeout", str(WEB_STOP_SECONDS)),
        *("--respawn-failed-workers", "--respawn-interval", str(settings.WEB_OVERLAP_SECONDS)),
        *("--backlog", str(BACKLOG), "--backpressure", str(MAX_OPEN_REQUESTS)),
        *("--http1-header-read-timeout", str(HEADERS_TIMEOUT_SECONDS * 1000)),
        *("--log-level", "warning", "--log-config", str(GRANIAN_LOGGING)),
    ]


def _worker() -> list[str]:
    """Threads, because a runner waits for a model nearly all its time. Some are always free for maintenance.

    A process of its own for maintenance would cost as much memory as the worker, and sleep nearly always.
    """
    routed = {str(route["queue"]) for route in settings.CELERY_TASK_ROUTES.values()}
    queues = sorted({settings.CELERY_TASK_DEFAULT_QUEUE, *routed})
    return [
        *(_script("celery"), "--quiet", "--skip-checks", "--app", "sutazai", "worker", "--pool", "threads"),
        *(
            "--concurrency",
            str(settings.RUNNER_THREADS + SPARE_THREADS),
            "--prefetch-multiplier",
            "1",
            "--queues",
            ",".join(queues),
        ),
        # Workers need not know each other: the rows say who runs what.
        *("--without-gossip", "--without-mingle", "--loglevel", "WARNING"),
    ]


def _beat() -> list[str]:
    return [_script("celery"), "--quiet", "--skip-checks", "--app", "sutazai", "beat", "--loglevel", "WARNING"]


def _script(name: str) -> str:
    """Return a program of the environment that runs us, activated or not."""
    return str(Path(sys.executable).with_name(name))
