"""Second factors as an app on a phone has them."""

import time
from collections.abc import Callable

import pytest
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.core.cache import cache


@pytest.fixture(autouse=True)
def fresh_cache() -> None:
    """A code that another test used is no used code."""
    cache.clear()


@pytest.fixture
def code_of() -> Callable[[str], str]:
    """What an authenticator app shows now for a secret."""

    def code(secret: str) -> str:
        return format_hotp_value(hotp_value(secret, int(time.time()) // 30))

    return code
