"""`manage.py up`: everything that one machine needs, in one group."""

import logging
import os
import shutil
import signal
import socket
import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import OperationalError, connections

from core.checks import TAG
from core.ops import data_folder, first_run, metrics_files, programs
from core.ops.backup import upgrading
from core.ops.backup.errors import BackupError
from core.ops.joint_log import JointLog
from core.ops.processes import die_with_parent
from core.ops.supervisor import NAME, Supervisor
from core.postgresql import pool as database_pool

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Migrate, make sure of a first operator, and keep web, worker and beat running until Ctrl-C."
    requires_system_checks = ()  # ours come first of all, see heed_checks
    requires_migrations_checks = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--stop-with-parent", action="store_true", help="stop when the caller, say make, dies")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["stop_with_parent"]:
            die_with_parent(os.getppid(), by=signal.SIGTERM)
        heed_checks()
        ensure_port_is_free(settings.HOST, settings.PORT)
        with data_folder.owned("Set SUTAZAI_DATA_DIR for a second one.", by_group=True):
            try:
                news = prepare()
            except KeyboardInterrupt:
                sys.exit(130)
            except BackupError as error:
                sys.exit(f"The database cannot be brought up to date. {error}")
            except OperationalError as error:
                sys.exit(f"The database cannot be used: {error}")
            supervise(news)


def heed_checks() -> None:
    """Tell of doubtful settings, and raise SystemExit for those that are wrong."""
    found = checks.run_checks(tags=[TAG])
    if wrong := [str(message) for message in found if message.is_serious()]:
        sys.exit("\n".join(wrong))
    for message in found:
        logger.warning("%s", message)


def ensure_port_is_free(host: str, port: int) -> None:
    """Raises SystemExit with one clear line if somebody else listens there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of a group that just ended
        try:
            probe.bind((host, port))
        except OSError as error:
            sys.exit(f"Port {port} on {host} cannot be used ({error.strerror}); see SUTAZAI_HOST and SUTAZAI_PORT.")


def prepare() -> list[str]:
    """Bring database and files up to date; return news for the operator."""
    upgrading.bring_up_to_date(tell=logger.info)
    call_command("collectstatic", interactive=False, verbosity=0)
    news = first_run.run_all()
    for connection in connections.all(initialized_only=True):
        connection.close()
    database_pool.close()  # who supervises needs none
    return news


def supervise(news: list[str]) -> None:
    """Run the group until it is told to stop."""
    metrics_folder = metrics_files.start_anew(settings.DATA_DIR)
    environment = {metrics_files.VARIABLE: str(metrics_folder), "PYTHONUNBUFFERED": "1"}
    group = programs.programs(environment)
    log = JointLog(
        sys.stdout.buffer,
        [NAME, *(program.name for program in group)],
        colour=sys.stdout.isatty(),
        as_json=settings.LOG_FORMAT == "json",
    )
    supervisor = Supervisor(
        group,
        log,
        working_directory=settings.BASE_DIR,
        is_ready=programs.web_answers,
        on_ready=lambda: banner(news),
    )
    supervisor.run()
    log.close()
    metrics_files.end(metrics_folder)


def banner(news: list[str]) -> list[str]:
    address = programs.web_address()
    rule = "-" * min(80, shutil.get_terminal_size().columns - 12)
    return [rule, f"SutazAI is ready at {address}", f"Console: {address}/admin/", *news, "Ctrl-C stops it.", rule]
