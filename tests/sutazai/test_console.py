"""The console's menu."""

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from sutazai.console import UNFOLD
from tests.factories import make_administrator

LINKS = {str(item["link"]) for group in UNFOLD["SIDEBAR"]["navigation"] for item in group["items"]}
# What is reached from the page that it belongs to.
WITHIN = {
    "core.WebhookDelivery",
    "django_celery_beat.ClockedSchedule",
    "django_celery_beat.CrontabSchedule",
    "django_celery_beat.IntervalSchedule",
    "django_celery_beat.SolarSchedule",
}


def test_every_list_stands_in_it() -> None:
    lists = {
        model._meta.label: reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        for model in admin.site._registry
    }
    assert {label for label, address in lists.items() if address not in LINKS} == WITHIN


@pytest.mark.django_db
@pytest.mark.parametrize("link", sorted(LINKS))
def test_every_link_leads_to_a_page(link: str) -> None:
    browser = Client()
    browser.force_login(make_administrator())
    assert browser.get(link).status_code == 200
