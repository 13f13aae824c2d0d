"""Core's own maintenance jobs; importing this package registers them."""

from core.ops.jobs import database, expiry

__all__ = ["database", "expiry"]
