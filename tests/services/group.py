"""All servers together: started at the same time, stopped whatever happens."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.services.packages import ensure_packages, program
from tests.services.servers import PostgreSQL, RabbitMQ, Redis

# Marker of the tests that need it, and the environment variable that names it.
SERVICE_VARIABLES = {
    "postgres": "SUTAZAI_TEST_POSTGRES_URL",
    "redis": "SUTAZAI_TEST_REDIS_URL",
    "rabbitmq": "SUTAZAI_TEST_RABBITMQ_URL",
    "chromium": "SUTAZAI_TEST_CHROMIUM",
    "promtool": "SUTAZAI_TEST_PROMTOOL",
}


@dataclass(frozen=True)
class Services:
    postgresql: PostgreSQL
    redis: Redis
    rabbitmq: RabbitMQ

    def environment(self) -> dict[str, str]:
        """Return the variables that tell tests where everything is."""
        return {
            SERVICE_VARIABLES["postgres"]: self.postgresql.url,
            SERVICE_VARIABLES["redis"]: self.redis.url,
            SERVICE_VARIABLES["rabbitmq"]: self.rabbitmq.url,
            SERVICE_VARIABLES["chromium"]: str(program("usr/bin/chromium")),
            SERVICE_VARIABLES["promtool"]: str(program("usr/bin/promtool")),
        }


@contextmanager
def running_services() -> Iterator[Services]:
    """Start all servers, wait until they answer, and stop them at the end."""
    ensure_packages()
    with ExitStack() as cleanup:
        # Started by root, the servers' own users must get there, whatever TMPDIR says.
        folder = Path(tempfile.mkdtemp(prefix="sutazai-services-", dir="/tmp" if os.geteuid() == 0 else None))
        cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)
        services = Services(PostgreSQL(folder), Redis(folder), RabbitMQ(folder))
        servers = [services.rabbitmq, services.redis, services.postgresql]  # the slowest starts first
        for server in servers:
            cleanup.callback(server.stop)
            server.prepare()
            server.start()
        for server in servers:
            server.wait_until_ready()
        yield services
