"""The audit log looked after: signed where it stands, checked from its beginning, shortened where that is wanted."""

from collections.abc import Iterator, Mapping

from django.conf import settings
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from core.audit import checkpoints, retention, verification
from core.audit.seal import head
from core.audit.verification import LogDamagedError
from core.models import AuditCheckpoint, AuditEntry
from core.ops import maintenance, metrics
from core.ops.jobs import verdicts

VERIFY = "verify_audit_log"
verdicts.register(VERIFY, LogDamagedError)


def _figures() -> Mapping[str, int]:
    return {
        "sealed_entries": head()[0] - retention.removed(),
        "unsealed_entries": AuditEntry.objects.unsealed().count(),
        "checkpoints": AuditCheckpoint.objects.count(),
    }


def _would_sign() -> str:
    place, _ = head()
    if not place:
        return "Nothing is sealed yet."
    return f"Entry {place} is signed already." if checkpoints.at(place) else f"It would sign entry {place}."


def _would_verify() -> str:
    return f"It would check {head()[0] - retention.removed()} sealed entries, from the first on."


def _would_remove() -> str:
    if not settings.AUDIT_KEEP_DAYS:
        return "The audit log is kept for ever."
    removal = retention.planned()
    if removal is None:
        return "Nothing that is signed is so old."
    kept = f"after writing them to {settings.AUDIT_ARCHIVE}" if settings.AUDIT_ARCHIVE else "without an archive"
    return f"It would remove entries {removal.first} to {removal.last}, {kept}."


@maintenance.job("sign_audit_checkpoint", "Sign where the audit log stands", figures=_figures, preview=_would_sign)
def sign_audit_checkpoint() -> str:
    checkpoint = checkpoints.sign()
    return f"Entry {checkpoint.sequence} is signed." if checkpoint else "Nothing is sealed yet."


@maintenance.job(
    VERIFY, "Check the audit log from its beginning", figures=_figures, preview=_would_verify, is_long=True
)
def verify_audit_log() -> str:
    verdict = verification.verify()
    if verdict.finding:
        raise LogDamagedError(verdict.finding.text)
    return f"All {verdict.intact} sealed entries hold. {verdict.told_of_removal}".strip()


@metrics.register
def verdict_metrics() -> Iterator[Metric]:
    """Say nothing before the first check."""
    verdict = GaugeMetricFamily("sutazai_audit_log_intact", "1: the last check of the audit log found no damage.")
    if (is_intact := verdicts.last(VERIFY)) is not None:
        verdict.add_metric([], is_intact)
    yield verdict


def _removable() -> Mapping[str, int]:
    checkpoint, removed = retention.due(), retention.removed()
    return {
        "sealed_entries": head()[0] - removed,
        "removable_entries": checkpoint.sequence - removed if checkpoint else 0,
    }


@maintenance.job(
    "remove_old_audit_entries",
    "Remove entries of the audit log that are older than it is kept",
    figures=_removable,
    preview=_would_remove,
    is_long=True,
)
def remove_old_audit_entries() -> str:
    if not settings.AUDIT_KEEP_DAYS:
        return "The audit log is kept for ever."
    removal = retention.remove_old()
    return str(removal) if removal else "Nothing that is signed is so old."
