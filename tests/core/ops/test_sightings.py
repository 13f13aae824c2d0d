import pytest
from django.db import IntegrityError, OperationalError

from core.ops import sightings
from core.ops.sightings import Sightings


@pytest.fixture
def written():
    return []


@pytest.fixture
def kind(written):
    """Sightings that a list keeps, unless their value is an error."""

    def write(key, value):
        if isinstance(value, Exception):
            raise value
        written.append((key, value))

    found = Sightings(write)
    yield found
    sightings._kinds.remove(found)


def test_the_last_sighting_of_each_key_is_written_once(kind, written):
    for key, value in [("a", 1), ("b", 1), ("a", 2)]:
        kind.note(key, value)
    assert written == []
    assert sightings.flush() == 2
    assert written == [("a", 2), ("b", 1)]
    assert sightings.flush() == 0


def test_what_the_database_cannot_take_now_is_written_later_unless_it_was_seen_again(kind, written):
    kind.note("a", OperationalError("database is locked"))
    kind.note("b", 1)
    with pytest.raises(OperationalError):
        sightings.flush()
    kind.note("a", 2)
    sightings.flush()
    assert written == [("a", 2), ("b", 1)]


def test_what_is_gone_is_dropped_and_holds_nothing_up(kind, written):
    kind.note("a", IntegrityError("its user was deleted"))
    kind.note("b", 1)
    assert sightings.flush() == 1
    sightings.flush()
    assert written == [("b", 1)]


def test_the_end_of_a_process_waits_for_no_database(kind, written):
    kind.note("a", OperationalError("the connection is closed"))
    sightings.stop()
    assert written == []
