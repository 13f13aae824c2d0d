"""The counts of a soak, on what clients may have met."""

import asyncio
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench.chaos.gateway.calls import Outcome
from bench.chaos.verdict import Verdict
from bench.soak import probe
from bench.soak.__main__ import soak
from bench.soak.faults import AFTER_SECONDS, Window
from bench.soak.load import TASKS, Read
from bench.soak.memory import EVERY_SECONDS, SETTLED_SECONDS, Sample, slope_of
from bench.soak.probe import Probe
from bench.soak.verdict import NO_FAULT, SoakVerdict, judge
from tests.program import ROOT
from tests.services.server import free_port

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
FAULT = Window("killed", begun=100.0, ended=110.0)


def verdict_of(*, probes: list[Probe] | None = None, reads: list[Read] | None = None) -> SoakVerdict:
    whole = [Probe(float(number), "/health", 0.01) for number in range(1000)]
    return judge(Verdict("soak"), probes=probes or whole, due=1000, calls=[], reads=reads or [], windows=[FAULT])


def probes_of_which(failed: int, *, at: float) -> list[Probe]:
    return [Probe(at, "/health", 0.01, flaw="timeout" if number < failed else "") for number in range(1000)]


@pytest.mark.parametrize(("failed", "is_broken"), [(0, False), (1, False), (2, True)])
def test_one_probe_of_a_thousand_may_fail_whatever_the_fault(failed: int, is_broken: bool) -> None:
    assert bool(verdict_of(probes=probes_of_which(failed, at=FAULT.begun)).broken()) is is_broken


@pytest.mark.parametrize(("made", "is_broken"), [(990, False), (989, True)])
def test_probes_that_were_not_made_break_a_requirement(made: int, is_broken: bool) -> None:
    assert bool(verdict_of(probes=probes_of_which(0, at=50.0)[:made]).broken()) is is_broken


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


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A server that answers everybody alike, and hangs up."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            self.request.sendall(answer)

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            serving.join()


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
    with answering(WHOLE) as url:
        found = probes_of(url)
    assert {one.path for one in found} == set(probe.PATHS)
    assert {one.flaw for one in found} == {""}


def test_probes_tell_that_nobody_answers() -> None:
    assert {one.flaw for one in probes_of(f"http://127.0.0.1:{free_port()}")} == {"ConnectionRefusedError"}


@pytest.mark.parametrize(
    ("answer", "flaw"),
    [
        (WHOLE, ""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", ""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no", "no answer"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", "no answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok", "ValueError"),
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 503 Service Unavailable"),
        (b"", "no answer"),
    ],
)
def test_only_whole_answers_of_success_count(answer: bytes, flaw: str) -> None:
    with answering(answer) as url:
        assert {one.flaw for one in probes_of(url)} == {flaw}


@pytest.mark.chaos
@pytest.mark.postgres
@pytest.mark.redis
@pytest.mark.rabbitmq
def test_a_short_soak_holds_all_but_how_quickly_a_busy_machine_answers() -> None:
    verdict, memory = asyncio.run(soak(40, seed=20))
    assert {name: count for name, count in verdict.broken().items() if name != "probes failed"} == {}
    assert verdict.tasks.accepted == 40 * TASKS
    assert verdict.reads
    assert verdict.calls[Outcome.ANSWERED]
    assert sum(not one.flaw for one in verdict.probes) > len(verdict.probes) / 2
    assert memory.most() > 0
