import shutil
import socket
import time
from collections import namedtuple

import pytest

from core.net.redis import single_connection
from core.ops import heartbeat, probes
from core.ops.probes import UP, State
from tests.services.server import free_port


@pytest.fixture(autouse=True)
def fresh_connections(monkeypatch):
    monkeypatch.setattr(probes, "_amqp", probes._Amqp())
    yield
    single_connection.cache_clear()


@pytest.fixture
def silent_port():
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.django_db
@pytest.mark.both_databases
def test_the_database_answers():
    assert probes.database() == UP


def test_the_embedded_broker_needs_its_folder(settings, tmp_path):
    settings.CELERY_BROKER_URL = "filesystem://"
    settings.CELERY_BROKER_TRANSPORT_OPTIONS = {"data_folder_out": str(tmp_path)}
    assert probes.broker() == UP
    settings.CELERY_BROKER_TRANSPORT_OPTIONS = {"data_folder_out": str(tmp_path / "gone")}
    assert probes.broker().state == State.DOWN


@pytest.mark.redis
def test_redis_answers_over_one_kept_connection(settings, redis_url):
    settings.CELERY_BROKER_URL = settings.REDIS_URL = redis_url
    client = single_connection(redis_url, probes.TIMEOUT_SECONDS / 2)
    before = client.info("stats")["total_connections_received"]
    for _ in range(3):
        assert probes.broker() == probes.redis() == UP
    assert client.info("stats")["total_connections_received"] == before


@pytest.mark.rabbitmq
def test_rabbitmq_answers_over_one_kept_connection(settings, rabbitmq_url):
    settings.CELERY_BROKER_URL = rabbitmq_url
    assert probes.broker() == UP
    channel = probes._amqp._channel
    assert probes.broker() == UP
    assert probes._amqp._channel is channel
    channel.connection.collect()


@pytest.mark.rabbitmq
def test_a_lost_connection_to_rabbitmq_is_a_failure_once_and_then_made_anew(settings, rabbitmq_url):
    settings.CELERY_BROKER_URL = rabbitmq_url
    probes.broker()
    probes._amqp._channel.connection.transport.sock.shutdown(socket.SHUT_RDWR)
    with pytest.raises(OSError, match=r"closed|reset|pipe"):
        probes.broker()
    assert probes.broker() == UP
    probes._amqp._channel.connection.collect()


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_is_not_there_is_a_failure(settings, scheme):
    settings.CELERY_BROKER_URL = f"{scheme}://127.0.0.1:{free_port()}"
    with pytest.raises(Exception, match="refused"):
        probes.broker()


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_hangs_does_not_hold_the_probe(settings, scheme, silent_port):
    settings.CELERY_BROKER_URL = f"{scheme}://127.0.0.1:{silent_port}"
    started = time.monotonic()
    with pytest.raises(Exception, match=r"(?i)time"):
        probes.broker()
    assert time.monotonic() - started < 5 * probes.TIMEOUT_SECONDS


@pytest.mark.parametrize(
    ("free", "state"), [(600 * 2**20, State.UP), (500 * 2**20, State.DEGRADED), (0, State.DEGRADED)]
)
def test_little_space_for_data_is_told(monkeypatch, free, state):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2**40, 2**39, free))
    assert probes.disk().state == state


@pytest.mark.django_db
def test_without_a_worker_tasks_wait():
    assert probes.workers().state == State.DOWN
    heartbeat.beat()
    assert probes.workers() == UP


def test_redis_is_looked_at_where_it_is_configured(settings):
    settings.REDIS_URL = ""
    assert "redis" not in probes.registered()
    settings.REDIS_URL = "redis://127.0.0.1:6379/0"
    assert "redis" in probes.registered()
    assert {"database", "broker", "disk", "workers", "models"} <= set(probes.registered())
