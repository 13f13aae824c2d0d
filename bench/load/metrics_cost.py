"""What metrics cost: the same load by turns on the program as it is, and on one that counts nothing.

The latter is the former with `unmetered/sitecustomize.py`, which takes the counting out of prometheus_client. While
metrics are on, they are also read, as often as deploy/prometheus/prometheus.yml has Prometheus do it.
"""

import argparse
import statistics
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from bench import report
from bench.group import full_backends
from bench.load.measure import FULL, QUICK, Server, serving
from bench.load.verdict import Measured
from tests.ollama_server.embedded import allow_many_sockets

UNMETERED = Path(__file__).with_name("unmetered")
SCRAPE_SECONDS = 15.0
GOAL_PERCENT = 5
ROUNDS = 5
SECONDS = 30.0
PER_SECOND = 40.0
WARM_UP_SECONDS = 10.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.load.metrics_cost", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small numbers, to try it out; writes no page")
    is_quick = parser.parse_args().quick
    allow_many_sockets()
    surroundings = report.surroundings(f"python -m bench.load.metrics_cost{' --quick' if is_quick else ''}")
    rounds, seconds = (1, 5.0) if is_quick else (ROUNDS, SECONDS)
    found: dict[bool, list[Measured]] = {True: [], False: []}
    with full_backends() as backends, serving(backends, QUICK if is_quick else FULL) as server:
        for _ in range(rounds):
            for is_counting, measured in found.items():
                measured.append(_round(server, seconds, is_counting=is_counting))
    text = "\n\n".join([surroundings, cost_table(found, rounds, seconds)])
    print(f"\n{text}")
    if not is_quick:
        report.write_section("metrics-cost", text)
    return 0


def _round(server: Server, seconds: float, *, is_counting: bool) -> Measured:
    """Start the program anew, with or without metrics, and load it."""
    group = server.target.group
    group.stop()
    group.environment.pop("PYTHONPATH", None)
    if not is_counting:
        group.environment["PYTHONPATH"] = str(UNMETERED)
    group.start()
    server.load(PER_SECOND, WARM_UP_SECONDS)
    if not is_counting:
        return server.load(PER_SECOND, seconds)
    with _prometheus(server):
        return server.load(PER_SECOND, seconds)


@contextmanager
def _prometheus(server: Server) -> Iterator[None]:
    """Read the metrics at its pace. Raises RuntimeError where there are none."""
    is_over = threading.Event()
    flaws: list[str] = []

    def scrape() -> None:
        headers = {"Authorization": f"Bearer {server.target.key}"}
        while True:
            page = requests.get(f"{server.target.url}/metrics", headers=headers, timeout=10)
            if "api_request_total{" not in page.text:
                flaws.append(f"status {page.status_code}: {page.text[:200]}")
            if is_over.wait(SCRAPE_SECONDS):
                return

    thread = threading.Thread(target=scrape, name="prometheus")
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
    if flaws:
        raise RuntimeError(f"there are no metrics: {flaws[0]}")


def cost_table(found: dict[bool, list[Measured]], rounds: int, seconds: float) -> str:
    with_, without = ([per_request(item) for item in found[is_counting]] for is_counting in (True, False))
    invalid = [measured.verdict for rounds_ in found.values() for measured in rounds_ if not measured.is_valid]
    cost = 100 * (1 - statistics.median(without) / statistics.median(with_))
    every = f"metrics read every {SCRAPE_SECONDS:g} s"
    return report.table(
        ("figure", "goal", "PostgreSQL + Redis"),
        [
            ("CPU of web for a request, with metrics", "", report.spread(with_, 2, " ms")),
            ("the same without", "", report.spread(without, 2, " ms")),
            ("share of throughput that metrics cost", f"{GOAL_PERCENT} %", f"{cost:.1f} %"),
            ("rounds that were not valid", "0", "; ".join([f"{len(invalid)} of {2 * rounds}", *invalid])),
            ("settings", "", f"{rounds} rounds by turns of {seconds:g} s, {PER_SECOND:g} requests a second, {every}"),
        ],
    )


def per_request(measured: Measured) -> float:
    """Milliseconds of the web process. Where it is what limits, its time is the throughput."""
    return 1000 * measured.costs.cores["web"] * measured.costs.seconds / measured.run.requests


if __name__ == "__main__":
    sys.exit(main())
