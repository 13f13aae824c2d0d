from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import pytest

from core.notifications import Event, events
from tests.mail_server import MailServer
from tests.servers import Receiver


@pytest.fixture
def event(monkeypatch: pytest.MonkeyPatch) -> Event:
    """An event that everybody may be told of, in the product by default."""
    event = Event("kettle-boiled", "Kettle", "The kettle boiled.")
    monkeypatch.setitem(events._events, event.name, event)
    return event


@pytest.fixture
def mail(settings: Any) -> Iterator[MailServer]:
    """A real mail server, which the settings name."""
    with MailServer() as server:
        settings.EMAIL_IS_CONFIGURED = True
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", server.port
        settings.PUBLIC_URL = "https://sutazai.example"
        yield server


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    """A real web server, where an operator lets webhooks lead to."""
    settings.WEBHOOK_NETWORKS = (ip_network("127.0.0.1/32"),)
    settings.PUBLIC_URL = "https://sutazai.example"
    with Receiver() as server:
        yield server
