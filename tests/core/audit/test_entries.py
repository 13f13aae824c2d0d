"""Writing entries: by whom, about what, in which transaction; and that they stay."""

import json

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from core import audit
from core.access import api_keys
from core.audit import context, sealer
from core.models import AppendOnlyError, AuditEntry
from tests import audit_triggers
from tests.factories import make_team, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


@pytest.fixture
def triggers() -> None:
    """All that the migration made, until the test's transaction ends."""
    audit_triggers.install()


def test_an_entry_stands_or_falls_with_the_change():
    class Regret(Exception):
        pass

    def change() -> None:
        with transaction.atomic():
            team = make_team()
            audit.record("team.added", target=team)
            raise Regret

    with pytest.raises(Regret):
        change()
    assert not AuditEntry.objects.exists()


def test_it_tells_who_did_what_to_what_and_from_where():
    team, person = make_team(name="Ops"), make_user(username="ada")
    with audit.acting(actor=person, credential="session", address="192.0.2.7", request_id="r-1"):
        audit.record("team.changed", target=team, before={"name": "Op"}, after={"name": "Ops"}, detail="Why not.")

    entry = AuditEntry.objects.get()
    assert (entry.actor_id, entry.actor_name) == (person.pk, "ada")
    assert (entry.credential, entry.address, entry.request_id) == ("session", "192.0.2.7", "r-1")
    assert (entry.object_type, entry.object_id, entry.object_name) == ("team", str(team.pk), "Ops")
    assert entry.changes == {"name": ["Op", "Ops"]}
    assert (entry.action, entry.outcome, entry.detail, entry.count) == ("team.changed", "succeeded", "Why not.", 1)
    assert abs((timezone.now() - entry.created_at).total_seconds()) < 10


def test_an_entry_costs_one_query(django_assert_num_queries):
    team = make_team()
    with django_assert_num_queries(1):
        audit.record("team.added", target=team)


def test_who_acts_is_asked_for_only_when_an_entry_is_written():
    asked = []

    def find() -> context.Origin:
        asked.append(True)
        return context.Origin(actor_name="lazy")

    with context.entered(find):
        assert asked == []
        audit.record("thing.done")
    assert AuditEntry.objects.get().actor_name == "lazy"


def test_what_is_given_inside_adds_to_what_is_known_outside():
    with audit.acting(credential="command", request_id="r-1"), audit.acting(request_id="r-2"):
        entry = audit.record("thing.done")
    assert (entry.credential, entry.request_id) == ("command", "r-2")


def test_texts_from_outside_always_fit():
    with audit.acting(credential="x" * 1000, address="\x00" * 100):
        audit.record("thing.done", target=audit.Subject("t" * 99, "i" * 99, "n\x00" * 999), detail="d" * 9999)
    assert len(AuditEntry.objects.get().detail) == 500


def test_an_entry_is_neither_changed_nor_deleted_by_the_program():
    entry = audit.record("thing.done")
    with pytest.raises(AppendOnlyError):
        entry.save()
    with pytest.raises(AppendOnlyError):
        entry.delete()
    with pytest.raises(AppendOnlyError):
        AuditEntry.objects.all().delete()


@pytest.mark.parametrize("column", ["detail", "count", "sequence", "seal", "changes"])
def test_the_database_refuses_to_change_a_sealed_entry(column):
    audit.record("thing.done")
    sealer.seal_batch()
    value = {"count": 5, "sequence": None, "changes": {"a": [1, 2]}}.get(column, "x")
    with pytest.raises(IntegrityError), transaction.atomic():
        AuditEntry.objects.update(**{column: value})


@pytest.mark.parametrize("column", ["detail", "actor_name", "created_at"])
def test_the_database_refuses_to_change_what_an_entry_says_before_it_is_sealed(column):
    audit.record("thing.done")
    value = timezone.now() if column == "created_at" else "x"
    with pytest.raises(IntegrityError), transaction.atomic():
        AuditEntry.objects.update(**{column: value})


def test_the_triggers_know_every_column():
    """But for those by which an entry is counted on and sealed."""
    columns = {field.column for field in AuditEntry._meta.concrete_fields}
    assert set(audit_triggers.CONTENT.split(", ")) == columns - {"count", "sequence", "seal"}


@pytest.mark.parametrize("is_sealed", [True, False])
def test_the_database_refuses_to_delete_an_entry(triggers, is_sealed):
    audit.record("thing.done")
    if is_sealed:
        sealer.seal_batch()
    with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM core_auditentry")
    assert AuditEntry.objects.count() == 1


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no TRUNCATE.")
def test_the_database_refuses_to_empty_the_log(triggers):
    audit.record("thing.done")
    with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("TRUNCATE core_auditentry")


def test_no_secret_of_a_key_is_in_any_entry():
    key, text = api_keys.issue(make_user(), "ci")
    api_keys.revoke(type(key).objects.all())

    written = json.dumps(list(AuditEntry.objects.values()), default=str)
    assert [entry.action for entry in AuditEntry.objects.order_by("id")] == ["api-key.issued", "api-key.revoked"]
    assert text.split("_", 2)[2] not in written
    assert key.secret_hash not in written
    assert key.key_id in written
