"""The platform's console pages. Django imports this package to register them."""

from core.admin import (
    alerts,
    api_keys,
    audit,
    backups,
    breakers,
    devices,
    invitations,
    limits,
    maintenance,
    people,
    platform,
    pools,
    schedules,
    slow_queries,
)

__all__ = [
    "alerts",
    "api_keys",
    "audit",
    "backups",
    "breakers",
    "devices",
    "invitations",
    "limits",
    "maintenance",
    "people",
    "platform",
    "pools",
    "schedules",
    "slow_queries",
]
