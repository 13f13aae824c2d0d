"""Encrypt every stored secret again with the newest key: `manage.py rotate_secrets`."""

from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError
from django.utils.module_loading import autodiscover_modules

from core import secrets


class Command(BaseCommand):
    help = (
        "Encrypt every stored secret again with the first key of SUTAZAI_ENCRYPTION_KEYS. "
        "Afterwards the other keys can be taken off the list."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        autodiscover_modules("rotations")
        failed: list[str] = []
        for field in (field for model in apps.get_models() for field in secrets.encrypted_fields(model)):
            changed, unreadable = secrets.rotate_field(field)
            self.stdout.write(f"{field.model._meta.label}.{field.name}: {changed} encrypted again.")
            failed += [f"{field.model._meta.label} {pk}: {field.name}" for pk in unreadable]
        for name, rotate in secrets.rotations().items():
            try:
                self.stdout.write(f"{name}: {rotate()} encrypted again.")
            except secrets.CannotDecrypt:
                failed.append(name)
        if failed:
            raise CommandError(
                "No key decrypts these, so they were left alone. Keep every key on the list: " + "; ".join(failed)
            )
