"""The Celery application. Messages carry ids and are sent by name; the rows are the truth."""

import os

from celery import Celery

from core.ops import file_broker

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sutazai.settings")

file_broker.register()
app = Celery("sutazai")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
