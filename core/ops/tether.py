"""Become a command that dies with its parent: `python -m core.ops.tether <parent pid> <command> …`.

The kernel keeps the request across exec, so it holds before the command has read its first file, and for commands
that know nothing of it. Cheaper and safer than `preexec_fn` in a parent with threads.
"""

import os
import sys

from core.ops.processes import die_with_parent


def command(*arguments: str) -> list[str]:
    """Wrap a command, so that it dies with the calling process. The working directory must be the project's."""
    # -S and -E: neither site packages nor Python's environment variables, which the command still gets.
    return [sys.executable, "-S", "-E", "-m", "core.ops.tether", str(os.getpid()), *arguments]


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
