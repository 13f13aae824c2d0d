"""Calling the API as a program does."""

import json
from typing import Any

from django.db import connection
from django.http import HttpResponse
from django.test import Client

from core.models import User
from tests.factories import make_api_key


class ApiClient:
    """A client with a key of its own; bodies are sent as JSON unless they are bytes."""

    def __init__(self, user: User | None = None) -> None:
        self.user = user
        self._client = Client(headers={"Authorization": f"Bearer {make_api_key(user)}"} if user else {})

    def get(self, path: str, **headers: str) -> HttpResponse:
        return self._client.get(path, headers=_spelled(headers))

    def post(
        self, path: str, body: Any = None, *, content_type: str = "application/json", **headers: str
    ) -> HttpResponse:
        data = body if isinstance(body, bytes) else json.dumps({} if body is None else body)
        return self._client.post(path, data, content_type=content_type, headers=_spelled(headers))

    def patch(self, path: str, body: Any) -> HttpResponse:
        return self._client.patch(path, json.dumps(body), content_type="application/json")

    def head(self, path: str) -> HttpResponse:
        return self._client.head(path)

    def delete(self, path: str) -> HttpResponse:
        return self._client.delete(path)


def _spelled(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def counting_queries() -> int:
    """How many queries it costs to count a request: SQLite's counts stand beside the database."""
    return 1 if connection.vendor == "postgresql" else 0


def assert_problem(response: HttpResponse, status: int, code: str) -> dict[str, Any]:
    """Check that a response is a whole problem document of this kind; returns it."""
    assert response.status_code == status, response.content[:500]
    assert response["Content-Type"] == "application/problem+json"
    problem = json.loads(response.content)
    assert problem["status"] == status
    assert problem["code"] == code
    assert problem["type"] == f"urn:sutazai:problem:{code}"
    assert problem["title"]
    assert problem["detail"]
    assert problem["request_id"] == response["X-Request-Id"]
    assert "Traceback" not in response.content.decode()
    return problem
