"""Celery's door to maintenance, emails and webhooks, and the word of workers and beats that they live."""

import atexit
import logging
import os
import uuid
from typing import Any

from celery import shared_task
from celery.signals import beat_init, worker_ready, worker_shutting_down
from django.conf import settings

from core import audit, cache
from core.audit import sealer
from core.models import MaintenanceRun, Process
from core.notifications import emails, webhooks
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


@shared_task(name=webhooks.TASK)
def send_webhook_deliveries(webhook_id: str) -> None:
    webhooks.send_due(uuid.UUID(webhook_id))


@worker_ready.connect
def start_heartbeat(**_: Any) -> None:
    heartbeat.start(Process.Role.WORKER, threads=settings.RUNNER_THREADS)
    sealer.start()
    cache.start()
    if os.environ.get(metrics_files.VARIABLE):  # else the web process shares no figures with us
        watch.start()


@beat_init.connect
def start_heartbeat_of_beat(**_: Any) -> None:
    heartbeat.start(Process.Role.BEAT)
    atexit.register(heartbeat.stop)  # there is no signal of a beat's end


@worker_shutting_down.connect
def stop_heartbeat(**_: Any) -> None:
    heartbeat.stop()
    sealer.stop()
