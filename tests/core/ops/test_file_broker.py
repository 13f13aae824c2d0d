"""The embedded broker under several processes, and after deaths at the wrong moment."""

import json
import multiprocessing
import os
import queue as queues
import time
from pathlib import Path

import pytest
from kombu import Connection
from kombu.simple import SimpleQueue

from core.ops import file_broker

MESSAGES = 300


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("messages", "control"):
        (tmp_path / name).mkdir()
    return tmp_path


def connect(folder: Path) -> Connection:
    file_broker.register()
    messages = str(folder / "messages")
    options = {"data_folder_in": messages, "data_folder_out": messages, "control_folder": str(folder / "control")}
    return Connection("filesystem://localhost", transport_options={**options, "polling_interval": 0.001})


def open_queue(connection: Connection, folder: Path) -> SimpleQueue:
    """Open the folder's queue; kombu remembers by name, for the whole process, which queues are bound."""
    return connection.SimpleQueue(folder.name)


def publish_many(folder: Path, sender: int) -> None:
    with connect(folder) as connection, open_queue(connection, folder) as work:
        for number in range(MESSAGES):
            work.put({"sender": sender, "number": number})


def test_several_senders_and_a_reader_lose_nothing_and_keep_the_order(folder: Path) -> None:
    context = multiprocessing.get_context("spawn")
    senders = [context.Process(target=publish_many, args=(folder, number)) for number in range(3)]
    for sender in senders:
        sender.start()
    received: dict[int, list[int]] = {0: [], 1: [], 2: []}
    deadline = time.monotonic() + 60
    with connect(folder) as connection, open_queue(connection, folder) as work:
        while sum(map(len, received.values())) < 3 * MESSAGES:
            assert time.monotonic() < deadline, received
            try:
                message = work.get(timeout=0.05)
            except queues.Empty:
                continue
            received[message.payload["sender"]].append(message.payload["number"])
            message.ack()
    for sender in senders:
        sender.join()
    assert received == {sender: list(range(MESSAGES)) for sender in range(3)}
    assert not list((folder / "messages").iterdir())


def test_a_message_that_is_being_written_is_not_there_yet(folder: Path) -> None:
    with connect(folder) as connection, open_queue(connection, folder) as work:
        work.put("whole")
        (path,) = (folder / "messages").iterdir()
        half = path.with_suffix(file_broker.WRITING)
        half.write_text(path.read_text()[:20])
        path.unlink()
        with pytest.raises(queues.Empty):
            work.get(block=False)
        assert half.exists()


def test_a_broken_message_is_skipped(folder: Path) -> None:
    with connect(folder) as connection, open_queue(connection, folder) as work:
        (folder / "messages" / f"0_first.{folder.name}.msg").write_text("")
        work.put("second")
        assert work.get(timeout=1).payload == "second"


def test_a_folder_that_is_away_has_no_messages(folder: Path) -> None:
    with connect(folder) as connection, open_queue(connection, folder) as work:
        (folder / "messages").rmdir()
        with pytest.raises(queues.Empty):
            work.get(block=False)


def test_bindings_that_a_death_left_empty_are_written_again(folder: Path) -> None:
    exchange = folder / "control" / f"{folder.name}.exchange"
    exchange.write_text("")
    with connect(folder) as connection, open_queue(connection, folder) as work:
        work.put("hello")
        assert work.get(timeout=1).payload == "hello"
    assert json.loads(exchange.read_text()) == [[folder.name, "", folder.name]]


def test_what_dead_processes_left_behind_is_swept(folder: Path) -> None:
    messages = folder / "messages"
    for name in ("1_a.work.new", "2_b.work.taken", "3_c.work.new"):
        (messages / name).write_text("{}")
    for name in ("1_a.work.new", "2_b.work.taken"):
        os.utime(messages / name, (0, 0))
    with connect(folder) as connection, open_queue(connection, folder) as work:
        assert work.qsize() == 0
        assert [path.name for path in messages.iterdir()] == ["3_c.work.new"]  # it may still be written
