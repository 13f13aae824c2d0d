"""Requests and the audit log: who makes them, and what was refused to them. What they changed: `audited`."""

import re
from collections.abc import Callable
from typing import Any

from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse

from core import audit
from core.access.principal import KEY
from core.access.watch import Holder
from core.api.request_id import request_id
from core.audit import context
from core.models import ApiKey, User
from core.net.clients import address_of

DENIED = frozenset({401, 403, 429})
# The public part of a key that was sent; anything else in its place may be a secret gone astray.
_KEY = re.compile(r"bearer\s+(stz_[0-9a-f]{12})_", re.IGNORECASE)


class AuditMiddleware:
    """Tells the log who makes a request, and writes down that it was refused, if whoever refused it did not.

    The person is looked up only when a row is written.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        with context.entered(lambda: origin_of(request)):
            response = self.get_response(request)
            if response.status_code in DENIED and not context.is_refusal_told():
                audit.denied(audit.Subject(name=request.path), detail=_refusal(request, response))
        return response


def origin_of(request: HttpRequest) -> context.Origin:
    user = getattr(request, "user", None)
    known = user if isinstance(user, User) else None
    return context.Origin(
        actor_id=known.pk if known else None,
        actor_name=known.get_username() if known else "",
        credential=_credential(request, known),
        address=address_of(request),
        request_id=request_id(request),
    )


def note_signed_out(request: HttpRequest, holder: Holder, request_id: str) -> None:
    """Write down that somebody who awaited an answer had lost the right to it. It never fails, as no denial does."""
    with context.entered(lambda: _origin_of_holder(request, holder, request_id)):
        audit.denied(audit.Subject(name=request.path), detail=f"{request.method} answered with 401 not-authenticated")


def _origin_of_holder(request: HttpRequest, holder: Holder, request_id: str) -> context.Origin:
    user = User.objects.filter(pk=holder.user_id).first()
    key = ApiKey.objects.filter(pk=holder.credential_id).first() if holder.kind == KEY else None
    return context.Origin(
        actor_id=user.pk if user else None,
        actor_name=user.get_username() if user else "",
        credential=key.credential_name if key else holder.kind,
        address=address_of(request),
        request_id=request_id,
    )


def _credential(request: HttpRequest, user: User | None) -> str:
    """Name what a request was signed with, or tried to be. REST framework leaves what it accepted in `auth`."""
    accepted = getattr(request, "auth", None)
    if isinstance(accepted, ApiKey):
        return accepted.credential_name
    if accepted is not None:
        return "token"
    if header := request.META.get("HTTP_AUTHORIZATION", ""):
        key = _KEY.match(header)
        return f"api-key {key[1]}" if key else "token"
    return "session" if user else ""


def _refusal(request: HttpRequest, response: HttpResponse) -> str:
    problem = getattr(response, "data", None)
    code = problem.get("code", "") if isinstance(problem, dict) else ""
    return f"{request.method} answered with {response.status_code} {code}".strip()


def note_hidden(error: Exception, view: Any, request: HttpRequest) -> None:
    """Write down that somebody asked for a row of others. The answer, 404, does not tell it from none."""
    if isinstance(error, Http404) and getattr(view, "queryset", None) is not None and _exists(view):
        detail = f"{request.method} answered with 404; it belongs to others"
        audit.denied(audit.Subject(name=request.path), detail=detail)


def _exists(view: Any) -> bool:
    """Tell whether the row that an address names is there: a view's own; for a list, the one that it belongs to."""
    model: Any = view.queryset.model
    wanted = {name.removesuffix("_pk"): value for name, value in view.kwargs.items() if name.endswith("_pk")}
    if view.lookup_field in view.kwargs:
        wanted[view.lookup_field] = view.kwargs[view.lookup_field]
    elif wanted:
        ((name, value),) = wanted.items()
        model, wanted = model._meta.get_field(name).related_model, {"pk": value}
    try:
        return bool(wanted) and model._base_manager.filter(**wanted).exists()
    except (ValidationError, ValueError):
        return False  # no key at all
