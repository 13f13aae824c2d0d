"""A collector of traces that programs really send to: OTLP over HTTP, decoded as its standard has it."""

import gzip
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from core import tracing
from tests.program import PATIENCE_SECONDS
from tests.servers import WebServer, headers_of

KINDS = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Told:
    """A span as it was sent. trace, id, parent: in hex; parent is empty where there is none."""

    process: str
    name: str
    kind: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]
    failed: bool


class Collector(WebServer):
    """Takes spans until the `with` block ends; use `environment` to have a program send to it."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._spans: list[Told] = []
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.address,
            "OTEL_BSP_SCHEDULE_DELAY": "100",  # milliseconds
        }

    def take(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        headers = headers_of(request)
        if headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        request.send_response(self._keep(request.path, headers, body))
        request.send_header("Content-Length", "0")
        request.end_headers()

    def _keep(self, path: str, headers: dict[str, str], body: bytes) -> int:
        if path != "/v1/traces" or headers["content-type"] != "application/x-protobuf":
            return 404
        request = ExportTraceServiceRequest.FromString(body)
        with self._lock:
            self.bodies.append(body)
            self.headers.append(headers)
            for resource in request.resource_spans:
                about = _attributes(resource.resource.attributes)
                spans = [span for scope in resource.scope_spans for span in scope.spans]
                self._spans += [_told(str(about.get("sutazai.process")), span) for span in spans]
        return 200

    def spans(self, trace: str = "") -> list[Told]:
        """What was sent so far, of one trace or of all."""
        with self._lock:
            return [span for span in self._spans if trace in ("", span.trace)]

    def wait_for(self, *names: str, trace: str = "", seconds: float = PATIENCE_SECONDS) -> dict[str, Told]:
        """Wait until spans of these names came; returns all by name, the last of each. Raises AssertionError."""
        limit = time.monotonic() + seconds
        while not set(names) <= (found := {span.name: span for span in self.spans(trace)}).keys():
            if time.monotonic() > limit:
                raise AssertionError(f"not within {seconds} s: {set(names) - found.keys()}; came: {found.keys()}")
            time.sleep(POLL_SECONDS)
        return found


@contextmanager
def collecting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """Collect what this process tells, until the `with` block ends."""
    with Collector() as collector:
        for name, value in collector.environment.items():
            monkeypatch.setenv(name, value)
        tracing.start("test")
        yield collector
        tracing.stop()


def _told(process: str, span: Any) -> Told:
    return Told(
        process=process,
        name=span.name,
        kind=KINDS[span.kind],
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        attributes=_attributes(span.attributes),
        failed=span.status.code == 2,
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    return getattr(value, value.WhichOneof("value") or "string_value")
