"""The rules as Prometheus reads them. Source: https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/"""

import json
from datetime import timedelta

from core.ops.alerts.rules import KEEP_FIRING, Rule, registered

HEADER = """\
# What SutazAI finds out by itself, as rules for Prometheus 2.42 or later.
# Written by `manage.py prometheus_rules`: change the rules in the code, not here.

groups:
  - name: sutazai
    rules:
"""


def text() -> str:
    """The whole file."""
    return HEADER + "\n".join(_rule(rule) for rule in registered())


def _rule(rule: Rule) -> str:
    labels = {label: f"{{{{ $labels.{label} }}}}" for label in rule.condition.labels}
    lines = [
        f"      - alert: {rule.name}",
        f"        expr: {_quoted(rule.condition.promql())}",
        f"        for: {_span(rule.holds_for)}",
        f"        keep_firing_for: {_span(KEEP_FIRING)}",
        "        labels:",
        f"          severity: {rule.severity.value}",
        "        annotations:",
        f"          summary: {_quoted(rule.title_for(labels))}",
        f"          description: {_quoted(rule.why)}",
        f"          runbook: {_quoted(rule.help)}",
    ]
    return "".join(f"{line}\n" for line in lines)


def _quoted(text: str) -> str:
    """A string of YAML, which takes those of JSON."""
    return json.dumps(text, ensure_ascii=False)


def _span(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    return f"{seconds // 60}m" if seconds % 60 == 0 else f"{seconds}s"
