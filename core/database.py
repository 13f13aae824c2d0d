"""Which database this installation has; asking Django's connection takes as long as what depends on the answer."""

import functools

from django.db import connection


@functools.cache
def vendor() -> str:
    """Django's name for it: "postgresql" or "sqlite"."""
    return connection.vendor
