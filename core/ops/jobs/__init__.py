"""Core's own maintenance jobs; importing this package registers them."""

from core.ops.jobs import audit, backup, cache, database, expiry, notifications

__all__ = ["audit", "backup", "cache", "database", "expiry", "notifications"]
