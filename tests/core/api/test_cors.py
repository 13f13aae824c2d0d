"""Pages of other origins: those on the list may read answers of the API, no other may."""

import pytest
from django.test import Client

from core.api.cors import judge
from tests.api import ApiClient
from tests.factories import make_operator, make_user

APP = "https://app.example"
HOSTILE = [
    "https://evil.example",
    "null",
    "http://app.example",
    "https://app.example:8443",
    "https://app.example.evil.example",
    "https://evilapp.example",
    "https://app.example@evil.example",
    "file://",
    "",
    "https://[",
]


@pytest.fixture(autouse=True)
def listed(settings) -> None:
    settings.CORS_ALLOWED_ORIGINS = [APP]


def cors_headers(response) -> dict[str, str]:
    return {name: value for name, value in response.items() if name.lower().startswith("access-control-")}


def get(path: str, origin: str, **more: str):
    return Client(headers={"Origin": origin, **more}).get(path)


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/api/v1/agents/", "/api/v1/nowhere", "/api/v1/cors-check"])
def test_a_listed_origin_may_read_answers_and_errors(path: str) -> None:
    response = get(path, APP)
    assert response["Access-Control-Allow-Origin"] == APP
    assert "Access-Control-Allow-Credentials" not in response
    assert "X-Request-Id" in response["Access-Control-Expose-Headers"]
    assert "origin" in response["Vary"].lower()


@pytest.mark.django_db
@pytest.mark.parametrize("origin", HOSTILE)
def test_no_other_origin_gets_a_header(origin: str) -> None:
    key = ApiClient(make_user())
    assert cors_headers(key.get("/api/v1/agents/", Origin=origin)) == {}
    preflight = Client().options("/api/v1/chat/", headers={"Origin": origin, "Access-Control-Request-Method": "POST"})
    assert cors_headers(preflight) == {}


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/admin/login/", "/docs", "/metrics"])
def test_pages_are_for_nobody_else(path: str) -> None:
    assert cors_headers(get(path, APP)) == {}


def test_a_preflight_tells_what_may_be_sent() -> None:
    headers = {"Origin": APP, "Access-Control-Request-Method": "POST"}
    response = Client().options("/api/v1/chat/", headers=headers)
    assert response.status_code == 200
    assert {"authorization", "idempotency-key", "last-event-id", "prefer"} <= set(
        response["Access-Control-Allow-Headers"].split(", ")
    )
    assert "DELETE" in response["Access-Control-Allow-Methods"]


def test_credentials_are_taken_where_the_operator_says_so(settings) -> None:
    settings.CORS_ALLOW_CREDENTIALS = True
    assert get("/api/v1/cors-check", APP)["Access-Control-Allow-Credentials"] == "true"
    assert get("/api/v1/cors-check", APP).json()["credentials"] is True
    assert get("/api/v1/cors-check", "https://evil.example").json()["credentials"] is False


def test_a_page_asks_for_itself_and_an_operator_for_any() -> None:
    assert get("/api/v1/cors-check", APP).json() == {
        "origin": APP,
        "allowed": True,
        "reason": "The origin stands in SUTAZAI_CORS_ORIGINS.",
        "credentials": False,
    }
    asked = Client().get("/api/v1/cors-check/?origin=https://other.example").json()
    assert (asked["origin"], asked["allowed"]) == ("https://other.example", False)
    assert "SUTAZAI_CORS_ORIGINS" in asked["reason"]


@pytest.mark.parametrize(
    ("origin", "reason"),
    [
        ("", "No origin was sent"),
        ("null", "without an origin"),
        ("http://app.example", f"not {APP}: scheme"),
        ("https://app.example:8443", f"not {APP}: scheme"),
        ("https://evil.example", "does not stand in"),
        ("https://[", "does not stand in"),
    ],
)
def test_the_reason_tells_what_to_do(origin: str, reason: str) -> None:
    allowed, text = judge(origin)
    assert not allowed
    assert reason in text


@pytest.mark.django_db
def test_an_answer_of_the_api_is_the_same_for_a_listed_origin_and_for_none() -> None:
    key = ApiClient(make_operator())
    assert key.get("/api/v1/nodes/", Origin=APP).json() == key.get("/api/v1/nodes/").json()
