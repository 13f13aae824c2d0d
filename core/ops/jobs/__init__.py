"""Core's own maintenance jobs; importing this package registers them."""

from core.ops.jobs import audit, database, expiry, notifications

__all__ = ["audit", "database", "expiry", "notifications"]
