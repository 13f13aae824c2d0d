import errno
import json
import logging
import sqlite3
from contextlib import closing

import psycopg
import pytest
from django.core.exceptions import (
    DisallowedHost,
    PermissionDenied,
    RequestDataTooBig,
    TooManyFieldsSent,
    ValidationError,
)
from django.db import IntegrityError, InterfaceError, OperationalError
from django.http import Http404
from django.test import Client, RequestFactory
from rest_framework import exceptions

from core.access import ownership
from core.api import problems
from core.ops.side_file import SideFile
from tests.api import ApiClient, assert_problem
from tests.factories import make_user

SECRET = "internals that nobody may read"


def fail_with(monkeypatch, error):
    def fail(rows, user):
        raise error

    monkeypatch.setattr(ownership, "visible", fail)


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/api/v1/nothing", "/api/v2/chat/", "/api/v1/tasks/not-an-id/", "/api/"])
def test_an_unknown_address_is_a_problem(path):
    problem = assert_problem(ApiClient(make_user()).get(path), 404, "not-found")
    assert problem["instance"] == path


@pytest.mark.django_db
def test_a_method_that_an_address_does_not_take_is_a_problem():
    response = ApiClient(make_user()).delete("/api/v1/chat/")
    assert_problem(response, 405, "method-not-allowed")
    assert "POST" in response["Allow"]


@pytest.mark.django_db
def test_a_format_that_is_not_offered_is_a_problem():
    assert_problem(ApiClient(make_user()).get("/api/v1/tasks/", Accept="image/png"), 406, "not-acceptable")


@pytest.mark.django_db
def test_a_browser_sees_a_page_where_a_program_sees_a_problem():
    assert_problem(Client().get("/nothing"), 404, "not-found")
    page = Client().get("/nothing", headers={"Accept": "text/html"})
    assert page.status_code == 404
    assert page["Content-Type"].startswith("text/html")


@pytest.mark.django_db
def test_the_browsable_api_shows_a_problem_as_a_page():
    response = ApiClient(make_user()).get("/api/v1/tasks/?nonsense=1", Accept="text/html")
    assert response.status_code == 400
    assert response["Content-Type"].startswith("text/html")
    assert b"Unknown parameter." in response.content


@pytest.mark.django_db
def test_a_foreign_host_name_is_a_problem():
    client = Client(headers={"Host": "evil.example"})
    assert_problem(client.get("/api/v1/tasks/"), 400, "bad-request")


@pytest.mark.django_db
@pytest.mark.parametrize("error", [OperationalError("database is locked"), InterfaceError("connection is closed")])
def test_a_database_that_is_away_is_said_so(monkeypatch, error):
    fail_with(monkeypatch, error)
    response = ApiClient(make_user()).get("/api/v1/tasks/")
    assert_problem(response, 503, "database-unavailable")
    assert int(response["Retry-After"]) > 0


def full_sqlite(tmp_path):
    """What Django makes of a statement for which an SQLite file has no room."""
    path = tmp_path / "full.sqlite3"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE t (v BLOB)")
    file = SideFile(path, ["PRAGMA max_page_count = 3"])
    with pytest.raises(OperationalError) as caught:
        file.run("INSERT INTO t VALUES (zeroblob(%s))", [100_000])
    return caught.value


def full_postgresql(_):
    error = OperationalError("could not extend file")
    error.__cause__ = psycopg.errors.DiskFull("could not extend file")
    return error


def full_system(_):
    return OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.django_db
@pytest.mark.parametrize("make", [full_sqlite, full_postgresql, full_system])
def test_a_disk_that_is_full_is_said_so(monkeypatch, tmp_path, make):
    fail_with(monkeypatch, make(tmp_path))
    response = ApiClient(make_user()).get("/api/v1/tasks/")
    assert_problem(response, 507, "disk-full")
    assert int(response["Retry-After"]) > 0


@pytest.mark.django_db
def test_a_failure_that_nobody_expected_is_logged_once_with_its_request_and_kept_from_the_caller(monkeypatch, caplog):
    fail_with(monkeypatch, RuntimeError(SECRET))
    with caplog.at_level(logging.INFO):
        response = ApiClient(make_user()).get("/api/v1/tasks/")
    problem = assert_problem(response, 500, "internal-error")
    assert SECRET not in json.dumps(problem)
    records = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(records) == 1
    assert problem["request_id"] in records[0].getMessage()
    assert SECRET in str(records[0].exc_info[1])


