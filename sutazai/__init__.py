"""Wiring: settings, addresses, servers, schedules."""

from sutazai.celery import app as celery_app

__all__ = ["celery_app"]
