"""The audit log looked after: signed where it stands, checked from its beginning, shortened where that is wanted."""

from collections.abc import Iterator, Mapping

from django.conf import settings
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from core.audit import checkpoints, retention, verification
from core.audit.seal import head
from core.audit.verification import LogDamagedError
from core.models import AuditCheckpoint, AuditEntry, MaintenanceRun
from core.ops import maintenance, metrics

VERIFY = "verify_audit_log"
VERDICTS = 20  # runs among which one told something


def _figures() -> Mapping[str, int]:
    return {
        "sealed_entries": head()[0] - retention.removed(),
        "unsealed_entries": AuditEntry.objects.unsealed().count(),
        "checkpoints": AuditCheckpoint.objects.count(),
    }


@maintenance.job("sign_audit_checkpoint", "Sign where the audit log stands", figures=_figures)
def sign_audit_checkpoint() -> str:
    checkpoint = checkpoints.sign()
    return f"Entry {checkpoint.sequence} is signed." if checkpoint else "Nothing is sealed yet."


@maintenance.job(VERIFY, "Check the audit log from its beginning", figures=_figures)
def verify_audit_log() -> str:
    verdict = verification.verify()
    if verdict.finding:
        raise LogDamagedError(verdict.finding.text)
    return f"All {verdict.intact} sealed entries hold. {verdict.told_of_removal}".strip()


@metrics.register
def verdict_metrics() -> Iterator[Metric]:
    """Say nothing before the first check; a check that failed for another reason is no verdict."""
    verdict = GaugeMetricFamily("sutazai_audit_log_intact", "1: the last check of the audit log found no damage.")
    runs = MaintenanceRun.objects.filter(job=VERIFY).order_by("-pk")
    damaged = MaintenanceRun.Status.FAILED, LogDamagedError.__name__
    for status, error in runs.values_list("status", "error")[:VERDICTS]:
        is_damaged = (status, error.partition(":")[0]) == damaged
        if is_damaged or status == MaintenanceRun.Status.SUCCEEDED:
            verdict.add_metric([], not is_damaged)
            break
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
)
def remove_old_audit_entries() -> str:
    if not settings.AUDIT_KEEP_DAYS:
        return "The audit log is kept for ever."
    removal = retention.remove_old()
    return str(removal) if removal else "Nothing that is signed is so old."
