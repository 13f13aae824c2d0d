"""Mistakes in the settings are told before anything starts."""

from ipaddress import ip_network

import pytest
from django.core.checks import run_checks

from core.checks import TAG


@pytest.fixture(autouse=True)
def production(settings) -> None:
    """A production server in which nothing is wrong."""
    settings.IS_PRODUCTION = True
    settings.SECRET_KEY, settings.API_KEY_PEPPER, settings.ENCRYPTION_KEYS = "one", "two", ["three", "four"]
    settings.OPERATOR_PASSWORD = ""
    settings.HOST = "127.0.0.1"
    settings.TRUSTED_PROXIES = (ip_network("127.0.0.0/8"),)


def found() -> list[str | None]:
    messages = run_checks(tags=[TAG])
    assert all(message.hint for message in messages)
    return [message.id for message in messages]


def test_a_sound_production_server_has_none() -> None:
    assert found() == []


def test_several_web_processes_need_redis_to_know_used_codes(settings) -> None:
    settings.WEB_PROCESSES, settings.REDIS_URL = 2, ""
    assert found() == ["sutazai.W004"]
    settings.REDIS_URL = "redis://localhost"
    assert found() == []


@pytest.mark.parametrize("keys", [["one"], ["two"], ["three", "three"]])
def test_a_secret_that_serves_twice_stops_the_start(settings, keys) -> None:
    settings.ENCRYPTION_KEYS = keys
    assert found() == ["sutazai.E001"]


def test_a_short_password_of_the_operator_stops_the_start_in_production_alone(settings) -> None:
    settings.OPERATOR_PASSWORD = "admin"
    assert found() == ["sutazai.E002"]
    settings.IS_PRODUCTION = False
    assert found() == []


@pytest.mark.parametrize(
    ("host", "sslmode", "expected"),
    [
        ("db.example", None, ["sutazai.W001"]),
        ("db.example", "prefer", ["sutazai.W001"]),
        ("10.0.0.5", "disable", ["sutazai.W001"]),
        ("db.example", "require", []),
        ("db.example", "verify-full", []),
        ("localhost", None, []),
        ("127.0.0.1", None, []),
        ("::1", None, []),
        ("/run/postgresql", None, []),
        ("", None, []),
    ],
)
def test_a_database_elsewhere_without_tls_is_told(settings, monkeypatch, host, sslmode, expected) -> None:
    options = {"sslmode": sslmode} if sslmode else {}
    database = {"ENGINE": "core.postgresql", "HOST": host, "OPTIONS": options}
    monkeypatch.setitem(settings.DATABASES, "default", database)
    assert found() == expected


@pytest.mark.parametrize(
    ("host", "proxies", "expected"),
    [
        ("0.0.0.0", ["127.0.0.0/8"], ["sutazai.W002"]),
        ("0.0.0.0", [], ["sutazai.W002"]),
        ("0.0.0.0", ["127.0.0.0/8", "10.0.0.0/8"], []),
        ("::1", [], []),
    ],
)
def test_a_server_that_listens_to_others_knows_its_proxies(settings, host, proxies, expected) -> None:
    settings.HOST = host
    settings.TRUSTED_PROXIES = tuple(map(ip_network, proxies))
    assert found() == expected


def test_traces_that_cannot_be_sent_are_told_and_stop_nothing(monkeypatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
    assert found() == []
    monkeypatch.setattr("core.tracing.is_installed", lambda: False)
    assert found() == ["sutazai.W003"]
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert found() == []


@pytest.mark.parametrize(("protocol", "expected"), [("grpc", ["sutazai.W005"]), ("http/protobuf", []), ("", [])])
def test_traces_that_are_to_go_by_another_protocol_are_told(monkeypatch, protocol, expected) -> None:
    monkeypatch.setattr("core.tracing.is_installed", lambda: True)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", protocol)
    assert found() == []
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
    assert found() == expected
