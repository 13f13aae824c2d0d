"""Change the key that tokens are signed with: `manage.py rotate_signing_key [--drop-old]`."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from core import audit
from core.access import signing_keys


class Command(BaseCommand):
    help = "Sign tokens with a new key from now on. Running processes follow within two seconds."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--drop-old",
            action="store_true",
            help="forget the older keys: every token that they signed is void, and everybody signs in again",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        with audit.acting(credential="command"):
            self.stdout.write(f"New tokens are signed with {signing_keys.rotate()}.")
            if options["drop_old"]:
                self.stdout.write(f"Forgot {', '.join(signing_keys.drop_old())}.")
