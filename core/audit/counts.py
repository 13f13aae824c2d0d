"""What the audit log counts of its own failures, for all processes of the group (see `core.ops.metrics`)."""

from prometheus_client import Counter

_failures = Counter(
    "sutazai_audit_failures", "Denials that were not written at once, and checks that found the log damaged.", ["what"]
)

not_written = _failures.labels("not-written")
written_later = _failures.labels("written-later")
damaged = _failures.labels("damaged")
