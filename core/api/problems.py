"""Every error of the API as a problem document (RFC 9457, application/problem+json).

Members: type, title, status, detail, code (stable, for programs), instance (the address asked), request_id (also in
the log), errors (field -> texts, where fields are at fault).
"""

import errno
import json
import sqlite3
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from django.core.exceptions import (
    NON_FIELD_ERRORS,
    RequestDataTooBig,
    SuspiciousOperation,
    ValidationError,
)
from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.db import IntegrityError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.http.request import RawPostDataException, UnreadablePostError
from django.shortcuts import render
from django.utils.html import format_html
from django.utils.log import log_response
from django.views import defaults
from rest_framework import exceptions
from rest_framework.response import Response

from core.api.audit import note_hidden
from core.api.limits import excess_or
from core.api.request_id import request_id as id_of
from core.exceptions import InvalidInput, Refused
from core.ops import traffic

CONTENT_TYPE = "application/problem+json"
DATABASE_RETRY_SECONDS = 2
# Somebody has to make room first.
DISK_RETRY_SECONDS = 10
# How SQLite, PostgreSQL and the system call a full disk. SQLite needs room to read, too, where its index must grow.
_SQLITE_FULL = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE})
_POSTGRESQL_FULL = "53100"
_SYSTEM_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

# The slug of an error of REST framework's, and its title.
_CODES: dict[type[exceptions.APIException], tuple[str, str]] = {
    exceptions.ParseError: ("malformed-request", "The request cannot be read"),
    exceptions.AuthenticationFailed: ("not-authenticated", "The credentials are not valid"),
    exceptions.NotAuthenticated: ("not-authenticated", "Sign in or send an API key"),
    exceptions.PermissionDenied: ("not-permitted", "You may not do this"),
    exceptions.NotFound: ("not-found", "There is no such thing here"),
    exceptions.MethodNotAllowed: ("method-not-allowed", "The address does not take this method"),
    exceptions.NotAcceptable: ("not-acceptable", "No format that the request accepts"),
    exceptions.UnsupportedMediaType: ("unsupported-media-type", "The body has a type that is not read here"),
    exceptions.Throttled: ("too-many-requests", "Too many requests"),
}


class BodyTooLarge(exceptions.APIException):
    status_code = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    default_code = "body-too-large"
    default_detail = "The body of the request is larger than allowed."


@dataclass(frozen=True)
class Problem:
    """What went wrong, before it has a form."""

    status: int
    code: str
    title: str
    detail: str = ""
    errors: Mapping[str, list[str]] = field(default_factory=dict)
    retry_after_seconds: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def document(self, *, instance: str, request_id: str) -> dict[str, Any]:
        """Write it down for the caller; the metrics learn of it."""
        traffic.failed(self.code, self.status)
        members = {
            "type": f"urn:sutazai:problem:{self.code}",
            "title": self.title,
            "status": int(self.status),
            "detail": self.detail or self.title,
            "code": self.code,
            "instance": instance,
            "request_id": request_id,
            "errors": dict(self.errors),
        }
        return {name: value for name, value in members.items() if value}

    def all_headers(self) -> dict[str, str]:
        retry = {} if self.retry_after_seconds is None else {"Retry-After": str(self.retry_after_seconds)}
        return {**self.headers, **retry}


class ProblemResponse(Response):
    """A problem in whatever form the client accepts: JSON under its own type, or the browsable API's page."""

    @property
    def rendered_content(self) -> Any:
        content = super().rendered_content
        if self.accepted_renderer.format != "api":
            self["Content-Type"] = CONTENT_TYPE
        return content


def exception_handler(error: Exception, context: Mapping[str, Any]) -> Response:
    """Answer an error raised in a view of the API. What nobody expected is logged, and its text kept from callers."""
    request: HttpRequest = context["request"]._request
    error = excess_or(error, context["request"])
    note_hidden(error, context.get("view"), request)
    problem = problem_of(error)
    document = problem.document(instance=request.path, request_id=id_of(request))
    response = ProblemResponse(document, status=problem.status, headers=problem.all_headers())
    if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(error, Refused):
        _log(request, response, error)
    return response


def problem_of(error: Exception) -> Problem:
    """Name what an error means to the caller."""
    if isinstance(error, Refused):
        return _of_refusal(error)
    if isinstance(error, exceptions.ValidationError):
        return _of_refusal(InvalidInput(_flat(error.detail)))
    if isinstance(error, ValidationError):
        return _of_refusal(InvalidInput(_of_django_validation(error)))
    if isinstance(error, exceptions.APIException):
        return _of_framework(error)
    return _of_django(error)


def _of_refusal(error: Refused) -> Problem:
    errors: Mapping[str, list[str]] = getattr(error, "errors", {})
    return Problem(error.status, error.code, error.title, error.detail, errors, error.retry_after_seconds)


def _of_framework(error: exceptions.APIException) -> Problem:
    code, title = _CODES.get(type(error), (error.default_code, HTTPStatus(error.status_code).phrase))
    given = getattr(error.detail, "code", None)
    if isinstance(given, str) and given != error.default_code:
        code = given
    challenge = getattr(error, "auth_header", None)
    return Problem(
        error.status_code,
        code.replace("_", "-"),
        title,
        str(error.detail),
        retry_after_seconds=getattr(error, "wait", None),
        headers={"WWW-Authenticate": challenge} if challenge else {},
    )


