from django.apps import AppConfig


class AgentsConfig(AppConfig):
    name = "agents"
    verbose_name = "Agents and tasks"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from agents import alerts, housekeeping, metrics, probes, usage, work  # noqa: F401 - they register themselves with core
        from agents.engine import failures  # noqa: F401
