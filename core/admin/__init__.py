"""The platform's console pages. Django imports this package to register them."""

from core.admin import api_keys, audit, limits, maintenance, people, platform, schedules, sign_in

__all__ = ["api_keys", "audit", "limits", "maintenance", "people", "platform", "schedules", "sign_in"]
