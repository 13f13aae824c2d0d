"""Celery's door: fetch by id, return quietly if there is nothing to do, call the engine."""

import uuid
from typing import Any

from celery import shared_task
from celery.signals import worker_ready, worker_shutting_down

from agents.engine import execution, service


@shared_task(name="agents.run")
def run(task_id: str) -> None:
    execution.run(uuid.UUID(task_id))


@worker_ready.connect
def start_engine(**_: Any) -> None:
    service.start()


@worker_shutting_down.connect
def stop_engine(**_: Any) -> None:
    service.stop()
