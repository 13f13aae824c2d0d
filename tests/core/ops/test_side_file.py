import os
import threading

import pytest
from django.db import OperationalError

from core.ops.side_file import SideFile

SCHEMA = ["CREATE TABLE IF NOT EXISTS number (value INTEGER)"]


@pytest.fixture
def file(tmp_path):
    return SideFile(tmp_path / "side.sqlite3", SCHEMA)


def test_several_openings_share_what_is_written(file, tmp_path):
    file.run("INSERT INTO number VALUES (%s)", [1])
    assert SideFile(tmp_path / "side.sqlite3", SCHEMA).run("SELECT value FROM number") == [(1,)]


def test_only_durable_statements_wait_for_the_disk(file):
    normal, full = [(1,)], [(2,)]
    assert file.run("PRAGMA synchronous") == normal
    assert file.run("PRAGMA synchronous", durable=True) == full
    assert file.run("PRAGMA synchronous") == normal
    with pytest.raises(OperationalError):
        file.run("no statement", durable=True)
    assert file.run("PRAGMA synchronous") == normal


def test_the_threads_of_a_process_take_turns(file):
    def insert():
        for _ in range(50):
            file.run("INSERT INTO number VALUES (1)")

    threads = [threading.Thread(target=insert) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert file.run("SELECT COUNT(*) FROM number") == [(200,)]


def test_a_forked_process_opens_it_anew(file):
    file.run("INSERT INTO number VALUES (1)")
    child = os.fork()
    if child == 0:
        file.run("INSERT INTO number VALUES (2)")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    file.run("INSERT INTO number VALUES (3)")
    assert sorted(file.run("SELECT value FROM number")) == [(1,), (2,), (3,)]


def test_its_errors_are_those_of_the_database(file, tmp_path):
    with pytest.raises(OperationalError, match=r"side.sqlite3: no such table"):
        file.run("SELECT * FROM nowhere")
    with pytest.raises(OperationalError, match=r"other.sqlite3: unable to open"):
        SideFile(tmp_path / "missing" / "other.sqlite3", SCHEMA).run("SELECT 1")
