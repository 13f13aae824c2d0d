from django.urls import resolve

from agents.gateway.asgi import OLLAMA, OPENAI, ROUTES
from core.ops.endpoints import Endpoint, endpoints


def paths():
    return {endpoint.path for endpoint in endpoints()}


def test_every_list_of_the_api_is_among_them():
    lists = {"agents", "nodes", "sessions", "tasks", "keys", "queue", "pools", "limits", "cache"}
    assert paths() >= {f"/api/v1/{name}" for name in lists}
    assert {"/health", "/health/ready", "/login", "/metrics", "/api/me", "/api/notifications"} <= paths()


def test_everything_that_the_gateway_answers_without_an_order_is_among_them():
    fixed = {address.rstrip("/") for address, method in ROUTES if method == "GET" and "{" not in address}
    expected = {address if address.startswith(OPENAI) else OLLAMA + address for address in fixed}
    assert {path for path in paths() if path.startswith((OPENAI, OLLAMA))} == expected


def test_each_is_a_whole_address_that_takes_no_more_than_a_get():
    ahead_of_django = ("/health", OPENAI, OLLAMA)
    for endpoint in endpoints():
        if not endpoint.path.startswith(ahead_of_django):
            resolve(endpoint.path)  # raises Resolver404
    assert "/api/v1/chat" not in paths()
    assert "/api/auth/login" not in paths()


def test_what_everybody_may_read_takes_no_key():
    assert {endpoint.path for endpoint in endpoints() if not endpoint.takes_key} == {
        "/api/auth/csrf",
        "/api/v1/cors-check",
        "/health",
        "/health/ready",
        "/login",
        "/ollama",
    }
    assert Endpoint("/api/v1/tasks", takes_key=True) in endpoints()
