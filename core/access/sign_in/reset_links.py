"""Links for a new password go out beside the request that asks for one.

Only who is known gets one; so neither the time that a mail server takes nor its failure may reach whoever asked.
"""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

from django.db import DatabaseError, InterfaceError, connection

logger = logging.getLogger(__name__)

# One at a time: the limits on asking keep the line short, and a slow server holds up nobody else.
_sender = ThreadPoolExecutor(1, thread_name_prefix="reset-links")


def send_soon(send: Callable[[], object]) -> None:
    """Have a link sent as soon as those before it are."""
    _sender.submit(copy_context().run, _send, send)


def _send(send: Callable[[], object]) -> None:
    try:
        send()
    except (OSError, DatabaseError, InterfaceError):  # errors of mail servers are OSErrors
        logger.exception("A link for a new password was not sent.")
    finally:
        connection.close()
