from collections.abc import Iterator

import pytest

from agents.engine import kept_answers, traces
from agents.engine.submit import resubmit, submit
from agents.models import AgentTask
from core import tracing
from tests.factories import make_agent, make_task, make_user
from tests.otlp import Collector, collecting

pytestmark = pytest.mark.django_db

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def collector(monkeypatch) -> Iterator[Collector]:
    with collecting(monkeypatch) as collector:
        yield collector


def arrived() -> tracing.Span:
    return tracing.arrived("POST", [(b"traceparent", f"00-{TRACE}-{PARENT}-01".encode())], {})


def submitted() -> AgentTask:
    accepted = submit(agent=make_agent(), owner=make_user(), input={"message": "Hello"})
    return AgentTask.objects.get(pk=accepted.task_id)


@pytest.mark.both_databases
def test_a_task_s_row_carries_the_trace_on_beside_what_was_asked(collector):
    with arrived() as request:
        task = submitted()
        carried = dict(request.headers)
    assert traces.carrier_of(task) == carried
    assert task.asked == {"message": "Hello"}
    tracing.stop()
    arrival = next(span for span in collector.spans(TRACE) if span.kind == "server")
    assert arrival.attributes == {"sutazai.task.id": str(task.pk)}


def test_without_a_trace_a_task_carries_none(collector):
    assert submitted().input == {"message": "Hello"}


def test_a_retry_belongs_to_the_trace_of_whoever_asked_for_it(collector):
    with arrived():
        first = submitted()
    AgentTask.objects.filter(pk=first.pk).update(status="cancelled", finished_at=first.created_at)
    first.refresh_from_db()
    again = AgentTask.objects.get(pk=resubmit(first, owner=first.owner).task_id)
    assert again.input == {"message": "Hello"}


def test_equal_calls_of_two_traces_share_an_answer():
    task = make_task(make_user())
    task.kind, task.input = "model_call", {"operation": "embed", "input": ["a"]}
    plain = kept_answers.key_of(task, wish=None)
    task.input = {**task.input, traces.NOTE: {"traceparent": f"00-{TRACE}-{PARENT}-01"}}
    assert plain
    assert kept_answers.key_of(task, wish=None) == plain


@pytest.mark.both_databases
def test_messages_to_runners_carry_the_trace_that_the_row_carries(collector):
    owner = make_user()
    with arrived():
        traced = submitted()
    plain = make_task(owner)
    spans = traces.publication("agents.run", "agents", [traced.pk, plain.pk])
    assert spans.keys() == {traced.pk}
    with spans[traced.pk] as span:
        assert span.headers["traceparent"].startswith(f"00-{TRACE}-")
    tracing.stop()
    assert traces.publication("agents.run", "agents", [traced.pk]) == {}
