import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from django.db import connection

from core.ops.processes import ProcessIdentity, is_alive
from tests.services import Server, packages
from tests.services.server import ServerError
from tests.services.servers import Redis

REDIS_IN_A_PROCESS = """
import sys, threading
from pathlib import Path
from tests.services.servers import Redis
redis = Redis(Path(sys.argv[1]))
redis.start()
redis.wait_until_ready()
print(redis.pid, flush=True)
threading.Event().wait()
"""


@pytest.fixture
def folder(tmp_path_factory) -> Path:
    """A folder that a server's own user can reach."""
    folder = tmp_path_factory.mktemp("servers")
    for part in (folder, *folder.parents[:2]):
        part.chmod(0o755)
    return folder


@pytest.mark.both_databases
@pytest.mark.django_db
def test_this_run_is_on_the_database_that_was_asked_for():
    assert connection.vendor == ("postgresql" if "DATABASE_URL" in os.environ else "sqlite")


@pytest.mark.postgres
def test_postgresql_takes_queries(postgres_url):
    with psycopg.connect(postgres_url) as database:
        assert database.execute("SHOW fsync").fetchone() == ("on",)


@pytest.mark.redis
def test_a_killed_server_starts_again_on_its_port(folder):
    redis = Redis(folder)
    redis.start()
    redis.wait_until_ready()

    redis.kill()
    assert not redis.is_ready()
    redis.start()
    redis.wait_until_ready()
    redis.stop()
    assert not redis.is_ready()


@pytest.mark.redis
def test_a_server_dies_with_the_process_that_started_it(folder, wait_until):
    command = [sys.executable, "-c", REDIS_IN_A_PROCESS, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        owner = str(ProcessIdentity.of(int(process.stdout.readline())))
        process.kill()
    wait_until(lambda: not is_alive(owner))


@pytest.mark.rabbitmq
def test_everything_is_gone_after_a_stop_signal(wait_until):
    command = [sys.executable, "-m", "tests.services", "run", "--", "sh", "-c", "env; echo ready; exec sleep 100"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = list(iter(process.stdout.readline, "ready\n"))
        assert any(line.startswith("SUTAZAI_TEST_RABBITMQ_URL=amqp://") for line in lines)
        owners = []
        for pid in _descendants_of(process.pid):
            with suppress(ProcessLookupError):  # RabbitMQ starts programs that end at once
                owners.append(str(ProcessIdentity.of(pid)))

        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    assert len(owners) >= 5  # epmd, RabbitMQ, Redis, PostgreSQL, the command
    wait_until(lambda: not any(map(is_alive, owners)))


def test_a_server_that_does_not_start_says_why(folder):
    class Broken(Server):
        name = "broken"
        system_user = "root"

        def command(self):
            return ["sh", "-c", "echo no space left >&2; exit 1"]

        def is_ready(self):
            return False

    server = Broken(folder)
    server.start()
    with pytest.raises(ServerError, match="no space left"):
        server.wait_until_ready()


def test_missing_packages_are_named_where_they_cannot_be_installed(monkeypatch):
    monkeypatch.setattr(packages, "PROOFS", {"usr/bin/no-such-program": "no-such-package"})
    monkeypatch.setattr(packages.os, "geteuid", lambda: 1000)

    with pytest.raises(SystemExit, match=r"apt-get install .*no-such-package"):
        packages.ensure_packages()


def _descendants_of(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children] + [each for child in children for each in _descendants_of(int(child))]
