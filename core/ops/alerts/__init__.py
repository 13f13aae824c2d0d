"""Alerts: what is wrong, since when, and what to do about it.

`rules` says once what an alert is, in `expressions` over the metrics. From that follow both the file of rules for
Prometheus (`prometheus`) and what this program finds out by itself (`watch`): whoever runs no Prometheus is told all
the same. `handling` is what operators do about an alert. Other applications register their rules when Django starts.
"""

from core.ops.alerts.rules import Rule, Unit, register

__all__ = ["Rule", "Unit", "register"]
