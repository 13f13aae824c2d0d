"""Signed statements of where the chain stands, checked with the public key alone."""

import json
import stat
from pathlib import Path

import pytest
from django.conf import settings as django_settings

from core import audit
from core.audit import checkpoints, sealer
from core.audit.checkpoints import InvalidCheckpointError
from core.models import AuditCheckpoint, AuditEntry
from core.ops.jobs import audit as jobs

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


@pytest.fixture
def checkpoint() -> AuditCheckpoint:
    for _ in range(3):
        audit.record("thing.done")
    sealer.seal_waiting()
    signed = checkpoints.sign()
    assert signed is not None
    return signed


def test_it_says_where_the_chain_stands(checkpoint):
    newest = AuditEntry.objects.get(sequence=3)
    assert (checkpoint.sequence, checkpoint.seal, checkpoint.count) == (3, newest.seal, 3)
    assert checkpoints.compare(checkpoint) == ""


def test_an_empty_chain_has_none():
    audit.record("thing.done")
    assert checkpoints.sign() is None


def test_each_place_is_signed_once(checkpoint):
    assert checkpoints.sign() == checkpoint
    assert AuditCheckpoint.objects.count() == 1


def test_a_file_is_read_as_it_was_written(checkpoint):
    found = checkpoints.read(checkpoints.document(checkpoint))
    assert (found.sequence, found.seal, found.created_at) == (3, checkpoint.seal, checkpoint.created_at)


def test_whoever_has_the_public_key_can_check_it_without_our_secrets(checkpoint, settings):
    text, key = checkpoints.document(checkpoint), checkpoints.read_public_key(checkpoints.public_key_pem().encode())
    settings.AUDIT_SIGNING_KEY = settings.AUDIT_KEY = "what another installation has instead of ours"
    assert checkpoints.read(text, key).sequence == 3
    with pytest.raises(InvalidCheckpointError, match="signature"):
        checkpoints.read(text)


@pytest.mark.parametrize(
    "change", [{"sequence": 2}, {"seal": "0" * 64}, {"count": 2}, {"created_at": "2020-01-01T00:00Z"}]
)
def test_a_file_that_was_changed_is_refused(checkpoint, change):
    document = json.loads(checkpoints.document(checkpoint))
    with pytest.raises(InvalidCheckpointError):
        checkpoints.read(json.dumps({**document, **change}))


def test_a_file_that_brings_its_own_key_is_refused(checkpoint, settings):
    right, settings.AUDIT_SIGNING_KEY = settings.AUDIT_SIGNING_KEY, "of somebody who wants to be believed"
    AuditCheckpoint.objects.all().delete()
    forged = checkpoints.document(checkpoints.sign())
    settings.AUDIT_SIGNING_KEY = right
    with pytest.raises(InvalidCheckpointError):
        checkpoints.read(forged)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"kind": "sutazai-audit-checkpoint"}', "\x00"])
def test_what_is_no_checkpoint_is_refused(text):
    with pytest.raises(InvalidCheckpointError, match="no checkpoint"):
        checkpoints.read(text)


@pytest.mark.parametrize("pem", [b"", b"key", b"-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----\n"])
def test_what_is_no_key_is_refused(pem):
    with pytest.raises(InvalidCheckpointError, match="public key"):
        checkpoints.read_public_key(pem)


def test_a_log_that_lost_entries_does_not_agree(checkpoint):
    AuditEntry.objects.filter(sequence=2)._raw_delete("default")
    assert "2 of the 3" in checkpoints.compare(checkpoint)


def test_a_log_of_somebody_else_does_not_agree(checkpoint):
    checkpoint.seal = "0" * 64
    assert "not the one that was signed" in checkpoints.compare(checkpoint)


def test_the_secrets_are_for_their_owner_alone():
    for name in ("audit_key", "audit_signing_key"):
        file = Path(django_settings.DATA_DIR) / "secrets" / name
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_jobs_sign_and_check_the_log(checkpoint):
    assert jobs.sign_audit_checkpoint() == "Entry 3 is signed."
    assert jobs.verify_audit_log() == "All 3 sealed entries hold."
    AuditEntry.objects.filter(sequence=2)._raw_delete("default")
    with pytest.raises(jobs.LogDamagedError, match="Entry 2"):
        jobs.verify_audit_log()


def test_where_nothing_is_sealed_nothing_is_signed():
    assert jobs.sign_audit_checkpoint() == "Nothing is sealed yet."
