"""Celery's door to maintenance and emails, and a worker's word that it lives."""

import logging
import os
import uuid
from typing import Any

from celery import shared_task
from celery.signals import worker_ready, worker_shutting_down

from core import audit, cache
from core.audit import sealer
from core.models import MaintenanceRun
from core.notifications import emails
from core.ops import maintenance, metrics_files
from core.ops.alerts import watch
from core.ops.heartbeat import heartbeat

logger = logging.getLogger(__name__)


@shared_task(name=maintenance.TASK)
def run_maintenance(name: str, trigger: str = MaintenanceRun.Trigger.SCHEDULE) -> None:
    """Run a job because its schedule, or somebody in the console, says so."""
    try:
        with audit.acting(credential=trigger):
            maintenance.run(name, trigger=MaintenanceRun.Trigger(trigger))
    except maintenance.UnknownJobError:
        logger.exception("A schedule names the maintenance job %r, which does not exist.", name)


@shared_task(name=emails.TASK)
def send_notification_email(notification_id: str) -> None:
    emails.send(uuid.UUID(notification_id))


@worker_ready.connect
def start_heartbeat(**_: Any) -> None:
    heartbeat.start()
    sealer.start()
    cache.start()
    if os.environ.get(metrics_files.VARIABLE):  # else the web process shares no figures with us
        watch.start()


@worker_shutting_down.connect
def stop_heartbeat(**_: Any) -> None:
    heartbeat.stop()
    sealer.stop()
