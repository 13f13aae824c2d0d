import json

import pytest
from rest_framework.exceptions import ParseError

from agents.models import AgentTask, ChatSession
from core.api.parsers import MAX_DEPTH, parse
from tests.api import ApiClient, assert_problem
from tests.factories import make_agent, make_builtin_node, make_user


def test_it_reads_an_object():
    text = {"message": "Grüße 🎉", "numbers": [1, -2.5, 2**60], "nested": {"is": True, "none": None}}
    assert parse(json.dumps(text, ensure_ascii=False).encode()) == text
    assert parse(json.dumps(text).encode()) == text  # with surrogate pairs, escaped


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b'"text"',
        b"[]",
        b"12",
        b"null",
        b'\xef\xbb\xbf{"a": 1}',
        '{"a": "ü"}'.encode("latin-1"),
        '{"a": 1}'.encode("utf-16"),
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": -1e999}',
        b'{"a": ' + b"9" * 20 + b"}",
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": 1, "a": 2}',
        b'{"a": {"b": 1, "b": 1}}',
        b'{"a": "\\ud800"}',
        b'{"\\udfff": 1}',
        b'{"a": ["\\udc00\\ud800"]}',
        b'{"a": ' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}",
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' * 100_000,
    ],
)
def test_it_refuses_what_merely_resembles_it(body):
    with pytest.raises(ParseError):
        parse(body)


def test_it_reads_down_to_the_deepest_level_allowed():
    depth = MAX_DEPTH - 2  # the object is a level, and what is in it another
    assert parse(b'{"a": ' + b"[" * depth + b"1" + b"]" * depth + b"}")["a"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("content_type", "body", "status", "code"),
    [
        pytest.param("application/json", b'{"message": "\xff"}', 400, "malformed-request", id="invalid UTF-8"),
        pytest.param("application/json", b'{"message": NaN}', 400, "malformed-request", id="NaN"),
        pytest.param("application/json", b'{"version": 1e999}', 400, "malformed-request", id="infinite number"),
        pytest.param(
            "application/json", b'{"version": ' + b"9" * 5000 + b"}", 400, "malformed-request", id="huge number"
        ),
        ("application/json; charset=latin-1", b'{"message": "hi"}', 415, "unsupported-media-type"),
        ("text/plain", b'{"message": "hi"}', 415, "unsupported-media-type"),
        ("application/xml", b"<message/>", 415, "unsupported-media-type"),
        ("application/x-www-form-urlencoded", b"message=hi", 415, "unsupported-media-type"),
        ("multipart/form-data; boundary=x", b"--x--", 415, "unsupported-media-type"),
        ("application/json", b'{"message": "' + b"x" * (10 * 2**20) + b'"}', 413, "body-too-large"),
        ("application/x-www-form-urlencoded", b"x" * (10 * 2**20), 413, "body-too-large"),
    ],
)
def test_a_body_that_cannot_be_read_is_a_problem_and_changes_nothing(content_type, body, status, code):
    make_builtin_node()
    owner = make_user()
    make_agent(owner, name="helper")
    response = ApiClient(owner).post("/api/v1/chat/", body, content_type=content_type)
    assert_problem(response, status, code)
    assert not AgentTask.objects.exists()
    assert not ChatSession.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "application/x-www-form-urlencoded"])
def test_json_is_read_as_curl_sends_it(content_type):
    response = ApiClient(make_user()).post("/api/v1/chat/", b'{"message": "hi"}', content_type=content_type)
    assert_problem(response, 404, "agent-not-found")
