"""Looking whether a restored database is what was backed up, with the program's own commands where there are some."""

import os
import subprocess
import sys
from collections.abc import Mapping

from django.conf import settings

from core.logs import mask
from core.ops import tether
from core.ops.backup import databases
from core.ops.backup.databases import Copy, Database
from core.ops.backup.manifest import Manifest

MAX_SECONDS = 3600
SAID_CHARACTERS = 1000
# The group's processes count there; who only looks is none of them.
NOT_INHERITED = {"PROMETHEUS_MULTIPROC_DIR"}


class CommandFailedError(Exception):
    """A command of the program ended badly; the text is what it said."""


def differences(database: Database, found: Copy, manifest: Manifest) -> list[str]:
    """Name what is wrong with a restored database that nobody has changed since."""
    wrong = database.flaws(found.wrapper)
    counted = databases.count_rows(found.wrapper)
    for table in sorted({*counted, *manifest.rows}):
        now, then = counted.get(table), manifest.rows.get(table)
        if now != then:
            wrong.append(f"{table} has {_count(now)} instead of {_count(then)} rows")
    return wrong


def manage(*arguments: str, environment: Mapping[str, str]) -> str:
    """Run a management command in a process of its own; returns what it said. Raises CommandFailedError.

    environment: what is other for it. A variable takes the place of the file that may be named instead.
    """
    replaced = NOT_INHERITED | {f"{name}_FILE" for name in environment}
    try:
        done = subprocess.run(
            tether.command(sys.executable, "manage.py", *arguments),
            cwd=settings.BASE_DIR,
            env={**{name: value for name, value in os.environ.items() if name not in replaced}, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=MAX_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CommandFailedError(f"manage.py {arguments[0]} took longer than {MAX_SECONDS:g} s") from error
    if done.returncode != 0:
        raise CommandFailedError(mask(done.stderr.strip()[-SAID_CHARACTERS:]) or f"exit code {done.returncode}")
    return done.stdout.strip()


def _count(rows: int | None) -> str:
    return "no" if rows is None else str(rows)
