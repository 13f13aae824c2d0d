"""manage.py restart"""

import os
import sys
from typing import Any

from django.core.management.base import BaseCommand

from core.ops import data_folder
from core.ops.supervisor import RESTART_SIGNAL


class Command(BaseCommand):
    help = "Have the running group replace all its processes, web processes one after the other."
    requires_system_checks = ()
    requires_migrations_checks = False

    def handle(self, *args: Any, **options: Any) -> None:
        pid = data_folder.group()
        if pid is None:
            sys.exit("No group runs here. Start it with `manage.py up`, or set SUTAZAI_DATA_DIR to its data folder.")
        os.kill(pid, RESTART_SIGNAL)
        self.stdout.write("The group replaces its processes; its log tells how far it is.")
