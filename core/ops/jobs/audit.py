"""The audit log looked after: signed where it stands, and checked from its beginning."""

from collections.abc import Mapping

from core.audit import checkpoints, verification
from core.audit.seal import head
from core.models import AuditCheckpoint, AuditEntry
from core.ops import maintenance

VERIFY = "verify_audit_log"


class LogDamagedError(RuntimeError):
    """The audit log is not what was written. Keep the database as it is, and compare it with backups and exports."""


def _figures() -> Mapping[str, int]:
    return {
        "sealed_entries": head()[0],
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
    return f"All {verdict.intact} sealed entries hold."
