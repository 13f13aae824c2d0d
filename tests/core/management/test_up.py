"""The real group, once: started, wounded, stopped."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.program import PATIENCE_SECONDS, ROLES, Program
from tests.services.server import free_port


@pytest.fixture
def program(tmp_path) -> Iterator[Program]:
    with Program(tmp_path, is_bare=True, SUTAZAI_WEB_OVERLAP_SECONDS="5") as running:
        yield running


def are_replaced(program: Program, before: dict[str, list[int]]) -> bool:
    """Tell whether each process has another one in its place, but for the parent of the web processes."""
    now = {role: program.pids(role) for role in ROLES}
    others = [role for role in ROLES if role != "web-master"]
    return now["web-master"] == before["web-master"] and all(
        len(now[role]) == 1 and now[role] != before[role] for role in others
    )


def ask(program: Program, key: str, **body: str) -> dict[str, Any]:
    """Chat with the agent that answers whoever names none."""
    headers = {"Authorization": f"Bearer {key}"}
    response = requests.post(f"{program.url}/api/v1/chat/", json=body, headers=headers, timeout=PATIENCE_SECONDS)
    response.raise_for_status()
    return response.json()


def test_the_group_serves_heals_and_leaves_nothing_behind(program, wait_until):
    wait_until(lambda: program.says("SutazAI is ready at"))
    assert program.says("Sign in as operator, password ")
    key = program.manage("create_api_key", "--user", "operator")
    answer = ask(program, key, message="hello")
    assert set(answer) == {"response", "model", "cached", "session", "task", "truncated", "degraded"}
    assert (answer["model"], answer["cached"], answer["truncated"], answer["degraded"]) == (
        "builtin",
        False,
        False,
        True,
    )

    # The first operator and the key are in the audit log, and sealed a moment later.
    wait_until(lambda: program.manage("audit", "verify") == "2 sealed entries are intact.")

    refused = program.try_another()
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"Port {program.port} on 127.0.0.1 cannot be used")
    refused = program.try_another(SUTAZAI_PORT=str(free_port()))
    assert refused.returncode == 1
    assert refused.stderr.startswith("SutazAI runs on")

    os.kill(program.pids("web")[0], signal.SIGKILL)
    wait_until(lambda: program.says("Unexpected exit from worker-1"))
    wait_until(program.answers)

    before = {role: program.pids(role) for role in ROLES}
    assert {role: len(pids) for role, pids in before.items()} == dict.fromkeys(ROLES, 1)
    program.manage("restart")
    wait_until(lambda: are_replaced(program, before))
    wait_until(program.is_ready)

    program.process.send_signal(signal.SIGINT)
    assert program.process.wait(30) == 0
    assert program.left_behind() == []

    program.start()
    wait_until(lambda: program.says("SutazAI is ready at"))
    assert not program.says("password")  # the operator is there already, and so is everything else
    assert ask(program, key, message="hello again", session=answer["session"])["session"] == answer["session"]


def test_nothing_outlives_a_killed_group(program, wait_until):
    assert len(program.left_behind()) >= len(ROLES)

    program.process.kill()

    wait_until(lambda: program.left_behind() == [])
    assert not program.answers()