def _of_django(error: Exception) -> Problem:
    match error:
        case Http404():
            return Problem(404, "not-found", "There is no such thing here")
        case DjangoPermissionDenied():
            return Problem(403, "not-permitted", "You may not do this")
        case RequestDataTooBig():
            return Problem(413, "body-too-large", "The request is too large")
        case SuspiciousOperation() | RawPostDataException() | UnreadablePostError():
            return Problem(400, "bad-request", "The request cannot be accepted")
        case OperationalError() | OSError() if is_disk_full(error):
            return Problem(
                HTTPStatus.INSUFFICIENT_STORAGE,
                "disk-full",
                "The disk of the server is full",
                "Nothing was changed. Operators have to make room.",
                retry_after_seconds=DISK_RETRY_SECONDS,
            )
        case OperationalError() | InterfaceError():
            return Problem(
                503,
                "database-unavailable",
                "The database is busy or away",
                "Nothing was changed. Try again in a moment.",
                retry_after_seconds=DATABASE_RETRY_SECONDS,
            )
        case IntegrityError():
            return Problem(409, "conflict", "This collides with something that exists or is in use")
    return Problem(
        500, "internal-error", "Something went wrong on the server", "The log names it under this request_id."
    )


def is_disk_full(error: BaseException | None) -> bool:
    """Tell whether an error, or what it came from, says that there is no room left."""
    if error is None:
        return False
    return (
        getattr(error, "sqlite_errorcode", None) in _SQLITE_FULL
        or getattr(error, "sqlstate", None) == _POSTGRESQL_FULL
        or (isinstance(error, OSError) and error.errno in _SYSTEM_FULL)
        or is_disk_full(error.__cause__)
    )


def _flat(detail: Any, prefix: str = "") -> dict[str, list[str]]:
    """Turn REST framework's nested errors into one level: {"version.options": ["…"]}."""
    if isinstance(detail, Mapping):
        flat: dict[str, list[str]] = {}
        for name, inner in detail.items():
            own = "" if name == "non_field_errors" else str(name)
            flat.update(_flat(inner, ".".join(part for part in (prefix, own) if part)))
        return flat
    items = detail if isinstance(detail, list) else [detail]
    if any(isinstance(item, Mapping | list) for item in items):
        return _flat({str(number): item for number, item in enumerate(items) if item}, prefix)
    return {prefix or "body": [str(item) for item in items]}


def _of_django_validation(error: ValidationError) -> dict[str, list[str]]:
    if not hasattr(error, "error_dict"):
        return {"body": list(error.messages)}
    return {("body" if name == NON_FIELD_ERRORS else name): texts for name, texts in error.message_dict.items()}


def _log(request: HttpRequest, response: HttpResponse, error: BaseException | None) -> None:
    """Log a failure under its request's id, once: Django sees that it was done."""
    log_response(
        "%s: %s (request %s)",
        response.reason_phrase,
        request.path,
        id_of(request),
        response=response,
        request=request,
        level="error",
        exception=error,
    )


# Outside of REST framework's views ----------------------------------------------------------------------------------


def response(
    *,
    status: int,
    code: str,
    title: str,
    detail: str = "",
    request_id: str = "",
    instance: str = "",
    extra: Mapping[str, Any] | None = None,
) -> HttpResponse:
    """Make a problem document without REST framework."""
    document = Problem(status, code, title, detail).document(instance=instance, request_id=request_id)
    return HttpResponse(json.dumps({**document, **(extra or {})}), status=status, content_type=CONTENT_TYPE)


def _answer(request: HttpRequest, problem: Problem) -> HttpResponse:
    document = problem.document(instance=request.path, request_id=id_of(request))
    headers = problem.all_headers()
    return HttpResponse(json.dumps(document), status=problem.status, content_type=CONTENT_TYPE, headers=headers)


def _page(request: HttpRequest, problem: Problem) -> HttpResponse:
    context = {"problem": problem, "address": request.get_full_path()}
    response = render(request, "refused.html", context, status=problem.status)
    for name, value in problem.all_headers().items():
        response[name] = value
    return response


def wants_problem(request: HttpRequest) -> bool:
    """True for the API's addresses, and for clients that do not ask for a page."""
    return request.path.startswith("/api/") or "text/html" not in request.headers.get("Accept", "")


class RefusalMiddleware:
    """Answers what views outside of REST framework refuse: programs with a problem document, people with a page."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if not isinstance(error, Refused):
            return None
        problem = problem_of(error)
        if wants_problem(request):
            return _answer(request, problem)
        return _page(request, problem)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler400: a host that is not ours, too many fields, a body that is too large."""
    if wants_problem(request):
        return _answer(request, problem_of(exception))
    return defaults.bad_request(request, exception)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler403."""
    if wants_problem(request):
        return _answer(request, problem_of(exception))
    return defaults.permission_denied(request, exception)


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler404."""
    if wants_problem(request):
        return _answer(request, problem_of(exception))
    return defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's handler500, called while the error is handled: also for a database that is away."""
    error = sys.exc_info()[1]
    problem = problem_of(error if isinstance(error, Exception) else RuntimeError())
    if wants_problem(request):
        answer = _answer(request, problem)
    elif problem.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        answer = defaults.server_error(request)
    else:
        try:
            answer = _page(request, problem)
        except (OperationalError, InterfaceError):  # a page of ours tells who is signed in, which nobody knows now
            text = format_html("<h1>{}</h1><p>{}</p>", problem.title, problem.detail)
            answer = HttpResponse(text, status=problem.status, headers=problem.all_headers())
    _log(request, answer, error)
    return answer