@pytest.mark.django_db
def test_a_failure_outside_the_views_is_a_problem_too(monkeypatch, caplog):
    def fail(request):
        raise RuntimeError(SECRET)

    monkeypatch.setattr("django.contrib.sessions.middleware.SessionMiddleware.process_request", lambda _, r: fail(r))
    response = Client(raise_request_exception=False).get("/api/v1/tasks/")
    problem = assert_problem(response, 500, "internal-error")
    assert SECRET not in json.dumps(problem)
    assert [problem["request_id"] in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.django_db
def test_an_admin_page_that_fails_stays_a_page(monkeypatch):
    def fail(request):
        raise RuntimeError(SECRET)

    monkeypatch.setattr("django.contrib.sessions.middleware.SessionMiddleware.process_request", lambda _, r: fail(r))
    response = Client(raise_request_exception=False, headers={"Accept": "text/html"}).get("/admin/")
    assert response.status_code == 500
    assert response["Content-Type"].startswith("text/html")
    assert SECRET not in response.content.decode()


@pytest.mark.django_db
def test_a_page_that_the_database_refuses_says_so_and_when_to_try_again(monkeypatch):
    def fail(request):
        raise OperationalError("database is locked")

    monkeypatch.setattr("django.contrib.sessions.middleware.SessionMiddleware.process_request", lambda _, r: fail(r))
    response = Client(raise_request_exception=False, headers={"Accept": "text/html"}).get("/admin/")
    assert response.status_code == 503
    assert int(response["Retry-After"]) > 0
    assert "The database is busy or away" in response.content.decode()


def test_the_callers_request_id_comes_back():
    response = Client(headers={"X-Request-Id": "my-request-1"}).get("/nothing")
    assert assert_problem(response, 404, "not-found")["request_id"] == "my-request-1"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Http404(SECRET), 404, "not-found"),
        (PermissionDenied(SECRET), 403, "not-permitted"),
        (RequestDataTooBig(SECRET), 413, "body-too-large"),
        (DisallowedHost(SECRET), 400, "bad-request"),
        (TooManyFieldsSent(SECRET), 400, "bad-request"),
        (IntegrityError(SECRET), 409, "conflict"),
        (KeyError(SECRET), 500, "internal-error"),
    ],
)
def test_each_error_has_its_problem_and_hides_its_text(error, status, code):
    problem = problems.problem_of(error)
    assert (problem.status, problem.code) == (status, code)
    assert SECRET not in str(problem.document(instance="/", request_id=""))


def test_nested_errors_name_their_fields():
    error = exceptions.ValidationError({"version": {"slots": ["Too many."]}, "items": [{}, {"name": ["Missing."]}]})
    assert problems.problem_of(error).errors == {"version.slots": ["Too many."], "items.1.name": ["Missing."]}


def test_a_models_own_validation_names_its_fields():
    error = ValidationError({"options": ["An object is expected."], "__all__": ["Both are wrong."]})
    assert problems.problem_of(error).errors == {"options": ["An object is expected."], "body": ["Both are wrong."]}


def test_a_models_validation_without_fields_is_about_the_body():
    assert problems.problem_of(ValidationError("Not like this.")).errors == {"body": ["Not like this."]}


def test_a_program_is_forbidden_by_a_problem():
    request = RequestFactory().get("/api/v1/tasks/", headers={"Accept": "text/html"})
    assert problems.permission_denied(request, PermissionDenied(SECRET))["Content-Type"] == problems.CONTENT_TYPE


def test_a_wait_is_told_in_the_header():
    problem = problems.problem_of(exceptions.Throttled(wait=7))
    assert problem.status == 429
    assert problem.all_headers() == {"Retry-After": "7"}


def test_a_problem_without_a_view_has_the_same_members():
    response = problems.response(
        status=413, code="body-too-large", title="Too large", request_id="r", extra={"task": "t"}
    )
    assert response.status_code == 413
    assert json.loads(response.content) == {
        "type": "urn:sutazai:problem:body-too-large",
        "title": "Too large",
        "status": 413,
        "detail": "Too large",
        "code": "body-too-large",
        "request_id": "r",
        "task": "t",
    }


def test_pages_for_refused_requests_stay_pages():
    request = RequestFactory().get("/admin/", headers={"Accept": "text/html"})
    assert problems.bad_request(request, DisallowedHost(SECRET)).status_code == 400
    assert problems.permission_denied(request, PermissionDenied(SECRET))["Content-Type"].startswith("text/html")
