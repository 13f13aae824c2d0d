"""Addresses of a person's settings and notifications."""

from django.urls import path

from core.api.routers import either_way
from core.panel import notifications, settings

urlpatterns = [
    either_way("settings", settings.settings, "panel-settings"),
    path("settings/keys/", settings.make_key, name="panel-make-key"),
    path("settings/keys/<uuid:key_id>/rotate/", settings.rotate_key, name="panel-rotate-key"),
    path("settings/keys/<uuid:key_id>/revoke/", settings.revoke_key, name="panel-revoke-key"),
    path("settings/notifications/", notifications.change_preferences, name="panel-change-notifications"),
    either_way("notifications", notifications.notifications, "panel-notifications"),
    path("notifications/unread/", notifications.unread, name="panel-unread-notifications"),
    path("notifications/read/", notifications.read_all, name="panel-read-notifications"),
    path("notifications/<uuid:notification_id>/read/", notifications.read, name="panel-read-notification"),
    path(
        "notifications/<uuid:notification_id>/open/", notifications.open_notification, name="panel-open-notification"
    ),
    path("settings/sign-ins/<uuid:family_id>/end/", settings.end_sign_in, name="panel-end-sign-in"),
]
