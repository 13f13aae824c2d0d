"""Limits at the API's door: every request is counted once, for whoever asks, and every answer tells what is left.

Source: the headers RateLimit and RateLimit-Policy of draft-ietf-httpapi-ratelimit-headers-11.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from django.contrib.auth.models import AnonymousUser
from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from core.access.limits import requests
from core.access.limits.allowances import levels
from core.access.limits.refusals import TooManyRequests
from core.access.limits.requests import Quota
from core.access.limits.subjects import subjects_of
from core.access.principal import principal_of
from core.models import User
from core.net.clients import address_of

if TYPE_CHECKING:
    from rest_framework.views import APIView  # which imports this module

# Where a request keeps what it was counted for.
QUOTAS = "sutazai.quotas"


class RequestThrottle(BaseThrottle):
    """Counts a request that was let in. The framework's own throttles look first and count later: too many pass."""

    def allow_request(self, request: Request, view: "APIView") -> bool:
        count_once(request)
        return True


def count_once(request: Request) -> None:
    """Count a request for its key or person, and for their team; one of nobody known for its address.

    Raises TooManyRequests.
    """
    if QUOTAS in request.META:
        return
    if isinstance(_user(request), User):
        principal = principal_of(request)
        quotas = requests.count(levels(subjects_of(principal.user, principal.api_key)))
    else:
        quotas = requests.count_anonymous(address_of(request))
    request.META[QUOTAS] = quotas
    requests.refuse_excess(quotas)


def excess_or(error: Exception, request: Request) -> Exception:
    """Count a request that is refused before it comes to the throttle, too; returns what to refuse it with."""
    if not isinstance(error, APIException):
        return error
    try:
        count_once(request)
    except (TooManyRequests, DatabaseError) as worse:
        return worse
    return error


def _user(request: Request) -> User | AnonymousUser:
    try:
        return request.user
    except APIException:  # the credentials are no good
        return AnonymousUser()


class RateLimitMiddleware:
    """Tells of a counted request's limits: all of them as policies, and what is left of the tightest."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if quotas := request.META.get(QUOTAS):
            response["RateLimit-Policy"] = policies(quotas)
            response["RateLimit"] = standing(min(quotas, key=lambda quota: quota.tightness))
        return response


def policies(quotas: Sequence[Quota]) -> str:
    return ", ".join(f'"{quota.name}";q={quota.limit};w={quota.window_seconds}' for quota in quotas)


def standing(quota: Quota) -> str:
    return f'"{quota.name}";r={quota.remaining};t={quota.seconds_left}'
