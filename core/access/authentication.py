"""Who asks: programs with an API key, people with their console sign-in."""

from typing import Any

from django.http import HttpResponse
from rest_framework.authentication import BaseAuthentication, CSRFCheck, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.request import Request

from core.access import api_keys
from core.models import ApiKey, User


class ApiKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer stz_<key_id>_<secret>`."""

    scheme = "Bearer"

    def authenticate(self, request: Request) -> tuple[User, ApiKey] | None:
        scheme, _, text = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() != self.scheme.lower():
            return None
        key = api_keys.verify(text.strip())
        if key is None:
            raise AuthenticationFailed("The API key is unknown, revoked, or its user is inactive.")
        return key.user, key

    def authenticate_header(self, request: Request) -> str:
        return f'{self.scheme} realm="sutazai"'


class ConsoleSessionAuthentication(SessionAuthentication):
    """The console's sign-in; requests that change something carry Django's CSRF token (header X-CSRFToken)."""

    def enforce_csrf(self, request: Request) -> None:
        check = CSRFCheck(lambda _: HttpResponse())
        check.process_request(request)
        reason: Any = check.process_view(request, lambda _: HttpResponse(), (), {})
        if reason:
            raise PermissionDenied(f"CSRF check failed: {reason}", code="csrf-failed")


def user_of(request: Request) -> User:
    """Return who asks, in a view whose permissions let in nobody unknown."""
    assert isinstance(request.user, User)
    return request.user
