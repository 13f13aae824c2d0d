"""Mistakes in the settings that would be noticed too late. `manage.py check` runs them, and so does every `up`."""

import os
from ipaddress import ip_address
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, register

from core import tracing

TAG = "sutazai"
MIN_OPERATOR_PASSWORD = 10
TLS_MODES = {"require", "verify-ca", "verify-full"}


@register(TAG)
def secrets_differ(**_: Any) -> list[CheckMessage]:
    """One secret that leaks must not open what another one guards."""
    secrets = [settings.SECRET_KEY, settings.API_KEY_PEPPER, *settings.ENCRYPTION_KEYS]
    if len(set(secrets)) == len(secrets):
        return []
    hint = "Give each of SUTAZAI_SECRET_KEY, SUTAZAI_API_KEY_PEPPER and SUTAZAI_ENCRYPTION_KEYS a value of its own."
    return [Error("The same secret is used twice.", hint=hint, id="sutazai.E001")]


@register(TAG)
def operator_password_is_no_default(**_: Any) -> list[CheckMessage]:
    password = settings.OPERATOR_PASSWORD
    if not settings.IS_PRODUCTION or not password or len(password) >= MIN_OPERATOR_PASSWORD:
        return []
    hint = f"Choose at least {MIN_OPERATOR_PASSWORD} characters, or none: then a password is made up and shown once."
    return [Error("SUTAZAI_OPERATOR_PASSWORD is too short for production.", hint=hint, id="sutazai.E002")]


@register(TAG)
def remote_database_uses_tls(**_: Any) -> list[CheckMessage]:
    database = settings.DATABASES["default"]
    is_sqlite = "sqlite" in database["ENGINE"]
    host = str(database.get("HOST") or "")
    if not settings.IS_PRODUCTION or is_sqlite or host.startswith("/") or _is_this_machine(host):
        return []
    if database.get("OPTIONS", {}).get("sslmode") in TLS_MODES:
        return []
    hint = "Add ?sslmode=verify-full&sslrootcert=… to DATABASE_URL (or at least ?sslmode=require)."
    return [checks.Warning(f"The database at {host} is used without TLS.", hint=hint, id="sutazai.W001")]


@register(TAG)
def proxies_are_known(**_: Any) -> list[CheckMessage]:
    """Who listens to other machines gets requests from their proxies, which alone can say that HTTPS was used."""
    is_only_local = all(network.is_loopback for network in settings.TRUSTED_PROXIES)
    if not settings.IS_PRODUCTION or not is_only_local or _is_this_machine(settings.HOST):
        return []
    hint = (
        "Set SUTAZAI_TRUSTED_PROXIES to the networks of the reverse proxies. Others are redirected to HTTPS for ever."
    )
    return [checks.Warning("No reverse proxy outside of this machine is trusted.", hint=hint, id="sutazai.W002")]


@register(TAG)
def tracing_can_be_done(**_: Any) -> list[CheckMessage]:
    if not tracing.is_wanted() or tracing.is_installed():
        return []
    message = "OTEL_EXPORTER_OTLP_ENDPOINT is set, and the packages that send traces are not installed."
    return [checks.Warning(message, hint=f"{tracing.INSTALL}; or unset it.", id="sutazai.W003")]


@register(TAG)
def traces_go_over_http(**_: Any) -> list[CheckMessage]:
    protocols = {os.environ.get(name, "") for name in tracing.PROTOCOLS}
    if not tracing.is_wanted() or protocols <= {"", tracing.PROTOCOL}:
        return []
    hint = f"Set it to {tracing.PROTOCOL}, and the endpoint to the collector's port for HTTP, such as 4318."
    return [checks.Warning("OTEL_EXPORTER_OTLP_PROTOCOL names one that is not spoken.", hint=hint, id="sutazai.W005")]


@register(TAG)
def several_web_processes_share_what_they_remember(**_: Any) -> list[CheckMessage]:
    """A one-time code may be used once: who has seen it through another process must not use it again."""
    if settings.WEB_PROCESSES == 1 or settings.REDIS_URL:
        return []
    message = "Each of several web processes remembers for itself which one-time codes of sign-ins were used."
    return [checks.Warning(message, hint="Set REDIS_URL, or SUTAZAI_WEB_PROCESSES=1.", id="sutazai.W004")]


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host in {"", "localhost"}
