"""Nothing that arrives can be an object: messages are JSON, whatever their sender says they are."""

import subprocess
import sys
from typing import Any

import pytest
from django.conf import settings
from kombu import Connection, Exchange, Queue
from kombu.exceptions import ContentDisallowed

from sutazai.celery import app

UNPICKLED: list[str] = []


class Exploit:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (UNPICKLED.append, ("here",))


@pytest.mark.parametrize("serializer", ["pickle", "yaml"])
def test_a_message_that_is_no_json_is_refused_unread(serializer: str) -> None:
    if serializer == "yaml":
        pytest.importorskip("yaml")
    queue = Queue("test-deserialization", Exchange("test-deserialization"), routing_key="test")
    body: Any = Exploit() if serializer == "pickle" else {"id": "1"}
    with Connection("memory://") as connection:
        connection.Producer(serializer=serializer).publish(
            body, exchange=queue.exchange, routing_key="test", declare=[queue]
        )
        consumer = app.amqp.TaskConsumer(connection.channel(), queues=[queue])
        consumer.register_callback(lambda *_: pytest.fail("It was read."))
        with consumer, pytest.raises(ContentDisallowed):
            connection.drain_events(timeout=5)
    assert UNPICKLED == []


def test_a_worker_reads_and_writes_json_alone() -> None:
    assert app.conf.accept_content == ["json"]
    assert (app.conf.task_serializer, app.conf.result_serializer) == ("json", "json")


def test_the_linter_knows_what_must_not_be_used(tmp_path) -> None:
    """pickle, yaml.load and shell=True: refused by the project's own rules."""
    bad = tmp_path / "core" / "bad.py"
    bad.parent.mkdir()
    bad.write_text(
        "import pickle\nimport subprocess\n\nimport yaml\n\n"
        "pickle.loads(b'')\nyaml.load('')\nsubprocess.run('ls', shell=True)\neval('1')\n"
    )
    configuration = settings.BASE_DIR / "pyproject.toml"
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--config", str(configuration)]
    found = subprocess.run(
        [*command, "--output-format", "concise", str(bad)], capture_output=True, text=True, check=False
    ).stdout
    assert {"S301", "S506", "S602", "S307"} <= set(found.replace(":", " ").split())
