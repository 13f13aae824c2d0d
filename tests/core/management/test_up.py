"""The real group, once: started, wounded, stopped."""

import os
import signal
from collections.abc import Iterator

import pytest

from core.ops.processes import ProcessIdentity, is_alive
from tests.program import Up
from tests.services.server import free_port


@pytest.fixture
def up(tmp_path) -> Iterator[Up]:
    up = Up(tmp_path)
    yield up
    up.process.kill()
    up.process.wait()


def test_the_group_serves_heals_and_leaves_nothing_behind(up, wait_until):
    wait_until(lambda: up.says("SutazAI is ready at"), timeout_seconds=90)
    assert up.answers()
    assert up.says("Sign in as operator, password ")
    key = up.manage("create_api_key", "--user", "operator")
    answer = up.ask(key, message="hello")
    assert set(answer) == {"response", "model", "cached", "session", "task", "truncated", "degraded"}
    assert (answer["model"], answer["cached"], answer["truncated"], answer["degraded"]) == (
        "builtin",
        False,
        False,
        True,
    )

    # The first operator and the key are in the audit log, and sealed a moment later.
    wait_until(lambda: up.manage("audit", "verify") == "2 sealed entries are intact.", timeout_seconds=60)

    refused = up.try_another()
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"Port {up.port} on 127.0.0.1 cannot be used")
    refused = up.try_another(SUTAZAI_PORT=str(free_port()))
    assert refused.returncode == 1
    assert refused.stderr.startswith("SutazAI runs on")

    server_process = up.pids()["granian"][-1]
    os.kill(server_process, signal.SIGKILL)
    wait_until(lambda: up.says("web ended with exit code 1; starting it again now"))
    wait_until(up.answers, timeout_seconds=60)

    pids = up.pids()
    assert {name: len(found) for name, found in pids.items()} == {"granian": 2, "worker": 1, "beat": 1}
    owners = [str(ProcessIdentity.of(pid)) for found in pids.values() for pid in found]
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(30) == 0
    assert not any(map(is_alive, owners))

    up.start()
    wait_until(lambda: up.says("SutazAI is ready at"), timeout_seconds=90)
    assert not up.says("password")  # the operator is there already, and so is everything else
    assert up.ask(key, message="hello again", session=answer["session"])["session"] == answer["session"]


def test_nothing_outlives_a_killed_group(up, wait_until):
    wait_until(lambda: len(up.pids()["granian"]) == 2 and up.answers(), timeout_seconds=90)
    owners = [str(ProcessIdentity.of(pid)) for found in up.pids().values() for pid in found]

    up.process.kill()

    wait_until(lambda: not any(map(is_alive, owners)))
    assert not up.answers()
