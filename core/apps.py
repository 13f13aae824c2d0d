from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.db.models.signals import post_migrate


def ensure_default_team(using: str, **_: Any) -> None:
    from core.models import DEFAULT_TEAM_ID, Team

    Team.objects.using(using).get_or_create(pk=DEFAULT_TEAM_ID, defaults={"name": "Default", "slug": "default"})


class CoreConfig(AppConfig):
    name = "core"
    verbose_name = "Platform"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from core import checks  # noqa: F401 - they register themselves
        from core.access import roles
        from core.access.sign_in import events  # noqa: F401 - they register themselves
        from core.audit import signals  # noqa: F401
        from core.cache import figures  # noqa: F401
        from core.ops import group, jobs, schedules  # noqa: F401
        from core.ops.alerts import platform, watch  # noqa: F401

        if settings.REDIS_URL:
            # Threads that were the first to need it, at the same time, would each make one.
            from core.net.redis import pool

            pool()

        post_migrate.connect(ensure_default_team, sender=self)
        post_migrate.connect(roles.sync_groups)
