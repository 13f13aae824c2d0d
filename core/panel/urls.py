"""Addresses of a person's settings."""

from django.urls import path

from core.api.routers import either_way
from core.panel import settings

urlpatterns = [
    either_way("settings", settings.settings, "panel-settings"),
    path("settings/keys/", settings.make_key, name="panel-make-key"),
    path("settings/keys/<uuid:key_id>/rotate/", settings.rotate_key, name="panel-rotate-key"),
    path("settings/keys/<uuid:key_id>/revoke/", settings.revoke_key, name="panel-revoke-key"),
    path("settings/sign-ins/<uuid:family_id>/end/", settings.end_sign_in, name="panel-end-sign-in"),
]
