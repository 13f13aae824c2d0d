"""OpenTelemetry, behind `core.tracing`. Imported only where traces are wanted: it needs requirements/tracing.txt.

Everything is set by OpenTelemetry's own variables: where to (OTEL_EXPORTER_OTLP_ENDPOINT), with which headers, which
share of the traces (OTEL_TRACES_SAMPLER), under which name (OTEL_SERVICE_NAME).
Source: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables
"""

import os
import threading
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Any

from django.db import connections
from django.db.backends.signals import connection_created
from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from core.tracing import MAX_TRACESTATE, NOTHING, TRACESTATE, Attributes, Carrier, Kind, Span

SERVICE = "sutazai"
MAX_STATEMENT = 2000  # characters
STOP_SECONDS = 2.0
_propagator = TraceContextTextMapPropagator()


class _RecordedSpan(Span):
    """A part of a trace that is told to the collector."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self._token: Any = None

    @property
    def headers(self) -> Carrier:  # type: ignore[override]  # made when it is asked for
        carrier: dict[str, str] = {}
        _propagator.inject(carrier, trace.set_span_in_context(self._span))
        if len(carrier.get(TRACESTATE, "")) > MAX_TRACESTATE:
            del carrier[TRACESTATE]
        return carrier

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def set(self, attributes: Attributes) -> None:
        self._span.set_attributes({name: value for name, value in attributes.items() if value not in (None, "")})

    def failed(self, why: BaseException | str) -> None:
        self._span.set_attribute("error.type", why if isinstance(why, str) else type(why).__name__)
        self._span.set_status(Status(StatusCode.ERROR))

    def end(self) -> None:
        if self._span.is_recording():
            self._span.end()

    def __enter__(self) -> Span:
        self._token = contexts.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        contexts.detach(self._token)
        if isinstance(error, Exception):  # to be cancelled is no failure
            self.failed(error)
        self.end()


class OtlpRecorder:
    """Makes spans and sends them in the background, in OTLP over HTTP."""

    def __init__(self, process: str) -> None:
        attributes = {"sutazai.process": process}
        if not os.environ.get("OTEL_SERVICE_NAME"):
            attributes["service.name"] = SERVICE
        self._provider = TracerProvider(resource=Resource.create(attributes), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer(SERVICE)
        self._is_stopped = False
        connection_created.connect(self._watch_connection)
        for connection in connections.all(initialized_only=True):
            self._watch_connection(connection=connection)

    def stop(self) -> None:
        """Send what is left. A collector that does not answer keeps no process from ending."""
        connection_created.disconnect(self._watch_connection)
        self._is_stopped = True  # connections of other threads keep their wrapper
        ending = threading.Thread(target=self._provider.shutdown, name="traces-stop", daemon=True)
        ending.start()
        ending.join(STOP_SECONDS)

    def begin(self, name: str, kind: Kind, attributes: Attributes, of: Carrier | None, began: datetime | None) -> Span:
        parent = contexts.get_current() if of is None else _propagator.extract(of, Context())
        if not trace.get_current_span(parent).get_span_context().is_valid:
            return NOTHING
        return self._begun(name, kind, attributes, parent, began)

    def arrived(self, name: str, headers: Carrier, attributes: Attributes) -> Span:
        return self._begun(name, Kind.SERVER, attributes, _propagator.extract(headers, Context()), None)

    def current(self) -> Span:
        span = trace.get_current_span()
        return _RecordedSpan(span) if span.get_span_context().is_valid else NOTHING

    def _begun(
        self, name: str, kind: Kind, attributes: Attributes, parent: Context, began: datetime | None
    ) -> _RecordedSpan:
        at = None if began is None else int(began.timestamp() * 1e9)
        span = _RecordedSpan(self._tracer.start_span(name, parent, SpanKind[kind.value], start_time=at))
        span.set(attributes)
        return span

    def _watch_connection(self, connection: Any, **_: Any) -> None:
        if self._statement not in connection.execute_wrappers:
            connection.execute_wrappers.append(self._statement)

    def _statement(self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any) -> Any:
        """Tell of a statement; what it is about stands in its parameters, which are not told."""
        if self._is_stopped or not trace.get_current_span().is_recording():
            return execute(sql, params, many, context)
        text = str(sql)
        operation = text.split(None, 1)[0].upper() if text.strip() else ""
        system = "postgresql" if context["connection"].vendor == "postgresql" else "sqlite"
        attributes = {
            "db.system.name": system,
            "db.operation.name": operation,
            "db.query.text": text[:MAX_STATEMENT],
        }
        with self.begin(operation or system, Kind.CLIENT, attributes, None, None):
            return execute(sql, params, many, context)
