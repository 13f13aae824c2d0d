"""A supervised group for tests, in a process of its own; its programs are shell scripts, as JSON.

A name may be followed by the signal that has the program replace its processes.
"""

import json
import signal
import sys
from pathlib import Path

from core.ops.joint_log import JointLog
from core.ops.supervisor import NAME, Program, Supervisor


def main() -> None:
    programs = [_program(*name.split(), script=script) for name, script in json.loads(sys.argv[1]).items()]
    log = JointLog(sys.stdout.buffer, [NAME, *(program.name for program in programs)], colour=False)
    Supervisor(programs, log, working_directory=Path.cwd(), on_ready=lambda: ["All are running."]).run()
    log.close()


def _program(name: str, renew_signal: str = "", *, script: str) -> Program:
    signal_or_none = signal.Signals[f"SIG{renew_signal}"] if renew_signal else None
    return Program(name, ["sh", "-c", script], renew_signal=signal_or_none)


if __name__ == "__main__":
    main()
