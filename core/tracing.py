"""Traces: what one request set in motion, in every process, down to the model server and the database.

Off unless the environment names where to send them, as OpenTelemetry has it (`is_wanted`). What is told is who did
what, when and how it ended: never what was asked or answered, nor the words of an error, which may repeat it.

A trace crosses from process to process as a carrier: the headers of W3C's Trace Context. A task's row carries it, for
messages may be lost.
"""

import importlib.util
import logging
import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import Enum
from types import TracebackType
from typing import Any, Protocol

logger = logging.getLogger(__name__)

Carrier = Mapping[str, str]
Attributes = Mapping[str, Any]

# Of W3C's Trace Context, in the spelling of ASGI. https://www.w3.org/TR/trace-context
TRACEPARENT, TRACESTATE = "traceparent", "tracestate"
MAX_TRACESTATE = 512  # characters that all must pass on; more is dropped
PROTOCOL = "http/protobuf"
PROTOCOLS = ("OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
INSTALL = "python3 bin/environment.py requirements.txt requirements/tracing.txt"


class Kind(Enum):
    """What a part of a trace is to the others, in OpenTelemetry's words."""

    INTERNAL = "INTERNAL"
    SERVER = "SERVER"
    CLIENT = "CLIENT"
    PRODUCER = "PRODUCER"
    CONSUMER = "CONSUMER"


class Span:
    """A part of a trace. This one belongs to none: all that it is told is forgotten.

    As a context manager it becomes the part that others are made in, and ends with the block. headers: what carries
    it on to others.
    """

    headers: Carrier = {}

    def rename(self, name: str) -> None:
        """Give the name that was not known at first."""

    def set(self, attributes: Attributes) -> None:
        """Tell more of it."""

    def failed(self, why: BaseException | str) -> None:
        """Tell that it failed: an error's class, or a code."""

    def end(self) -> None:
        """Tell that it is over; does nothing the second time."""

    def __enter__(self) -> "Span":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


NOTHING = Span()


class Recorder(Protocol):
    """What makes spans and sends them: `core.otel`."""

    def begin(
        self, name: str, kind: Kind, attributes: Attributes, of: Carrier | None, began: datetime | None
    ) -> Span: ...

    def arrived(self, name: str, headers: Carrier, attributes: Attributes) -> Span: ...

    def current(self) -> Span: ...

    def stop(self) -> None: ...


_recorder: Recorder | None = None


def is_wanted() -> bool:
    """Whether the environment names somebody to send traces to."""
    is_disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    exporters = os.environ.get("OTEL_TRACES_EXPORTER", "otlp").strip() or "otlp"
    endpoints = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return not is_disabled and exporters == "otlp" and any(os.environ.get(name) for name in endpoints)


def is_installed() -> bool:
    """Whether the packages of requirements/tracing.txt are there."""
    return importlib.util.find_spec("opentelemetry") is not None


def start(process: str) -> None:
    """Trace what this process does from now on, where that is wanted. process: its name, as "web"."""
    global _recorder  # noqa: PLW0603 - a process has one
    if _recorder is not None or not is_wanted():
        return
    try:
        from core.otel import OtlpRecorder  # noqa: PLC0415 - needs the packages, and their memory

        _recorder = OtlpRecorder(process)
    except ImportError as error:
        logger.warning("Nothing is traced: %s. To install what that takes: %s", error, INSTALL)
    except ValueError as error:
        logger.warning("Nothing is traced, because a variable of OpenTelemetry makes no sense: %s", error)


def stop() -> None:
    """Send what is left, and trace no more."""
    global _recorder
    recorder, _recorder = _recorder, None
    if recorder is not None:
        recorder.stop()


def is_on() -> bool:
    return _recorder is not None


def span(
    name: str,
    attributes: Attributes,
    *,
    kind: Kind = Kind.INTERNAL,
    of: Carrier | None = None,
    began: datetime | None = None,
) -> Span:
    """Begin a part of a trace: of the one that a carrier names, else of the present one; where there is none, nothing.

    began: when, if not now.
    """
    return NOTHING if _recorder is None else _recorder.begin(name, kind, attributes, of, began)


def arrived(name: str, headers: Iterable[tuple[bytes, bytes]], attributes: Attributes) -> Span:
    """Begin what a request sets in motion: a trace, or a part of the one that its headers name. headers: ASGI's."""
    if _recorder is None:
        return NOTHING
    given = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers if name in _WANTED}
    return _recorder.arrived(name, given, attributes)


_WANTED = frozenset({TRACEPARENT.encode(), TRACESTATE.encode()})


def current() -> Span:
    """The part of a trace that this thread or task works on."""
    return NOTHING if _recorder is None else _recorder.current()
