"""The Celery application. Messages carry ids and are sent by name; the rows are the truth."""

import logging.config
import os
from typing import Any

from celery import Celery
from celery.signals import celeryd_after_setup, setup_logging, task_prerun, worker_ready, worker_shutdown
from django.conf import settings

from core.ops import file_broker, traffic

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sutazai.settings")

file_broker.register()
app = Celery("sutazai")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@setup_logging.connect
def log_as_everybody_does(**_: Any) -> None:
    """Keep Celery from formatting lines by itself: worker and beat log as the settings say."""
    logging.config.dictConfig(settings.LOGGING)


@celeryd_after_setup.connect
def prepare_the_worker(**_: Any) -> None:
    """Begin before the first message is taken, which may be there already."""
    from core import tracing  # noqa: PLC0415 - Django is not set up when this module is imported
    from core.postgresql import pool  # noqa: PLC0415 - as above

    tracing.start("worker")
    pool.keep_ready()


@worker_ready.connect
def tell_of_the_worker(**_: Any) -> None:
    from core.ops import pools, slow_queries  # noqa: PLC0415 - as above

    pools.start("worker")
    slow_queries.start()


@task_prerun.connect
def name_the_work(task: Any, **_: Any) -> None:
    traffic.begin_work(task.name)


@worker_shutdown.connect
def tell_the_rest(**_: Any) -> None:
    from core import tracing  # noqa: PLC0415 - as above

    tracing.stop()
