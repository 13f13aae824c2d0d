"""A short form of `make chaos`: real groups, real kills, and every promise checked."""

import asyncio
from pathlib import Path

import pytest

from bench.chaos.gateway.calls import Outcome
from bench.chaos.gateway.faults import CALL_FAULTS
from bench.chaos.gateway.run import run_gateway
from bench.chaos.outages import TASK_FAULTS
from bench.chaos.run import SHORT, faults_for, run_backend

pytestmark = pytest.mark.chaos

SEED = 20
# Under these faults some tasks must run more than once; if none did, the fault missed.
WITH_RERUNS = ("kill", "cut", "eof", "stop")


@pytest.mark.parametrize(
    ("backend", "names"),
    [
        ("embedded", ("kill", "messages", "cut", "stall", "stop", "lock", "beat", "beats")),
        ("small-disk", ("disk",)),
        ("own-clock", ("machine-clock",)),
        pytest.param(
            "rabbitmq",
            ("kill", "flush", "broker", "eof", "database", "redis"),
            marks=[pytest.mark.postgres, pytest.mark.redis, pytest.mark.rabbitmq],
        ),
        pytest.param("rabbitmq", ("clock",), marks=[pytest.mark.postgres, pytest.mark.redis, pytest.mark.rabbitmq]),
    ],
)
def test_whatever_dies_every_accepted_task_ends_once_and_whole(
    backend: str, names: tuple[str, ...], tmp_path: Path
) -> None:
    faults = faults_for(backend, names, TASK_FAULTS)
    assert len(faults) == len(names)
    _, verdicts = asyncio.run(run_backend(backend, faults, SHORT, seed=SEED, folder=tmp_path))
    if skipped := [verdict.skipped for verdict in verdicts if verdict.skipped]:
        pytest.skip(skipped[0])
    broken = [(verdict.fault, verdict.broken(SHORT.rerun_limit_seconds), verdict.examples) for verdict in verdicts]
    assert [verdict for verdict in broken if verdict[1]] == []
    for fault, verdict in zip(faults, verdicts, strict=True):
        assert verdict.accepted >= SHORT.tasks
        assert (verdict.executions > verdict.accepted) >= (fault.name in WITH_RERUNS), verdict


@pytest.mark.parametrize(
    ("backend", "lane", "names"),
    [
        ("embedded", "celery", ("worker", "lock")),
        pytest.param("redis", "quick", ("database", "redis"), marks=[pytest.mark.postgres, pytest.mark.redis]),
    ],
)
def test_whatever_dies_every_call_is_answered_or_told_why_not(backend: str, lane: str, names: tuple[str, ...]) -> None:
    faults = [fault for fault in CALL_FAULTS if fault.name in names]
    _, verdicts = asyncio.run(run_gateway(backend, lane, faults, SHORT, seed=SEED))
    assert not any(verdict.broken() for verdict in verdicts), verdicts
    assert all(verdict.outcomes[Outcome.ANSWERED] for verdict in verdicts)
