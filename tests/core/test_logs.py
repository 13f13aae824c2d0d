"""Log lines: one for each event, and nobody's secrets in them. Written by the real configuration's formatters."""

import io
import json
import logging
import logging.config
import time
from collections.abc import Callable, Iterator

import pytest
from django.conf import settings as django_settings
from django.test import Client

from core import logs
from core.ops.joint_log import JointLog
from tests.factories import make_api_key, make_operator

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJlLWNhbmFyeQ"
CANARIES = [
    ("key stz_0123456789ab_canary-_Secret0 used", "canary"),
    ("Authorization: Bearer canary-token-123", "canary"),
    ("{'Authorization': 'Basic Y2FuYXJ5OmNhbmFyeQ=='}", "Y2Fu"),
    (f"token {JWT} refused", "c2lnbmF0"),
    ("signed with whsec_Y2FuYXJ5+/Y2FuYXJ5==", "Y2Fu"),
    ("postgres://user:canary@db.example/name is away", "canary"),
    ("redis://:canary@cache:6379/0", "canary"),
    ("password=canary&x=1", "canary"),
    ('{"password": "canary"}', "canary"),
    ("{'client_secret': 'canary'}", "canary"),
    ("Cookie: sutazai_session=canary", "canary"),
    ("Gone: /account/invitation/canary-canary_canary/", "canary"),
    ("GET /account/password/reset/2f-d1abc-canary/ failed", "canary"),
]


@pytest.fixture(params=["text", "json"])
def written(request) -> Iterator[Callable[[], str]]:
    """What the root logger writes in each format, through the handlers of the settings."""
    config = {**django_settings.LOGGING, "handlers": {**django_settings.LOGGING["handlers"]}}
    output = io.StringIO()
    config["handlers"]["console"] = {
        "class": "logging.StreamHandler",
        "formatter": request.param,
        "stream": output,
    }
    before = logging.getLogger().handlers[:]
    logging.config.dictConfig(config)
    yield output.getvalue
    logging.config.dictConfig(django_settings.LOGGING)
    logging.getLogger().handlers[:] = before


logger = logging.getLogger("agents.test")


@pytest.mark.parametrize(("text", "canary"), CANARIES)
def test_no_credential_is_written(written, text: str, canary: str) -> None:
    logger.warning("Refused: %s", text)
    try:
        raise ValueError(text)
    except ValueError:
        logger.exception("It failed")
    assert logs.MASK in written()
    assert canary not in written()
    assert "ValueError" in written()


def test_our_own_secrets_are_known_by_what_they_are(written) -> None:
    logger.error("%s and %s", django_settings.SECRET_KEY, django_settings.ENCRYPTION_KEYS[0])
    logger.error("%s or %s", django_settings.AUDIT_KEY, django_settings.AUDIT_SIGNING_KEY)
    assert f"{logs.MASK} and {logs.MASK}" in written()
    assert f"{logs.MASK} or {logs.MASK}" in written()


@pytest.mark.parametrize(
    "text",
    [
        "42 tokens in 3 s",
        "the password was changed",
        "http://gpu1:11434/api",
        "a basic question",
        "secret agent",
        "/account/password/reset/sent/",
    ],
)
def test_ordinary_words_are_left_alone(text: str) -> None:
    assert logs.mask(text) == text


FORGED = "name\r\n12:00:00 ERROR   root: forged\x1b[31mred\x1b[0m\u2028next\x9b31m\x00"


def test_nothing_from_outside_begins_a_line_or_colours_a_terminal(written) -> None:
    logger.warning("Who is %s?", FORGED)
    lines = written().split("\n")
    assert len(lines) == 2  # one, and what follows the last line feed
    assert not [character for character in lines[0] if ord(character) < 32 or 127 <= ord(character) < 160]
    assert "\u2028" not in lines[0]
    assert "forged" in lines[0]


def test_lines_of_an_exception_are_set_in_or_one_field(written) -> None:
    try:
        raise ValueError(FORGED)
    except ValueError:
        logger.exception("It failed")
    first, *rest = written().splitlines()
    if first.startswith("{"):
        assert rest == []
        assert "forged" in json.loads(first)["exception"]
    else:
        assert rest
        assert all(line.startswith("    ") for line in rest)


def test_a_json_line_tells_when_where_and_what_it_belongs_to(written) -> None:
    with logs.belonging_to(logs.request_id, "request-17"), logs.belonging_to(logs.task_id, "task-4"):
        logger.info("Hello %s", "you")
    logger.info("Later")
    if not written().startswith("{"):
        pytest.skip("for JSON")
    first, second = map(json.loads, written().splitlines())
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "level": "INFO",
        "logger": "agents.test",
        "message": "Hello you",
        "request_id": "request-17",
        "task_id": "task-4",
    }
    assert set(second) == {"time", "level", "logger", "message"}


def test_a_line_for_people_names_what_it_belongs_to_once(written) -> None:
    with logs.belonging_to(logs.request_id, "request-17"), logs.belonging_to(logs.task_id, "task-4"):
        logger.info("Hello %s", "you")
        logger.info("About request-17")
    logger.info("Later")
    if written().startswith("{"):
        pytest.skip("for people")
    assert [line.partition("agents.test: ")[2] for line in written().splitlines()] == [
        "Hello you (request request-17, task task-4)",
        "About request-17 (task task-4)",
        "Later",
    ]


@pytest.mark.django_db
def test_a_request_is_found_again_by_its_id_and_leaves_none_of_its_secrets(written) -> None:
    key = make_api_key(make_operator())
    headers = {"Authorization": f"Bearer {key}", "X-Request-Id": "request-99"}
    Client(headers=headers).get(f"/api/v1/nowhere/?key={key}\n{JWT}")
    assert key.rsplit("_", 1)[1] not in written()
    if written().startswith("{"):
        assert {json.loads(line).get("request_id") for line in written().splitlines()} == {"request-99"}
    else:
        assert all("request-99" in line for line in written().splitlines())


def test_a_huge_message_stays_a_line() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "%s", ("a" * 10**6 + "end",), None)
    text = logs.fields_of(record)["message"]
    assert len(text) < logs.MAX_MESSAGE + 100
    assert text.endswith("end")


@pytest.mark.parametrize(
    "seed", ["password=", "eyJ", "eyJaaaa.", "://a:", "bearer ", "\x1b", "=", "basic a", "stz_ab_", " "]
)
def test_adversarial_text_costs_little(seed: str) -> None:
    text = (seed * 50_000)[:50_000]
    began = time.process_time()
    logs.one_line(logs.mask(text))
    assert time.process_time() - began < 0.1


def test_the_joint_log_makes_objects_of_everything() -> None:
    output = io.BytesIO()
    log = JointLog(output, ["web", "sutazai"], colour=True, as_json=True)
    log.write("web", '{"level": "ERROR", "message": "It failed"}')
    log.write("web", b"Traceback: password=canary \xff\x1b[31m")
    log.write("sutazai", "Stopped.")
    log.close()
    first, second, third = (json.loads(line) for line in output.getvalue().splitlines())
    assert first == {"program": "web", "level": "ERROR", "message": "It failed"}
    assert (second["program"], second["level"]) == ("web", "INFO")
    assert "canary" not in second["message"]
    assert third["message"] == "Stopped."


def test_the_joint_log_masks_what_programs_write_past_their_loggers() -> None:
    output = io.BytesIO()
    log = JointLog(output, ["web"], colour=False)
    log.write("web", b"redis://:canary@cache is away")
    log.close()
    assert output.getvalue() == b"web | redis://:***@cache is away\n"
