"""Log lines: one line for each event, with what it belongs to, and without anybody's secrets.

Texts from outside stand in log lines, so no formatter here lets a control character through: nothing that somebody
sends can begin a line of its own, or colour a terminal.
"""

import json
import logging
import re
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cache
from typing import Any

from django.conf import settings
from pythonjsonlogger.json import JsonFormatter as BaseJsonFormatter

# What the line belongs to; empty where it belongs to nothing.
request_id: ContextVar[str] = ContextVar("request_id", default="")
task_id: ContextVar[str] = ContextVar("task_id", default="")

MAX_MESSAGE = 4_000  # characters
MAX_EXCEPTION = 16_000
MASK = "***"
# A shorter secret, as in a password of "test", would mask ordinary words.
MIN_SECRET = 8

_CREDENTIALS = (
    # API keys; their id stays, it is in the list of keys.
    (re.compile(r"\bstz_([0-9a-f]{4,32})_[\w-]+"), rf"stz_\1_{MASK}"),
    (re.compile(r"\bwhsec_[\w+/=-]{4,}"), f"whsec_{MASK}"),  # secrets of webhooks
    (re.compile(r"\beyJ[\w-]{4,}\.[\w-]+\.[\w-]*"), MASK),  # JSON Web Tokens
    (re.compile(r"\b((?i:bearer))\s+[\w.~+/=*-]{6,}"), rf"\1 {MASK}"),
    (re.compile(r"\b((?i:basic))\s+(?=[a-z+/]{0,50}[A-Z0-9=])[\w+/=]{6,}"), rf"\1 {MASK}"),
    (re.compile(r"(://[^\s:/@]{0,200}):[^\s/@]{1,500}@"), rf"\1:{MASK}@"),  # passwords in addresses
    # Links that let in whoever opens them.
    (re.compile(r"(/account/invitation/)[\w-]{8,}"), rf"\1{MASK}"),
    (re.compile(r"(/account/password/reset/)\w{1,100}-[\w-]+"), rf"\1{MASK}"),
    # name=value, 'name': 'value', Name: value
    (
        re.compile(
            r"(?i)((?:password|passwd|secret|secret_key|api[_-]?key|pepper|access_token|refresh_token|id_token"
            r"|csrfmiddlewaretoken|authorization|cookie|sutazai_session|sutazai_csrf)['\"]?\s{0,3}[=:]\s{0,3}['\"]?)"
            r"[^\s'\"&,;}\]]{1,4096}"
        ),
        rf"\1{MASK}",
    ),
)
# Control characters, line ends of Unicode, and what turns the direction of writing: each to how Python spells it.
_CONTROL = {
    code: chr(code).encode("unicode_escape").decode("ascii")
    for codes in (range(0x20), range(0x7F, 0xA0), range(0x2028, 0x202F), range(0x2066, 0x206A))
    for code in codes
}


class belonging_to:  # noqa: N801 - no generator, because every call comes by here
    """Mark the log lines of a block: `with belonging_to(logs.task_id, str(task.pk)):`."""

    __slots__ = ("_token", "_value", "_variable")

    def __init__(self, variable: ContextVar[str], value: str) -> None:
        self._variable = variable
        self._value = value

    def __enter__(self) -> None:
        self._token = self._variable.set(self._value)

    def __exit__(self, *_: object) -> None:
        self._variable.reset(self._token)


def mask(text: str) -> str:
    """Hide credentials: by their shape, and our own by what they are."""
    for secret in _own_secrets():
        text = text.replace(secret, MASK)
    for pattern, replacement in _CREDENTIALS:
        text = pattern.sub(replacement, text)
    return text


def one_line(text: str) -> str:
    r"""Spell control characters out: a line feed becomes \n, an escape \x1b."""
    return text.translate(_CONTROL)


def fields_of(record: logging.LogRecord) -> dict[str, str]:
    """What a record tells: time, level, logger, message, and where there are: request_id, task_id, exception."""
    fields = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname,
        "logger": record.name,
        "message": mask(_cut(record.getMessage(), MAX_MESSAGE)),
        "request_id": _request_id(record),
        "task_id": task_id.get(),
        "exception": mask(_cut(_exception(record), MAX_EXCEPTION)),
    }
    return {name: value for name, value in fields.items() if value or name == "message"}


class JsonFormatter(BaseJsonFormatter):
    """One JSON object a line, in ASCII."""

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        log_data.update(fields_of(record))


class TextFormatter(logging.Formatter):
    """A line for people: time, level, logger, message, what it belongs to; an exception's lines follow, set in."""

    default_time_format = "%H:%M:%S"

    def format(self, record: logging.LogRecord) -> str:
        fields = fields_of(record)
        time = self.formatTime(record, self.default_time_format)
        line = f"{time} {record.levelname:<7} {record.name}: {one_line(fields['message'] + _owners(fields))}"
        exception = fields.get("exception", "").splitlines()
        return "\n".join([line, *(f"    {one_line(text)}" for text in exception)])


def _owners(fields: Mapping[str, str]) -> str:
    """Name the request and the task of a line that does not name them itself."""
    known = [(kind, fields.get(f"{kind}_id", "")) for kind in ("request", "task")]
    owners = [f"{kind} {name}" for kind, name in known if name and name not in fields["message"]]
    return f" ({', '.join(owners)})" if owners else ""


def json_line(program: str, text: str) -> str:
    """Make a JSON line of what a program of the group wrote, which is one already, or is not."""
    try:
        fields = json.loads(text)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        fields = {"time": now, "level": "INFO", "logger": program, "message": mask(_cut(text, MAX_MESSAGE))}
    return json.dumps({"program": program, **fields})


def _request_id(record: logging.LogRecord) -> str:
    """Django logs an answer's status when the request is over, and names the request."""
    meta = getattr(getattr(record, "request", None), "META", {})
    return request_id.get() or str(meta.get("sutazai.request_id", ""))


def _exception(record: logging.LogRecord) -> str:
    parts = []
    if record.exc_info and record.exc_info[0] is not None:
        parts.append(logging.Formatter().formatException(record.exc_info))
    if record.stack_info:
        parts.append(record.stack_info)
    return "\n".join(parts)


def _cut(text: str, limit: int) -> str:
    """Shorten a text in its middle: what happened stands at the end of a traceback."""
    if len(text) <= limit:
        return text
    return f"{text[: limit // 4]} … {len(text) - limit} characters … {text[-3 * limit // 4 :]}"


@cache
def _own_secrets() -> tuple[str, ...]:
    """The values of our own secrets, longest first. Settings do not change while a process runs."""
    secrets = {
        settings.SECRET_KEY,
        settings.API_KEY_PEPPER,
        settings.AUDIT_KEY,
        settings.AUDIT_SIGNING_KEY,
        settings.METRICS_TOKEN,
        settings.OPERATOR_PASSWORD,
        settings.EMAIL_HOST_PASSWORD or "",  # a server without a password sets None
        settings.OIDC_CLIENT_SECRET,
        settings.BACKUP_PASSPHRASE,
        str(settings.DATABASES["default"].get("PASSWORD") or ""),
        *settings.ENCRYPTION_KEYS,
    }
    return tuple(sorted((text for text in secrets if len(text) >= MIN_SECRET), key=len, reverse=True))
