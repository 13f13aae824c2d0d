"""Connections to PostgreSQL: how their sessions are set up, how many there are, and those that died in the pool."""

import copy
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from django.conf import settings
from django.db import OperationalError, connection, transaction
from psycopg_pool import PoolTimeout

from core.models import User
from core.postgresql import absence, base, pool
from core.postgresql.absence import Absence
from tests.services.server import free_port

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def on_postgresql() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("PostgreSQL's backend; the run on PostgreSQL tests it")


def _backend_id() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def _address() -> str:
    """Where the database is, for a session beside Django's pool."""
    own = connection.settings_dict
    return psycopg.conninfo.make_conninfo(host=own["HOST"], port=own["PORT"], user=own["USER"], dbname=own["NAME"])


def test_connections_that_died_in_the_pool_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "PAUSE_SECONDS", 0.0)
    before = _backend_id()
    connection.close()
    with psycopg.connect(_address()) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    after = set()
    for _ in range(connection.pool.get_stats()["pool_size"]):
        after.add(_backend_id())
        connection.close()
    assert before not in after


def test_a_connection_that_was_used_a_moment_ago_is_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(connection.pool.get_stats()["pool_size"]):  # the pool hands its connections out by turns
        _backend_id()
        connection.close()
    checked: list[object] = []
    monkeypatch.setattr(base.ConnectionPool, "check_connection", checked.append)
    for _ in range(5):
        _backend_id()
        connection.close()
    assert checked == []


def test_a_statement_that_comes_again_is_parsed_and_planned_once() -> None:
    def sent() -> int:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT sum(generic_plans + custom_plans) FROM pg_prepared_statements WHERE statement ~ 'username'"
            )
            return int(cursor.fetchone()[0] or 0)

    threshold = connection.settings_dict["OPTIONS"]["prepare_threshold"]
    with transaction.atomic():  # on one connection
        for number in range(threshold + 3):  # other values make no other statement
            assert not User.objects.filter(username=f"nobody-{number}").exists()
        assert sent() == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("jit", "off"),  # compiling costs more than our short statements take
        ("random_page_cost", "1.1"),  # of SSDs
        ("statement_timeout", "10s"),
        ("lock_timeout", "5s"),
        ("idle_in_transaction_session_timeout", "10s"),
    ],
)
def test_sessions_are_set_up_by_the_settings(name: str, value: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SHOW {name}")
        assert cursor.fetchone() == (value,)


def test_idle_connections_end_after_five_minutes() -> None:
    assert connection.pool.max_idle == 300
    assert connection.pool.timeout == settings.POOL_WAIT_SECONDS


@pytest.fixture
def as_before() -> Iterator[None]:
    """Let the pool shrink again afterwards."""
    before = connection.pool.min_size
    yield
    connection.pool.resize(before, connection.pool.max_size)


def test_processes_that_serve_have_connections_ready(as_before: None, wait_until) -> None:
    pool.keep_ready()
    wait_until(lambda: connection.pool.get_stats()["pool_available"] >= pool.READY_CONNECTIONS)
    assert pool.limit() == settings.DATABASE_CONNECTIONS


def test_who_waits_for_another_thread_leaves_the_last_connection_to_it() -> None:
    before = connection.pool.min_size, connection.pool.max_size
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    pool.leave_to_others()
    assert connection.connection is not None  # there are others
    connection.pool.resize(1, connection.pool.get_stats()["pool_size"])
    held = [connection.pool.getconn() for _ in range(connection.pool.get_stats()["pool_available"])]
    with transaction.atomic():
        pool.leave_to_others()
        assert connection.connection is not None
    pool.leave_to_others()
    assert connection.connection is None
    for other in held:
        connection.pool.putconn(other)
    connection.pool.resize(*before)


def test_more_than_a_hundred_at_a_time_wait_instead_of_failing(monkeypatch: pytest.MonkeyPatch) -> None:
    connection.close_pool()  # those before made it grow and shrink
    monkeypatch.setattr(connection.pool, "timeout", 60)  # a machine with much else to do is slow

    def ask(number: int) -> tuple[int, int]:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT %s, pg_sleep(0.02)", [number])
                return cursor.fetchone()[0], connection.pool.get_stats()["pool_size"]
        finally:
            connection.close()

    before = pool.counters()
    with ThreadPoolExecutor(120) as threads:
        answers = list(threads.map(ask, range(180)))
    assert [number for number, _ in answers] == list(range(180))
    assert max(size for _, size in answers) <= settings.DATABASE_CONNECTIONS
    after = pool.counters()
    assert after.requests - before.requests >= 180
    assert after.waits > before.waits
    assert (after.waiting, after.connection_errors) == (0, before.connection_errors)


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Iterator[base.DatabaseWrapper]:
    """A connection to a server that is not there."""
    settings_dict = copy.deepcopy(connection.settings_dict) | {"HOST": "127.0.0.1", "PORT": free_port()}
    settings_dict["OPTIONS"]["pool"] |= {"timeout": 0.5}
    wrapper = base.DatabaseWrapper(settings_dict, alias="away")
    yield wrapper
    wrapper.close_pool()
    base._absences.pop("away")


def test_one_asks_for_a_server_that_is_away_and_others_are_refused_at_once(
    away: base.DatabaseWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked() -> int:
        with pytest.raises(OperationalError):
            away.ensure_connection()
        return int(away.pool.get_stats()["requests_num"])

    assert [asked(), asked(), asked()] == [1, 1, 1]
    monkeypatch.setattr(absence, "ASK_AGAIN_SECONDS", 0.0)
    base._absences["away"]._ask_at = 0.0  # what the time does
    assert [asked(), asked()] == [2, 3]


def test_a_pool_that_is_full_is_no_absence() -> None:
    full = Absence()
    with pytest.raises(PoolTimeout), full.noticed(connection.pool):
        raise PoolTimeout("no room")
    with full.noticed(connection.pool):
        pass


def test_a_server_that_is_back_is_asked_by_all() -> None:
    back = Absence()
    back._ask_at = float("inf")
    connection.ensure_connection()
    connection.close()  # to the pool, which has it ready
    for _ in range(2):
        with back.noticed(connection.pool):
            pass
    assert back._ask_at is None
