"""Make an API key: `KEY=$(manage.py create_api_key --user NAME)`."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from core import audit
from core.access import api_keys
from core.models import ApiKey, User


class Command(BaseCommand):
    help = "Make an API key for a user and print it, alone, on standard output. It can never be shown again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--user", required=True, metavar="NAME", help="Whose key it is.")
        parser.add_argument("--name", default="", metavar="LABEL", help="What the key is for.")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["user"]).first()
        if user is None:
            raise CommandError(f"There is no user {options['user']!r}.")
        if not user.is_active:
            raise CommandError(f"The user {options['user']!r} is inactive; a key would not work.")
        limit = ApiKey._meta.get_field("name").max_length or 0
        if len(options["name"]) > limit:
            raise CommandError(f"A label may have {limit} characters.")
        with audit.acting(credential="command"):
            _, text = api_keys.issue(user, options["name"])
        self.stdout.write(text)
