"""What answers tell a browser."""

import re

import pytest
from django.http import HttpResponse
from django.test import Client, RequestFactory

from core.api.headers import NOTHING, ContentPolicyMiddleware
from tests.factories import make_operator

pytestmark = pytest.mark.django_db


@pytest.fixture
def browser() -> Client:
    client = Client(headers={"Accept": "text/html"})
    client.force_login(make_operator())
    return client


def policy(response: HttpResponse) -> dict[str, list[str]]:
    parts = [part.split() for part in response["Content-Security-Policy"].split("; ")]
    return {directive: values for directive, *values in parts}


@pytest.mark.parametrize("path", ["/docs", "/api/v1/", "/api/v1/nodes/"])
def test_pages_run_scripts_of_their_own_only(browser: Client, path: str) -> None:
    found = policy(browser.get(path))
    scripts = [value for value in found["script-src"] if not value.startswith("'nonce-")]
    assert scripts == ["'self'"]
    assert found["default-src"] == found["base-uri"] == found["form-action"] == ["'self'"]
    assert found["object-src"] == found["frame-ancestors"] == ["'none'"]
    assert found["style-src"] == ["'self'", "'unsafe-inline'"]


@pytest.mark.parametrize("path", ["/admin/", "/admin/playground/", "/admin/agents/node/", "/admin/nowhere/"])
def test_scripts_made_from_text_run_in_the_console_alone(browser: Client, path: str) -> None:
    assert policy(browser.get(path))["script-src"] == ["'self'", "'unsafe-eval'"]


def test_the_console_means_its_folder_and_no_address_that_merely_begins_like_it(browser: Client) -> None:
    assert "'unsafe-eval'" not in policy(browser.get("/administration/"))["script-src"]


def test_a_script_inside_of_a_page_has_the_nonce_of_its_answer_and_of_no_other(browser: Client) -> None:
    pages = [browser.get("/docs") for _ in range(2)]
    nonces = [re.findall(r'<script nonce="([^"]+)"', page.text) for page in pages]
    for page, (nonce,) in zip(pages, nonces, strict=True):
        assert f"'nonce-{nonce}'" in policy(page)["script-src"]
    assert nonces[0] != nonces[1]


@pytest.mark.parametrize("path", ["/api/v1/agents/", "/api/schema", "/metrics", "/api/v1/nowhere"])
def test_what_is_no_page_may_load_nothing(path: str) -> None:
    response = Client(headers={"Accept": "application/json"}).get(path)
    assert response["Content-Security-Policy"] == NOTHING


def test_a_view_can_allow_more_for_its_own_page() -> None:
    def view(request):
        response = HttpResponse("<p>")
        response._csp_update = {"form-action": ["https://login.example"], "script-src": ["'sha256-x'"]}
        return response

    request = RequestFactory().get("/admin/login/")
    found = policy(ContentPolicyMiddleware(view)(request))
    assert found["form-action"] == ["'self'", "https://login.example"]
    assert found["script-src"] == ["'self'", "'sha256-x'", "'unsafe-eval'"]


@pytest.mark.parametrize("path", ["/admin/login/", "/docs", "/api/v1/agents/", "/api/v1/nowhere", "/metrics"])
def test_every_answer_says_how_little_a_browser_may_do_with_it(path: str) -> None:
    response = Client().get(path)
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["X-Frame-Options"] == "DENY"
    assert response["Referrer-Policy"] == "same-origin"
    assert response["Cross-Origin-Opener-Policy"] == "same-origin"
    assert response["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "camera=()" in response["Permissions-Policy"]


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "localhost:80@evil.example", "a b", ""])
def test_a_host_that_is_not_ours_is_refused(host: str) -> None:
    response = Client().get("/api/v1/agents/", headers={"Host": host})
    assert response.status_code == 400
    assert response["Content-Type"] == "application/problem+json"
    assert "evil" not in response.text
