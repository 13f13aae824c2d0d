"""Make an API key: `KEY=$(manage.py create_api_key --user NAME)`."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from core import audit
from core.access import api_keys
from core.exceptions import InvalidInput
from core.management.arguments import moment
from core.models import User, Verb


class Command(BaseCommand):
    help = (
        "Make an API key for a user and print it, alone, on standard output. It can never be shown again. "
        "What it is not limited to, it may do as its user may, but models it manages only if the verb is named."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--user", required=True, metavar="NAME", help="Whose key it is.")
        parser.add_argument("--name", default="", metavar="LABEL", help="What the key is for.")
        several: dict[str, Any] = {"action": "extend", "nargs": "+", "default": []}
        parser.add_argument("--verbs", choices=Verb.values, help="What it may do, and nothing else.", **several)
        parser.add_argument("--agents", metavar="AGENT", help="Which agents it may use, and no others.", **several)
        parser.add_argument("--models", metavar="MODEL", help="Which models it may use, and no others.", **several)
        parser.add_argument(
            "--expires-at", type=moment, metavar="MOMENT", help="When it stops working, such as 2030-01-31 (UTC)."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["user"]).first()
        if user is None:
            raise CommandError(f"There is no user {options['user']!r}.")
        if not user.is_active:
            raise CommandError(f"The user {options['user']!r} is inactive; a key would not work.")
        scope = api_keys.Scope(
            [Verb(verb) for verb in options["verbs"]], options["agents"], options["models"], options["expires_at"]
        )
        try:
            with audit.acting(credential="command"):
                _, text = api_keys.issue(user, options["name"], scope)
        except InvalidInput as refusal:
            raise CommandError(str(refusal)) from refusal
        self.stdout.write(text)
