import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from django.db import connection

from core import tracing
from core.net import addresses, http, places
from core.net.calls import Timeouts
from core.net.errors import ConnectFailed
from core.tracing import NOTHING, Kind
from tests.otlp import Collector, collecting
from tests.program import ROOT
from tests.servers import web_server
from tests.services.server import free_port

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


@pytest.fixture
def collector(monkeypatch) -> Iterator[Collector]:
    """Somebody who collects what this process tells, until the test ends."""
    with collecting(monkeypatch) as collector:
        yield collector


def arrived(**headers: str) -> tracing.Span:
    given = [(name.encode(), value.encode()) for name, value in headers.items()]
    return tracing.arrived("GET", given, {"http.request.method": "GET"})


# Off -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_SDK_DISABLED": "TRUE"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
    ],
)
def test_it_is_wanted_where_the_environment_names_a_collector(monkeypatch, environment, wanted):
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert tracing.is_wanted() is wanted


def in_a_process_of_its_own(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )


def test_while_it_is_off_nothing_of_opentelemetry_is_imported():
    code = (
        "import sys; import sutazai.asgi; from core import tracing; tracing.start('web');"
        "span = tracing.arrived('GET', [(b'traceparent', b'00')], {});"
        "print(span is tracing.NOTHING, tracing.is_on(), any('opentelemetry' in name for name in sys.modules))"
    )
    ended = in_a_process_of_its_own(code, DJANGO_SETTINGS_MODULE="tests.settings")
    assert ended.stdout.split() == ["True", "False", "False"]


