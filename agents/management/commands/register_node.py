"""Make an Ollama server known: `manage.py register_node --name gpu1 --url http://gpu1:11434`."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from agents.engine import registration
from agents.models import Node
from core import audit
from core.exceptions import Refused


class Command(BaseCommand):
    help = (
        "Register an Ollama server under a name, or move the name to another address, and read its models. "
        "A server that does not answer is registered with a warning; something that is no Ollama server is refused."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--name", required=True, help="The node's name.")
        parser.add_argument("--url", required=True, help="Its address, such as http://127.0.0.1:11434.")

    def handle(self, *args: Any, **options: Any) -> None:
        name = options["name"].strip()
        limit = Node._meta.get_field("name").max_length or 0
        if not 0 < len(name) <= limit:
            raise CommandError(f"A name has 1 to {limit} characters.")
        try:
            with audit.acting(credential="command"):
                node, is_up = registration.register(name, options["url"])
        except Refused as refusal:
            raise CommandError(f"{refusal.detail} Nothing was changed.") from refusal
        if not is_up:
            warning = f"{node.name} at {node.url} is registered but does not answer now: {node.status_reason}"
            self.stderr.write(self.style.WARNING(warning))
            return
        models = list(node.places.filter(is_available=True).values_list("name", flat=True))
        found = ", ".join(models) or "no models yet"
        self.stdout.write(f"{node.name} at {node.url} answers: Ollama {node.server_version}, {found}.")
