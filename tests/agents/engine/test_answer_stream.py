import json
import time
from concurrent.futures import Future
from typing import Any

import pytest
from django.db import OperationalError

from agents.engine import answer_stream
from agents.engine.answer_stream import AnswerStream, LeaseLost
from agents.engine.grant import Ticket
from agents.engine.submit import cancel
from agents.models import AgentTask, TaskEvent
from agents.ollama.types import ChatChunk
from tests.agents.engine.factories import make_agent, make_node, submit_task, succeed, take

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_databases]


@pytest.fixture
def ticket() -> Ticket:
    make_node()
    return take(submit_task(make_agent()))


def pieces(ticket: Ticket) -> list[str]:
    events = TaskEvent.objects.filter(task_id=ticket.task_id, type="delta").order_by("number")
    return [json.loads(item.data)["text"] for item in events]


def test_the_first_piece_is_written_at_once_and_the_next_ones_later(ticket, started_writer, wait_until, monkeypatch):
    monkeypatch.setattr(answer_stream, "SHORTEST_GROUP_SECONDS", 3600)
    monkeypatch.setattr(answer_stream, "LONGEST_GROUP_SECONDS", 3600)
    stream = AnswerStream(ticket, is_followed=True)
    stream.add(ChatChunk(text="first "), beside=[None])
    wait_until(lambda: pieces(ticket) == ["first "])
    stream.add(ChatChunk(text="second "), beside=[None])
    stream.add(ChatChunk(text="third"), beside=[None])

    assert stream.finish() == {"text": "second third"}  # now, not in an hour
    assert stream.text == "first second third"
    assert pieces(ticket) == ["first "]


def test_an_answer_that_nobody_follows_and_ends_at_once_is_written_with_its_end(ticket, started_writer, monkeypatch):
    monkeypatch.setattr(answer_stream, "SHORTEST_GROUP_SECONDS", 3600)
    monkeypatch.setattr(answer_stream, "LONGEST_GROUP_SECONDS", 3600)
    stream = AnswerStream(ticket, is_followed=False)
    assert stream.spoke_at is None
    stream.add(ChatChunk(text="first "), beside=[None])
    spoke_at = stream.spoke_at
    stream.add(ChatChunk(text="second"), beside=[None])
    assert stream.finish() == {"text": "first second"}
    assert pieces(ticket) == []
    assert stream.spoke_at == spoke_at


def test_a_write_tells_when_the_first_piece_came(ticket, started_writer, wait_until):
    stream = AnswerStream(ticket, is_followed=True)
    stream.add(ChatChunk(text="first"), beside=[None])
    wait_until(lambda: pieces(ticket) == ["first"])
    assert AgentTask.objects.get().first_output_at == stream.spoke_at


def test_many_pieces_become_few_events_and_none_is_lost(ticket, started_writer, wait_until):
    words: list[str] = []
    began = time.monotonic()
    stream = AnswerStream(ticket, is_followed=True)

    def answer_goes_on() -> bool:
        for _ in range(100):
            words.append(f"word{len(words)} ")
            stream.add(ChatChunk(text=words[-1]), beside=[None])
        return len(pieces(ticket)) >= 4

    wait_until(answer_goes_on)
    tail = stream.finish()
    assert succeed(ticket, stream.text, tail=tail.get("text", ""))

    assert "".join(pieces(ticket)) == "".join(words) == stream.text
    seconds = time.monotonic() - began
    # The first one at once, and the tail with the end.
    assert len(pieces(ticket)) <= 2 + seconds / answer_stream.SHORTEST_GROUP_SECONDS
    assert len(pieces(ticket)) < len(words)


@pytest.mark.parametrize(
    ("is_followed", "streams", "delays"),
    [
        (True, 1, [0, 0.05, 0.05]),
        (True, 100, [0, 0.1, 0.1]),
        (True, 1000, [0, 0.25, 0.25]),
        (False, 1, [0.25, 0.25, 0.25]),
        (False, 1000, [0.25, 0.25, 0.25]),
    ],
)
def test_pieces_wait_longer_where_many_streams_are_written_or_nobody_reads(
    ticket, monkeypatch, is_followed, streams, delays
):
    at = [1000.0]
    held = HeldWriter()
    monkeypatch.setattr(answer_stream, "writer", held)
    monkeypatch.setattr(answer_stream.time, "monotonic", lambda: at[0])
    stream = AnswerStream(ticket, is_followed=is_followed)
    for _ in delays:
        stream.add(ChatChunk(text="piece"), beside=range(streams))
        stream._pull()
        at[0] += held.delays[-1]
    assert held.delays == pytest.approx(delays)


def test_the_streams_of_a_busy_process_are_written_at_the_same_moments(ticket, monkeypatch):
    at = [1000.0]
    held = HeldWriter()
    monkeypatch.setattr(answer_stream, "writer", held)
    monkeypatch.setattr(answer_stream.time, "monotonic", lambda: at[0])
    for offset in range(100):
        at[0] = 1000.0 + offset / 1000
        AnswerStream(ticket, is_followed=False).add(ChatChunk(text="piece"), beside=range(100))
    due = {round(1000 + offset / 1000 + delay, 3) for offset, delay in enumerate(held.delays)}
    assert due == {1000.25, 1000.3, 1000.35}


def test_a_piece_that_comes_during_a_write_gets_a_write_of_its_own(ticket, monkeypatch):
    """Or it would stay unseen until the model says more, however long that takes."""
    held = HeldWriter()
    monkeypatch.setattr(answer_stream, "writer", held)
    stream = AnswerStream(ticket, is_followed=True)
    stream.add(ChatChunk(text="first"), beside=[None])
    assert held.changes[0].piece == {"text": "first"}  # on its way to the disk
    stream.add(ChatChunk(text="second"), beside=[None])
    assert [change.piece["text"] for change in held.changes] == ["first", "second"]


def test_it_stops_once_the_task_is_lost(ticket, started_writer, wait_until):
    stream = AnswerStream(ticket, is_followed=True)
    assert cancel(ticket.task_id)
    with pytest.raises(LeaseLost):
        wait_until(lambda: stream.add(ChatChunk(text="too late"), beside=[None]))
    assert pieces(ticket) == []


def test_an_answer_with_a_lost_piece_never_ends_well(ticket, monkeypatch):
    held = HeldWriter()
    monkeypatch.setattr(answer_stream, "writer", held)
    stream = AnswerStream(ticket, is_followed=True)
    stream.add(ChatChunk(text="first"), beside=[None])
    assert held.futures[0].set_running_or_notify_cancel()
    assert held.changes[0].piece == {"text": "first"}
    held.futures[0].set_exception(OperationalError("the disk is full"))
    with pytest.raises(OperationalError):
        stream.finish()


class HeldWriter:
    """A writer that writes when the test says so."""

    def __init__(self) -> None:
        self.delays: list[float] = []
        self.changes: list[Any] = []
        self.futures: list[Future[bool]] = []

    def send(self, operation: Any, change: Any, *, delay_seconds: float, is_traced: bool) -> "Future[bool]":
        self.delays.append(delay_seconds)
        self.changes.append(change)
        self.futures.append(Future())
        return self.futures[-1]
