"""Who asks: programs with an API key or a token, people with their browser's sign-in."""

from typing import Any

from django.http import HttpResponse
from rest_framework.authentication import BaseAuthentication, CSRFCheck, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.request import Request

from core.access import api_keys, tokens
from core.access.sign_in import second_factor
from core.models import ApiKey, TokenFamily, User


class BearerAuthentication(BaseAuthentication):
    """`Authorization: Bearer` with an API key (`stz_<key_id>_<secret>`) or an access token."""

    scheme = "Bearer"

    def authenticate(self, request: Request) -> tuple[User, ApiKey | TokenFamily] | None:
        return by_bearer(request.META.get("HTTP_AUTHORIZATION", ""))

    def authenticate_header(self, request: Request) -> str:
        return f'{self.scheme} realm="sutazai"'


def by_bearer(authorization: str) -> tuple[User, ApiKey | TokenFamily] | None:
    """Find who a header Authorization stands for; None if it is of another scheme. Raises AuthenticationFailed."""
    scheme, _, text = authorization.partition(" ")
    if scheme.lower() != BearerAuthentication.scheme.lower():
        return None
    text = text.strip()
    return _by_key(text) if text.startswith(f"{api_keys.PREFIX}_") else _by_token(text)


def _by_key(text: str) -> tuple[User, ApiKey]:
    key = api_keys.verify(text)
    if key is None:
        raise AuthenticationFailed("The API key is unknown, expired or revoked, or its user is inactive.")
    return key.user, key


def _by_token(text: str) -> tuple[User, TokenFamily]:
    try:
        family = tokens.verify(text)
    except tokens.TokenRefused as refusal:
        raise AuthenticationFailed(refusal.detail) from refusal
    return family.user, family


class BrowserAuthentication(SessionAuthentication):
    """A browser's sign-in; requests that change something carry Django's CSRF token (header X-CSRFToken).

    What shuts the console shuts the API to the same session: a missing second factor.
    """

    def authenticate(self, request: Request) -> tuple[Any, None] | None:
        found = super().authenticate(request)
        if found is not None and second_factor.is_missing(request._request, found[0]):
            raise PermissionDenied("This sign-in needs a second factor first.", code="second-factor-required")
        return found

    def enforce_csrf(self, request: Request) -> None:
        check = CSRFCheck(lambda _: HttpResponse())
        check.process_request(request)
        reason: Any = check.process_view(request, lambda _: HttpResponse(), (), {})
        if reason:
            raise PermissionDenied(f"CSRF check failed: {reason}", code="csrf-failed")
