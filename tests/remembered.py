"""What processes remember of rows, so that they need not ask for them every time."""

from django.db import connection

from agents.engine import queue
from agents.engine import remembered as agents_and_people
from core.access import api_keys, signing_keys, tokens
from core.access.limits import allowances
from core.access.limits.windows import DatabaseWindows
from core.access.sign_in import devices
from core.audit import denials
from core.cache.memory import memory
from core.cache.shared import shared
from core.net import breakers
from core.ops import sightings


def forget() -> None:
    """Have this process know nothing of rows."""
    api_keys.forget()
    denials.forget()
    allowances.forget()
    if connection.vendor == "sqlite":  # elsewhere the counts go back with the test's transaction
        DatabaseWindows().reset()
    tokens.forget()
    signing_keys.forget()
    devices.forget()
    sightings.forget()
    agents_and_people.forget()
    memory.clear()
    shared.forget()
    breakers.forget()
    queue.forget()
