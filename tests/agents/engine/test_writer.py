import itertools
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import closing
from datetime import UTC, datetime

import pytest
from django.db import OperationalError, connection, connections, transaction

from agents.engine.writer import Writer
from core.models import Lease

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_databases]

MOMENT = datetime(2030, 1, 1, tzinfo=UTC)


class Ledger:
    """A writer with operations that write names down, and a gate behind which changes gather."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, list[str]]] = []
        self.is_open = threading.Event()
        self.has_arrived = threading.Event()
        self.writer = Writer(lambda: ((self.gate, self.early, self.late), (self.apart,)))

    def gate(self, changes: Sequence[None], now: datetime) -> list[None]:
        self.has_arrived.set()
        assert self.is_open.wait(20)
        return [None] * len(changes)

    def early(self, changes: Sequence[str], now: datetime) -> list[str | Exception]:
        return self._write("early", changes)

    def late(self, changes: Sequence[str], now: datetime) -> list[str | Exception]:
        return self._write("late", changes)

    def apart(self, changes: Sequence[str], now: datetime) -> list[str | Exception]:
        return self._write("apart", changes)

    def _write(self, operation: str, changes: Sequence[str]) -> list[str | Exception]:
        assert connection.in_atomic_block
        self.batches.append((operation, list(changes)))
        for change in changes:
            Lease.objects.create(name=change, holder="", held_until=MOMENT)
        if "bad" in changes:
            raise ValueError("bad")
        return [KeyError(change) if change == "refused" else change.upper() for change in changes]

    def behind_the_gate(self, send: Callable[[], list["Future[str]"]]) -> list["Future[str]"]:
        """Let changes gather while the writer is busy, then let it go on."""
        self.writer.send(self.gate, None)
        assert self.has_arrived.wait(20)
        futures = send()
        self.is_open.set()
        return futures


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    ledger = Ledger()
    ledger.writer.start()
    yield ledger
    ledger.is_open.set()
    ledger.writer.stop()


def names() -> set[str]:
    return set(Lease.objects.values_list("name", flat=True))


def test_what_gathers_during_a_commit_is_written_at_once(ledger):
    wanted = [f"change {number}" for number in range(40)]
    futures = ledger.behind_the_gate(lambda: [ledger.writer.send(ledger.early, name) for name in wanted])

    assert [future.result(20) for future in futures] == [name.upper() for name in wanted]
    assert ledger.batches == [("early", wanted)]


def test_within_a_batch_the_order_of_a_task_s_life_is_kept(ledger):
    def send() -> list["Future[str]"]:
        return [ledger.writer.send(ledger.late, "end"), ledger.writer.send(ledger.early, "text")]

    for future in ledger.behind_the_gate(send):
        future.result(20)
    assert ledger.batches == [("early", ["text"]), ("late", ["end"])]


def test_stages_are_transactions_of_their_own(ledger):
    futures = ledger.behind_the_gate(
        lambda: [ledger.writer.send(ledger.apart, "bad"), ledger.writer.send(ledger.late, "good")]
    )
    assert futures[1].result(20) == "GOOD"
    with pytest.raises(ValueError, match="bad"):
        futures[0].result(20)
    assert ledger.batches == [("late", ["good"]), ("apart", ["bad"])]
    assert names() == {"good"}


def test_one_bad_change_spoils_no_other(ledger):
    good = ["a", "b", "c"]
    futures = ledger.behind_the_gate(
        lambda: [ledger.writer.send(ledger.early, name) for name in ["a", "bad", "b", "c"]]
    )

    with pytest.raises(ValueError, match="bad"):
        futures.pop(1).result(20)
    assert [future.result(20) for future in futures] == ["A", "B", "C"]
    assert names() == set(good)


def test_a_refusal_is_raised_where_it_was_asked_for_and_nowhere_else(ledger):
    refused, accepted = ledger.behind_the_gate(
        lambda: [ledger.writer.send(ledger.early, "refused"), ledger.writer.send(ledger.early, "fine")]
    )
    with pytest.raises(KeyError):
        refused.result(20)
    assert accepted.result(20) == "FINE"
    assert len(ledger.batches) == 1


def test_a_result_is_given_only_after_the_commit(ledger):
    ledger.writer.call(ledger.early, "name")
    assert names() == {"name"}


def test_a_change_inside_a_transaction_belongs_to_it(ledger):
    with transaction.atomic():
        assert ledger.writer.call(ledger.early, "name") == "NAME"
        transaction.set_rollback(True)
    assert names() == set()


def test_without_its_thread_the_caller_writes():
    ledger = Ledger()
    assert ledger.writer.call(ledger.early, "name") == "NAME"
    assert names() == {"name"}


def test_a_stop_writes_what_was_to_be_written_later(ledger):
    future = ledger.writer.send(ledger.early, "later", delay_seconds=3600)
    ledger.writer.stop()
    assert future.result(0) == "LATER"
    assert names() == {"later"}


def test_what_is_sent_while_the_thread_ends_is_not_lost(ledger):
    """The thread is stopping but still busy: a change sent now must not wait for a thread that is gone."""
    ledger.writer.send(ledger.gate, None)
    assert ledger.has_arrived.wait(20)
    stopping = threading.Thread(target=ledger.writer.stop)
    stopping.start()
    while not ledger.writer._stopping:
        stopping.join(0.001)
    ledger.is_open.set()
    assert ledger.writer.send(ledger.early, "last").result(20) == "LAST"
    stopping.join(20)


def test_a_cancelled_change_is_never_written_and_harms_nobody(ledger):
    later = ledger.writer.send(ledger.early, "cancelled", delay_seconds=0.05)
    assert later.cancel()
    assert ledger.writer.send(ledger.early, "kept", delay_seconds=0.1).result(20) == "KEPT"
    with pytest.raises(CancelledError):
        later.result(0)
    assert names() == {"kept"}


def test_an_operation_without_a_place_in_the_order_is_refused(ledger):
    with pytest.raises(LookupError):
        ledger.writer.send(print, "change")


@pytest.fixture
def held_database(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Another process has the whole database, until this is called."""
    if connection.vendor != "sqlite":
        pytest.skip("only SQLite locks the whole database")
    ledger.writer.stop()
    monkeypatch.setitem(connections.settings["default"]["OPTIONS"], "timeout", 0.01)
    ledger.writer.start()
    with closing(sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield lambda: other.execute("COMMIT")


def test_it_tries_again_while_another_process_holds_the_database(ledger, held_database):
    future = ledger.writer.send(ledger.early, "name")
    with pytest.raises(TimeoutError):
        future.result(0.3)
    assert ledger.batches == []
    held_database()
    assert future.result(20) == "NAME"
    assert names() == {"name"}


def test_who_has_no_patience_gives_up_while_others_wait(ledger, held_database):
    patient = ledger.writer.send(ledger.early, "patient")
    with pytest.raises(OperationalError):
        ledger.writer.call(ledger.early, "hasty", limit_seconds=0.1)
    held_database()
    assert patient.result(20) == "PATIENT"
    assert names() == {"patient"}


def test_nobody_else_waits_for_a_database_that_has_been_away_for_as_long(ledger, held_database, wait_until):
    patient = ledger.writer.send(ledger.early, "patient")
    numbers = itertools.count()

    def is_refused_at_once() -> bool:
        return ledger.writer.send(ledger.early, f"hasty {next(numbers)}", limit_seconds=0.1).done()

    wait_until(is_refused_at_once)
    assert not patient.done()
    held_database()
    assert patient.result(20) == "PATIENT"
    assert ledger.writer.call(ledger.early, "later", limit_seconds=5) == "LATER"


def test_who_has_no_patience_gives_up_behind_a_busy_writer(ledger):
    ledger.writer.send(ledger.gate, None)
    assert ledger.has_arrived.wait(20)
    with pytest.raises(OperationalError):
        ledger.writer.call(ledger.early, "hasty", limit_seconds=0.05)
    ledger.is_open.set()
    assert ledger.writer.call(ledger.early, "patient") == "PATIENT"
    assert names() == {"patient"}
