"""Core's own maintenance jobs; importing this package registers them."""

from core.ops.jobs import alerts, audit, backup, cache, database, expiry, notifications

__all__ = ["alerts", "audit", "backup", "cache", "database", "expiry", "notifications"]
