"""Secrets at rest: unreadable in the database, readable with a key, and re-encrypted with a newer one."""

import io
from collections.abc import Iterator

import pytest
from django.apps import apps
from django.core.exceptions import FieldError
from django.core.management import CommandError, call_command
from django.db import connection, models
from django.test.utils import isolate_apps

from core import secrets
from core.access import signing_keys
from core.models import SigningKey
from core.secrets import CannotDecrypt, EncryptedTextField

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_databases]

OLD = "the old key of more than thirty-two characters"
NEW = "the new key of more than thirty-two characters"
CANARY = "canary-2f6b"


@pytest.fixture(autouse=True)
def old_key(settings) -> None:
    settings.ENCRYPTION_KEYS = [OLD]


@pytest.fixture
def safe() -> Iterator[type[models.Model]]:
    """A model with a secret, and its table."""
    with isolate_apps("core"):

        class Safe(models.Model):
            secret = EncryptedTextField(blank=True, null=True)

            class Meta:
                app_label = "core"

            def __str__(self) -> str:
                return str(self.pk)

        with connection.schema_editor() as editor:
            editor.create_model(Safe)
        yield Safe
        with connection.schema_editor() as editor:
            editor.delete_model(Safe)


@pytest.fixture
def registered(safe, monkeypatch) -> None:
    """The model among those of the program, as the command finds them."""
    models_of_the_program = [*apps.get_models(), safe]
    monkeypatch.setattr(apps, "get_models", lambda: models_of_the_program)


def stored(model: type[models.Model]) -> list[str | None]:
    with connection.cursor() as cursor:
        cursor.execute(f'SELECT secret FROM "{model._meta.db_table}" ORDER BY id')
        return [row[0] for row in cursor.fetchall()]


def test_the_database_holds_no_secret_and_the_program_reads_it(safe) -> None:
    safe.objects.create(secret=CANARY)
    safe.objects.bulk_create([safe(secret=CANARY), safe(secret=CANARY)])
    safe.objects.filter(pk=safe.objects.latest("pk").pk).update(secret=CANARY)
    tokens = stored(safe)
    assert len(set(tokens)) == 3  # not even equal secrets look equal
    assert not [token for token in tokens if CANARY in token]
    assert list(safe.objects.values_list("secret", flat=True)) == [CANARY] * 3


@pytest.mark.parametrize("value", ["", None])
def test_nothing_stays_nothing(safe, value) -> None:
    safe.objects.create(secret=value)
    assert stored(safe) == [value]
    assert safe.objects.get().secret == value


def test_an_encrypted_text_cannot_be_searched(safe) -> None:
    with pytest.raises(FieldError):
        safe.objects.filter(secret=CANARY)
    assert not safe.objects.filter(secret__isnull=True).exists()


def test_a_missing_key_fails_closed(safe, settings) -> None:
    row = safe.objects.create(secret=CANARY)
    settings.ENCRYPTION_KEYS = [NEW]
    with pytest.raises(CannotDecrypt, match="SUTAZAI_ENCRYPTION_KEYS"):
        safe.objects.get()
    with pytest.raises(CannotDecrypt):
        row.refresh_from_db()


def test_a_token_that_was_changed_is_refused(safe) -> None:
    token = secrets.encrypt(CANARY)
    with pytest.raises(CannotDecrypt):
        secrets.decrypt(token[:-2] + ("AA" if token[-2:] != "AA" else "BB"))


def test_a_rotation_encrypts_everything_with_the_newest_key(safe, registered, settings, monkeypatch) -> None:
    monkeypatch.setattr(secrets, "BATCH", 3)
    safe.objects.bulk_create([safe(secret=f"{CANARY}-{number}") for number in range(10)] + [safe(secret="")])
    before = stored(safe)
    settings.ENCRYPTION_KEYS = [NEW, OLD]
    out = io.StringIO()
    call_command("rotate_secrets", stdout=out)
    assert "Safe.secret: 10 encrypted again." in out.getvalue()
    settings.ENCRYPTION_KEYS = [NEW]
    assert list(safe.objects.order_by("pk").values_list("secret", flat=True)) == [
        *(f"{CANARY}-{number}" for number in range(10)),
        "",
    ]
    assert not set(before) & set(stored(safe)) - {""}


def test_a_rotation_names_what_it_cannot_read_and_leaves_it(safe, registered, settings) -> None:
    lost = safe.objects.create(secret=CANARY)
    settings.ENCRYPTION_KEYS = [NEW]
    kept = safe.objects.create(secret=CANARY)
    before = stored(safe)
    with pytest.raises(CommandError, match=f"core.Safe {lost.pk}: secret"):
        call_command("rotate_secrets", stdout=io.StringIO())
    assert stored(safe)[0] == before[0]
    assert safe.objects.get(pk=kept.pk).secret == CANARY


def test_a_rotation_also_calls_those_who_keep_tokens_elsewhere(settings, monkeypatch) -> None:
    monkeypatch.setattr(secrets, "_rotations", dict(secrets._rotations))
    kept = [secrets.encrypt(CANARY)]

    @secrets.rotation("kept elsewhere")
    def rotate() -> int:
        kept[:] = [secrets.reencrypt(token) for token in kept]
        return len(kept)

    settings.ENCRYPTION_KEYS = [NEW, OLD]
    out = io.StringIO()
    call_command("rotate_secrets", stdout=out)
    settings.ENCRYPTION_KEYS = [NEW]
    assert "kept elsewhere: 1 encrypted again." in out.getvalue()
    assert secrets.decrypt(kept[0]) == CANARY


def test_a_rotation_keeps_the_keys_that_tokens_are_signed_with(settings) -> None:
    signing_keys.forget()
    public = signing_keys.current().public
    before = SigningKey.objects.get().private_key
    settings.ENCRYPTION_KEYS = [NEW, OLD]
    out = io.StringIO()
    call_command("rotate_secrets", stdout=out)
    assert "signing keys: 1 encrypted again." in out.getvalue()
    settings.ENCRYPTION_KEYS = [NEW]
    signing_keys.forget()
    assert signing_keys.current().public == public
    assert SigningKey.objects.get().private_key != before
    signing_keys.forget()