def test_without_its_packages_the_program_goes_on_and_says_how_to_install_them():
    code = (
        "import sys; sys.modules['opentelemetry'] = None; from core import tracing; tracing.start('web');"
        "print(tracing.is_on(), tracing.span('x', {}) is tracing.NOTHING)"
    )
    ended = in_a_process_of_its_own(code, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")
    assert ended.stdout.split() == ["False", "True"]
    assert tracing.INSTALL in ended.stderr


def test_the_span_of_no_trace_takes_everything_and_carries_nothing():
    with tracing.span("work", {"a": 1}) as span:
        span.set({"b": 2})
        span.rename("other")
        span.failed("code")
    span.end()
    assert (span, dict(span.headers), tracing.current()) == (NOTHING, {}, NOTHING)


# On ------------------------------------------------------------------------------------------------------------------


def test_a_trace_goes_on_from_the_request_s_headers_and_into_ours(collector):
    with arrived(traceparent=TRACEPARENT, tracestate="vendor=value") as request:
        request.rename("GET /things")
        with tracing.span("work", {"size": 3, "none": None, "empty": ""}) as work:
            carried = dict(work.headers)
    tracing.stop()
    found = {span.name: span for span in collector.spans(TRACE)}
    assert (found["GET /things"].parent, found["GET /things"].kind) == (PARENT, "server")
    assert (found["work"].parent, found["work"].kind) == (found["GET /things"].id, "internal")
    assert found["work"].attributes == {"size": 3}
    assert found["work"].process == "test"
    assert carried == {"traceparent": f"00-{TRACE}-{found['work'].id}-01", "tracestate": "vendor=value"}


@pytest.mark.parametrize("given", ["", "00-0-0-01", f"00-{'0' * 32}-{PARENT}-01", "x" * 9000, "é"])
def test_a_header_that_makes_no_sense_begins_a_trace(collector, given):
    with arrived(traceparent=given):
        pass
    tracing.stop()
    (span,) = collector.spans()
    assert (span.parent, span.trace == TRACE) == ("", False)


def test_who_is_not_sampled_is_not_told_and_passes_that_on(collector):
    with arrived(traceparent=TRACEPARENT.removesuffix("01") + "00"):
        carried = dict(tracing.current().headers)
        with tracing.span("work", {}):
            pass
    tracing.stop()
    assert collector.spans() == []
    assert carried["traceparent"].endswith("-00")


def test_a_tracestate_that_is_too_long_is_dropped(collector):
    with arrived(traceparent=TRACEPARENT, tracestate=",".join(f"key{number}={'v' * 200}" for number in range(9))):
        assert set(tracing.current().headers) == {"traceparent"}


def test_a_carrier_leads_to_the_same_trace_elsewhere(collector):
    with tracing.span("run", {}, kind=Kind.CONSUMER, of={"traceparent": TRACEPARENT}):
        pass
    tracing.stop()
    (span,) = collector.spans(TRACE)
    assert (span.name, span.parent, span.kind) == ("run", PARENT, "consumer")


@pytest.mark.parametrize("carrier", [{}, {"traceparent": "nonsense"}, None])
def test_what_belongs_to_no_trace_begins_none(collector, carrier):
    with tracing.span("work", {}, of=carrier) as span:
        assert span is NOTHING
    tracing.stop()
    assert collector.spans() == []


def test_an_error_is_told_without_its_words(collector):
    with pytest.raises(ValueError, match="secret"), arrived(), tracing.span("work", {}):
        raise ValueError("a secret of somebody")
    tracing.stop()
    assert {(span.failed, span.attributes["error.type"]) for span in collector.spans()} == {(True, "ValueError")}
    assert b"secret" not in b"".join(collector.bodies)


def test_the_standard_variables_decide(monkeypatch):
    with Collector() as collector:
        for name, value in collector.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=token")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        tracing.start("test")
        with arrived():
            pass
        tracing.stop()
        assert collector.headers[0]["authorization"] == "token"
        assert len(collector.spans()) == 1
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
        tracing.start("test")
        with arrived():
            pass
        tracing.stop()
        assert len(collector.spans()) == 1


def test_a_value_that_makes_no_sense_is_told_and_stops_nothing(monkeypatch, caplog):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    tracing.start("test")
    assert not tracing.is_on()
    assert "max_queue_size" in caplog.text


def test_a_collector_that_does_not_answer_keeps_no_process_from_ending(monkeypatch):
    monkeypatch.setattr("core.otel.STOP_SECONDS", 0.1)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        tracing.start("test")
        with arrived():
            pass
        tracing.stop()
        asked, _ = silent.accept()
        asked.settimeout(5)
        with asked:
            assert asked.recv(100).startswith(b"POST /v1/traces")  # and it waits for the answer still


def test_a_collector_that_is_away_keeps_nobody_from_anything(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    tracing.start("test")
    with arrived() as span:
        assert span.headers
    tracing.stop()
    assert not tracing.is_on()


# The database, calls -------------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.both_databases
def test_a_statement_is_told_without_its_parameters(collector):
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s", ["before"])  # belongs to no trace
        with arrived(traceparent=TRACEPARENT):
            cursor.execute("SELECT %s", ["canary"])
    tracing.stop()
    found = {span.name: span for span in collector.spans()}
    assert set(found) == {"GET", "SELECT"}
    assert found["SELECT"].parent == found["GET"].id
    assert found["SELECT"].kind == "client"
    system = {"postgresql": "postgresql", "sqlite": "sqlite"}[connection.vendor]
    told = {"db.system.name": system, "db.operation.name": "SELECT", "db.query.text": "SELECT %s"}
    assert found["SELECT"].attributes == told
    assert b"canary" not in b"".join(collector.bodies)


@pytest.mark.django_db
@pytest.mark.both_databases
def test_who_traced_before_on_the_same_connection_tells_nothing_more(collector):
    with connection.cursor() as cursor:
        tracing.stop()
        tracing.start("test")
        with arrived(traceparent=TRACEPARENT):
            cursor.execute("SELECT 1")
        tracing.stop()
    found = {span.name: span for span in collector.spans()}
    assert found["SELECT"].parent == found["GET"].id


def call(url: str) -> int:
    pool = http.pool(places.OLLAMA, addresses.nodes)
    with pool.send("GET", f"{url}/path-secret?query-secret", timeouts=Timeouts(connect=1)) as response:
        response.read(1000)
        return response.status


def test_a_call_is_told_from_its_beginning_to_its_end_without_its_address(collector):
    with web_server() as url, arrived(traceparent=TRACEPARENT):
        call(url)
    tracing.stop()
    found = {span.kind: span for span in collector.spans(TRACE)}
    assert found["client"].parent == found["server"].id
    port = int(url.rpartition(":")[2])
    about = {"server.address": "127.0.0.1", "server.port": port, "http.response.status_code": 200}
    assert found["client"].attributes == {"http.request.method": "GET", **about}
    assert b"-secret" not in b"".join(collector.bodies)


def test_a_call_that_fails_is_told_as_such(collector):
    with pytest.raises(ConnectFailed), arrived(traceparent=TRACEPARENT):
        call(f"http://127.0.0.1:{free_port()}")
    tracing.stop()
    found = {span.kind: span for span in collector.spans(TRACE)}
    assert found["client"].failed
    assert found["client"].attributes["error.type"] == "ConnectFailed"
