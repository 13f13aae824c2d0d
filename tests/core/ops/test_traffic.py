import asyncio

import pytest
from prometheus_client import REGISTRY

from core.ops import traffic


@pytest.fixture
def grown():
    """How much a metric grew during the test: grown(name, label=value, …)."""
    before = {(s.name, *sorted(s.labels.items())): s.value for m in REGISTRY.collect() for s in m.samples}

    def growth(name, **labels):
        value = REGISTRY.get_sample_value(name, labels) or 0
        return value - before.get((name, *sorted(labels.items())), 0)

    return growth


def ask(application, method="GET"):
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(traffic.counted(application, {"type": "http", "method": method}, None, send))
    return sent


def answering(status, *, endpoint="", code="", error_status=0, parts=1):
    async def application(scope, receive, send):
        if endpoint:
            traffic.routed(endpoint)
        if code:
            traffic.failed(code, error_status or status)
        await send({"type": "http.response.start", "status": status, "headers": []})
        for _ in range(parts):
            await send({"type": "http.response.body", "body": b""})

    return application


def test_an_answer_is_counted_once_and_passed_on_whole(grown):
    sent = ask(answering(200, endpoint="things", parts=3))
    labels = {"method": "GET", "endpoint": "things", "status": "200"}
    assert len(sent) == 4
    assert grown("api_request_total", **labels) == 1
    assert grown("api_request_duration_seconds_count", **labels) == 1
    assert not any(sample.labels["endpoint"] == "things" for m in traffic.errors.collect() for sample in m.samples)


@pytest.mark.parametrize(
    ("status", "code", "error_status", "counted"),
    [
        (404, "not-found", 0, {"error_type": "not-found", "fault": "client"}),
        (503, "", 0, {"error_type": "http-503", "fault": "server"}),
        (503, "busy", 0, {"error_type": "busy", "fault": "server"}),
        (200, "cut-stream", 503, {"error_type": "cut-stream", "fault": "server"}),  # in the middle of an answer
        (200, "cancelled", 409, {"error_type": "cancelled", "fault": "client"}),
    ],
)
def test_errors_are_counted_once_by_their_code_and_whose_fault_they_are(grown, status, code, error_status, counted):
    ask(answering(status, endpoint="things", code=code, error_status=error_status))
    assert grown("api_errors_total", method="GET", endpoint="things", **counted) == 1
    other = {"server": "client", "client": "server"}[counted["fault"]]
    assert grown("api_errors_total", method="GET", endpoint="things", **{**counted, "fault": other}) == 0
    assert grown("api_request_total", method="GET", endpoint="things", status=str(status)) == 1


def test_an_answer_that_breaks_off_by_our_mistake_is_our_fault(grown):
    async def breaks(scope, receive, send):
        traffic.routed("things")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        ask(breaks)
    labels = {"method": "GET", "endpoint": "things", "error_type": "internal-error", "fault": "server"}
    assert grown("api_errors_total", **labels) == 1


def test_what_nobody_answers_is_told_from_what_breaks(grown):
    async def leaves(scope, receive, send):
        traffic.routed("things")

    async def breaks(scope, receive, send):
        traffic.routed("things")
        raise RuntimeError("broken")

    ask(leaves)
    with pytest.raises(RuntimeError):
        ask(breaks)
    assert grown("api_request_total", method="GET", endpoint="things", status="499") == 1
    assert grown("api_request_total", method="GET", endpoint="things", status="500") == 1
    assert grown("api_errors_total", method="GET", endpoint="things", error_type="internal-error", fault="server") == 1
    assert grown("api_errors_total", method="GET", endpoint="things", error_type="http-499", fault="client") == 0


def test_a_method_that_somebody_made_up_is_no_label(grown):
    ask(answering(200), method="BREW-7f3a")
    assert grown("api_request_total", method="OTHER", endpoint="unknown", status="200") == 1


def test_each_request_knows_its_own_route():
    seen = {}

    async def application(scope, receive, send):
        traffic.routed(scope["name"])
        await scope["met"].wait()
        seen[scope["name"]] = await asyncio.to_thread(traffic.endpoint), traffic.under_way()

    async def both():
        met = asyncio.Event()
        scopes = [{"method": "GET", "name": name, "met": met} for name in ("one", "two")]
        at_work = [asyncio.create_task(traffic.counted(application, scope, None, None)) for scope in scopes]
        await asyncio.sleep(0)
        met.set()
        await asyncio.gather(*at_work)

    asyncio.run(both())
    assert {name: route for name, (route, _) in seen.items()} == {"one": "one", "two": "two"}
    assert max(count for _, count in seen.values()) == 2
    assert traffic.under_way() == 0
    assert traffic.endpoint() is None
