"""The look and the menu of the operators' console. Source: unfold's settings, https://unfoldadmin.com/docs/"""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy


def _may(permission: str) -> Callable[[HttpRequest], bool]:
    return lambda request: request.user.has_perm(permission)


def _file(name: str) -> Callable[[HttpRequest], str]:
    return lambda _: static(f"console/{name}")


def _item(title: str, icon: str, url_name: str, permission: str | None = None) -> dict[str, Any]:
    item = {"title": title, "icon": icon, "link": reverse_lazy(url_name)}
    return item if permission is None else {**item, "permission": _may(permission)}


UNFOLD = {
    "SITE_TITLE": "SutazAI",
    "SITE_HEADER": "SutazAI",
    "SITE_SUBHEADER": "Operations console",
    "SITE_URL": None,
    "SITE_ICON": _file("logo.svg"),
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": _file("logo.svg")},
    ],
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_BACK_BUTTON": True,
    "BORDER_RADIUS": "8px",
    "COLORS": {
        # Teal; white text on 600 and 600 on white both pass WCAG AA.
        "primary": {
            "50": "oklch(98.4% .014 180.72)",
            "100": "oklch(95.3% .051 180.801)",
            "200": "oklch(91% .096 180.426)",
            "300": "oklch(85.5% .138 181.071)",
            "400": "oklch(77.7% .152 181.912)",
            "500": "oklch(70.4% .14 182.503)",
            "600": "oklch(51.1% .096 186.391)",
            "700": "oklch(43.7% .078 188.216)",
            "800": "oklch(38.6% .063 188.416)",
            "900": "oklch(33% .055 189)",
            "950": "oklch(27.7% .046 192.524)",
        },
    },
    "ACCOUNT": {
        "navigation": [
            {"title": "Your account", "link": reverse_lazy("account")},
            {"title": "Change password", "link": reverse_lazy("account_change_password")},
        ],
    },
    "STYLES": [_file("console.css")],
    "SCRIPTS": [_file("console.js")],
    "DASHBOARD_CALLBACK": "core.admin.dashboard.add_to_index",
    "COMMAND": {"search_models": False, "show_history": False},
    "SIDEBAR": {
        "show_search": False,
        "show_all_applications": False,
        "navigation": [
            {
                "items": [
                    _item("Dashboard", "monitoring", "admin:index"),
                    _item("Alerts", "notification_important", "admin:core_alert_changelist", "core.view_alert"),
                    _item("Health", "monitor_heart", "console-health", "core.view_maintenancerun"),
                    _item("Playground", "forum", "console-playground", "agents.add_agenttask"),
                ],
            },
            {
                "title": "Work",
                "separator": True,
                "items": [
                    _item("Tasks", "checklist", "admin:agents_agenttask_changelist", "agents.view_agenttask"),
                    _item("Queue", "low_priority", "console-queue", "agents.view_agenttask"),
                    _item("Sessions", "chat", "admin:agents_chatsession_changelist", "agents.view_chatsession"),
                ],
            },
            {
                "title": "Setup",
                "separator": True,
                "items": [
                    _item("Agents", "smart_toy", "admin:agents_agent_changelist", "agents.view_agent"),
                    _item("Nodes", "dns", "admin:agents_node_changelist", "agents.view_node"),
                    _item("Models", "deployed_code", "admin:agents_nodemodel_changelist", "agents.view_nodemodel"),
                    _item(
                        "Breakers",
                        "electrical_services",
                        "admin:core_circuitbreaker_changelist",
                        "core.view_circuitbreaker",
                    ),
                    _item("Webhooks", "webhook", "admin:core_webhook_changelist", "core.view_webhook"),
                ],
            },
            {
                "title": "Access",
                "separator": True,
                "items": [
                    _item("Users", "person", "admin:core_user_changelist", "core.view_user"),
                    _item("Groups", "shield_person", "admin:auth_group_changelist", "auth.view_group"),
                    _item("Teams", "groups", "admin:core_team_changelist", "core.view_team"),
                    _item("Invitations", "mail", "admin:core_invitation_changelist", "core.view_invitation"),
                    _item("Signed-in devices", "devices", "admin:core_device_changelist", "core.view_device"),
                    _item("API keys", "key", "admin:core_apikey_changelist", "core.view_apikey"),
                    _item("Audit log", "history_edu", "admin:core_auditentry_changelist", "core.view_auditentry"),
                    _item("Limits", "speed", "admin:core_allowance_changelist", "core.view_allowance"),
                ],
            },
            {
                "title": "Housekeeping",
                "separator": True,
                "items": [
                    _item(
                        "Runs", "cleaning_services", "admin:core_maintenancerun_changelist", "core.view_maintenancerun"
                    ),
                    _item(
                        "Schedules",
                        "calendar_clock",
                        "admin:django_celery_beat_periodictask_changelist",
                        "django_celery_beat.view_periodictask",
                    ),
                    _item("Backups", "backup", "admin:core_backup_changelist", "core.view_backup"),
                    _item("Slow queries", "hourglass_top", "admin:core_slowquery_changelist", "core.view_slowquery"),
                    _item("Workers", "engineering", "console-workers", "core.view_maintenancerun"),
                    _item("Pools", "cable", "console-pools", "core.view_maintenancerun"),
                    _item("Cache", "cached", "console-cache", "core.view_cacheentry"),
                ],
            },
        ],
    },
}
