"""Measure how many requests in a second the API answers in time; see the package."""

import argparse
import sys
from dataclasses import replace

from bench import report
from bench.gateway.measure import BACKENDS
from bench.load import tables
from bench.load.measure import FULL, QUICK, Found, Scale, default_web_processes, measure, serving
from tests.ollama_server.embedded import allow_many_sockets

COMMAND = "make bench-load"


def main() -> int:
    arguments = _parse()
    allow_many_sockets()
    scale = _scale(arguments)
    # Shorter rounds are told beside the figures; fewer rows, a chosen rate or one backend leave questions open.
    has_all = not (arguments.quick or arguments.rate) and arguments.backend == "both"
    surroundings = report.surroundings(COMMAND if scale is FULL else f"python -m bench.load {' '.join(sys.argv[1:])}")
    found = []
    for number, make_backends in enumerate(BACKENDS[arguments.backend]):
        with (
            make_backends() as backends,
            serving(backends, scale, web_processes=arguments.web_processes) as server,
        ):
            found.append(measure(server, scale, rate=arguments.rate, has_soak=number == 0))
            text = measured_text(surroundings, scale, found)
    print(f"\n{text}")
    if has_all:
        report.write_section("load", text)
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("--backend", choices=BACKENDS, default="both")
    parser.add_argument("--quick", action="store_true", help="small numbers, to try it out; writes no page")
    parser.add_argument("--rate", type=int, default=0, help="requests in a second, instead of the most that are held")
    parser.add_argument("--seconds", type=float, help="how long a round is")
    parser.add_argument("--rounds", type=int, help="how many there are")
    parser.add_argument("--soak-seconds", type=float, help="how long memory is watched under load; 0: not at all")
    parser.add_argument("--web-processes", type=int, default=default_web_processes(), help="SUTAZAI_WEB_PROCESSES")
    return parser.parse_args()


def _scale(arguments: argparse.Namespace) -> Scale:
    scale = QUICK if arguments.quick else FULL
    given = {
        "round_seconds": arguments.seconds,
        "rounds": arguments.rounds,
        "soak_seconds": arguments.soak_seconds,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    return replace(scale, **changes) if changes else scale


def measured_text(surroundings: str, scale: Scale, found: list[Found]) -> str:
    """Write down what was found."""
    parts = [surroundings, tables.settings_table(scale, found), tables.goals_table(found), tables.costs_table(found)]
    for item in found:
        parts += [f"**{item.server.target.name}**", tables.climb_table(item), tables.kinds_table(item)]
    return "\n\n".join(part for part in parts if part)


if __name__ == "__main__":
    sys.exit(main())
