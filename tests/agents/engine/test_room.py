import threading
import uuid

import pytest
from django.db import connection

from agents.engine import execution
from agents.engine.room import Room
from agents.models import AgentTask
from tests.agents.engine.factories import MODEL, make_agent, make_node, submit_task
from tests.ollama_server.embedded import OllamaTestServer


def test_who_comes_while_it_is_full_is_looked_for_by_who_leaves():
    room = Room(1)
    assert room.enter()
    assert not room.enter()
    assert room.has_turned_away
    assert not room.leave()  # look first
    assert room.leave()
    assert room.enter()


@pytest.mark.django_db(transaction=True)
def test_granted_tasks_whose_messages_were_turned_away_run_in_turn(monkeypatch, started_writer, wait_until):
    """Four slots and one thread: what was granted first runs first, although the thread finds more to do each time."""
    monkeypatch.setattr(execution, "room", Room(1))
    with OllamaTestServer(models=[MODEL], parallel=4) as server:
        make_node(MODEL, url=server.url, slots=4)
        agent = make_agent()
        tasks = [submit_task(agent, f"[[f100]] {number}") for number in range(8)]
        granted = [task.pk for task in tasks[:4]]
        thread = threading.Thread(target=_run, args=(granted[0],))
        thread.start()
        wait_until(lambda: server.stats()["in_flight"] == 1)
        for task_id in granted[1:]:
            execution.run(task_id)  # turned away at once
        thread.join(60)
    started = AgentTask.objects.order_by("started_at").values_list("pk", flat=True)
    assert list(started) == [task.pk for task in tasks]
    assert set(AgentTask.objects.values_list("status", flat=True)) == {"succeeded"}


def _run(task_id: uuid.UUID) -> None:
    try:
        execution.run(task_id)
    finally:
        connection.close()
