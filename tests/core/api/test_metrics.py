import pytest

from core.ops import health
from core.ops.health import Health
from tests.factories import make_api_key, make_operator, make_user

pytestmark = pytest.mark.django_db


def bearer(user):
    return {"Authorization": f"Bearer {make_api_key(user)}"}


@pytest.mark.parametrize("path", ["/metrics", "/metrics/"])
def test_an_operators_key_opens_the_metrics(client, path):
    response = client.get(path, headers=bearer(make_operator()))
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/plain; version=")
    assert b"sutazai_workers " in response.content


def test_a_signed_in_operator_sees_them_too(client):
    client.force_login(make_operator())
    assert client.get("/metrics", headers={"Accept": "text/html"}).status_code == 200


TOKEN = "scrape-qe7Zk1tRm5vYw3Xb9uNc4LhPd8"  # pragma: allowlist secret


def test_the_token_of_the_settings_opens_the_metrics_and_nothing_else(client, settings):
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert client.get("/metrics", headers=headers).status_code == 401
    settings.METRICS_TOKEN = TOKEN
    assert client.get("/metrics", headers=headers).status_code == 200
    for path in ("/api/v1/pools", "/api/v1/agents/", "/api/me"):
        assert client.get(path, headers=headers).status_code == 401
    for wrong in (f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer ", TOKEN):
        assert client.get("/metrics", headers={"Authorization": wrong}).status_code == 401
    assert client.get("/metrics", headers=bearer(make_operator())).status_code == 200
    assert client.get("/metrics", headers=bearer(make_user())).status_code == 403


def test_the_token_opens_them_while_the_database_is_away(client, settings, monkeypatch, database_is_away):
    settings.METRICS_TOKEN = TOKEN
    found = Health()
    monkeypatch.setattr(health, "states", found.states)
    found.look()
    response = client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert response.status_code == 200
    assert b'api_dependency_status{dependency="database"} 0.0' in response.content
    assert b'api_dependency_status{dependency="disk"} 1.0' in response.content


def test_without_a_token_in_the_settings_an_empty_one_opens_nothing(client, settings):
    settings.METRICS_TOKEN = ""
    assert client.get("/metrics", headers={"Authorization": "Bearer "}).status_code == 401


def test_prometheus_gets_the_format_it_asks_for(client):
    accept = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"}
    response = client.get("/metrics", headers={**bearer(make_operator()), **accept})
    assert response["Content-Type"].startswith("application/openmetrics-text")
    assert response.content.endswith(b"# EOF\n")


def test_nobody_else_sees_them(client):
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers=bearer(make_user())).status_code == 403
    inactive = make_operator()
    headers = bearer(inactive)
    inactive.is_active = False
    inactive.save()
    assert client.get("/metrics", headers=headers).status_code == 401
    assert client.post("/metrics", headers=bearer(make_operator())).status_code == 405
