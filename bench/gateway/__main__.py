"""Measure the gateway beside LiteLLM Proxy; see the package."""

import argparse
import asyncio
import sys

from bench import report
from bench.gateway import tables
from bench.gateway.measure import BACKENDS, FULL, QUICK, Run, Scale, measure, started
from tests.ollama_server.embedded import allow_many_sockets

COMMAND = "make bench-gateway"


def main() -> int:
    arguments = _parse()
    allow_many_sockets()
    text = measured_text(QUICK if arguments.quick else FULL, arguments.backend, command=_command(arguments))
    print(f"\n{text}")
    if not arguments.quick and arguments.backend == "both":
        report.write_section("gateway", text)
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.gateway", description="Measure the gateway.")
    parser.add_argument("--backend", choices=BACKENDS, default="both")
    parser.add_argument("--quick", action="store_true", help="small numbers, to try it out; writes no page")
    return parser.parse_args()


def _command(arguments: argparse.Namespace) -> str:
    is_whole = not arguments.quick and arguments.backend == "both"
    return COMMAND if is_whole else f"python -m bench.gateway {' '.join(sys.argv[1:])}"


def measured_text(scale: Scale, backend: str, *, command: str) -> str:
    """Measure, and write down what was found."""
    surroundings = report.surroundings(command)
    with started(scale, backend) as run:
        asyncio.run(measure(run))
    return "\n\n".join([surroundings, *found(run)])


def found(run: Run) -> list[str]:
    return [
        tables.settings_table(run),
        tables.compared_table(run),
        tables.shared_table(run),
        tables.details_table(run),
    ]


if __name__ == "__main__":
    sys.exit(main())
