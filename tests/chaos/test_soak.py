"""The counts of a soak, on what clients may have met."""

import subprocess
import sys

import pytest

from bench.chaos.verdict import Verdict
from bench.soak import probe
from bench.soak.faults import AFTER_SECONDS, Window
from bench.soak.load import Read
from bench.soak.memory import EVERY_SECONDS, SETTLED_SECONDS, Sample, slope_of
from bench.soak.probe import Probe
from bench.soak.verdict import NO_FAULT, SoakVerdict, judge
from tests.program import ROOT
from tests.servers import web_server
from tests.services.server import free_port

FAULT = Window("killed", begun=100.0, ended=110.0)


def verdict_of(*, probes: list[Probe] | None = None, reads: list[Read] | None = None) -> SoakVerdict:
    whole = [Probe(float(number), "/health", 0.01) for number in range(1000)]
    return judge(Verdict("soak"), probes=probes or whole, calls=[], reads=reads or [], windows=[FAULT])


def probes_of_which(failed: int, *, at: float) -> list[Probe]:
    return [Probe(at, "/health", 0.01, flaw="timeout" if number < failed else "") for number in range(1000)]


@pytest.mark.parametrize(("failed", "is_broken"), [(0, False), (1, False), (2, True)])
def test_one_probe_of_a_thousand_may_fail_whatever_the_fault(failed: int, is_broken: bool) -> None:
    assert bool(verdict_of(probes=probes_of_which(failed, at=FAULT.begun)).broken()) is is_broken


def test_probes_that_failed_are_told_by_fault() -> None:
    early, during = probes_of_which(2, at=50.0), probes_of_which(3, at=105.0)
    assert verdict_of(probes=[*early, *during]).failed == {NO_FAULT: 2, FAULT.title: 3}


@pytest.mark.parametrize(
    ("at", "is_broken"), [(99.0, True), (101.0, False), (110.0 + AFTER_SECONDS, False), (111.0 + AFTER_SECONDS, True)]
)
def test_a_list_may_fail_only_while_a_fault_is_there(at: float, is_broken: bool) -> None:
    read = Read(at, "/api/v1/agents/", seconds=0.5, flaw="status 503")
    assert bool(verdict_of(reads=[read]).broken()) is is_broken


def test_whatever_was_lost_breaks_a_requirement() -> None:
    verdict = verdict_of()
    assert verdict.broken() == {}
    verdict.tasks.lost = 1
    assert verdict.broken() == {"lost": 1}


def test_the_growth_of_memory_is_told_once_it_has_settled() -> None:
    first = [Sample(at, 100 + at) for at in range(0, int(SETTLED_SECONDS), int(EVERY_SECONDS))]
    assert slope_of(first) is None
    later = [Sample(SETTLED_SECONDS + number * EVERY_SECONDS, 300 + number / 360) for number in range(100)]
    assert slope_of([*first, *later]) == pytest.approx(1.0)


def probes_of(url: str) -> list[Probe]:
    """What the prober tells of a server within its first probes."""
    command = [sys.executable, "-m", "bench.soak.probe", url, "key"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as prober:
        assert prober.stdout is not None
        lines = [prober.stdout.readline() for _ in range(4)]
        rest, _ = prober.communicate(timeout=30)
    assert prober.returncode == 0
    return probe.read(iter([*lines, *rest.splitlines()]))


def test_probes_ask_for_one_page_after_the_other() -> None:
    with web_server() as url:
        found = probes_of(url)
    assert {one.path for one in found} == set(probe.PATHS)
    assert {one.flaw for one in found} == {""}


def test_probes_tell_that_nobody_answers() -> None:
    assert {one.flaw for one in probes_of(f"http://127.0.0.1:{free_port()}")} == {"ConnectionRefusedError"}
