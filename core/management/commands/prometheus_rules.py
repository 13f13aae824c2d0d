"""manage.py prometheus_rules"""

from typing import Any

from django.core.management.base import BaseCommand

from core.ops.alerts import prometheus


class Command(BaseCommand):
    help = "Print the alerts as rules for Prometheus, as they stand in deploy/prometheus/alerts.yml."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(prometheus.text(), ending="")
