"""Who may say that a request came by HTTPS."""

from ipaddress import ip_network

import pytest
from django.test import Client

pytestmark = pytest.mark.django_db


def test_a_stranger_cannot_claim_that_a_request_came_by_https(settings) -> None:
    settings.SECURE_SSL_REDIRECT = True
    settings.TRUSTED_PROXIES = ()
    assert Client(headers={"X-Forwarded-Proto": "https"}).get("/login").status_code == 301


def test_a_trusted_proxy_can(settings) -> None:
    settings.SECURE_SSL_REDIRECT = True
    settings.TRUSTED_PROXIES = (ip_network("127.0.0.1/32"),)
    assert Client(headers={"X-Forwarded-Proto": "https"}).get("/login").status_code == 200
