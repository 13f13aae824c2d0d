"""The command line; see the package."""

import argparse
import os
import signal
import subprocess
import sys
import threading
from types import FrameType

from tests.services.group import running_services
from tests.services.packages import ensure_packages
from tests.services.server import ServerError

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """Someone asked us to end; leaves every `with` on its way out, as KeyboardInterrupt does."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


def main() -> int:
    arguments = _parse()
    for number in STOP_SIGNALS:
        signal.signal(number, _stop)
    try:
        if arguments.action == "install":
            ensure_packages()
            return 0
        with running_services() as services:
            try:
                if arguments.action == "run":
                    return _run(arguments.command, os.environ | services.environment())
                return _stay(services.environment())
            finally:
                for number in STOP_SIGNALS:  # a second Ctrl-C must not stop the cleaning up
                    signal.signal(number, signal.SIG_IGN)
    except Stopped as stopped:
        return stopped.exit_code
    except ServerError as error:
        print(error, file=sys.stderr)
        return 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.services", description="Private servers for tests.")
    actions = parser.add_subparsers(dest="action", required=True)
    run = actions.add_parser("run", help="run a command that finds the servers in its environment")
    run.add_argument("command", nargs="+")
    actions.add_parser("install", help="install the packages that are missing")
    actions.add_parser("up", help="keep them until Ctrl-C, and print how to reach them")
    return parser.parse_args()


def _stop(number: int, _frame: FrameType | None) -> None:
    raise Stopped(number)


def _run(command: list[str], environment: dict[str, str]) -> int:
    """Run the command to its end, also when we are asked to stop: it has servers to leave."""
    with subprocess.Popen(command, env=environment) as process:
        try:
            return process.wait()
        except Stopped as stopped:
            if stopped.exit_code != 128 + signal.SIGINT:  # Ctrl-C has reached it already
                process.send_signal(signal.SIGTERM)
            raise


def _stay(environment: dict[str, str]) -> int:
    for name, value in environment.items():
        print(f"export {name}={value}", flush=True)
    threading.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
