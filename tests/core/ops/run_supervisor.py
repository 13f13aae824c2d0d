"""A supervised group for tests, in a process of its own; its programs are shell scripts, as JSON."""

import json
import sys
from pathlib import Path

from core.ops.joint_log import JointLog
from core.ops.supervisor import NAME, Program, Supervisor


def main() -> None:
    programs = [Program(name, ["sh", "-c", script]) for name, script in json.loads(sys.argv[1]).items()]
    log = JointLog(sys.stdout.buffer, [NAME, *(program.name for program in programs)], colour=False)
    Supervisor(programs, log, working_directory=Path.cwd(), on_ready=lambda: ["All are running."]).run()
    log.close()


if __name__ == "__main__":
    main()
