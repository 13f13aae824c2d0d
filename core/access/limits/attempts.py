"""Tries at a password, limited for each account and for each address.

Every try is counted before the password is looked at, in one atomic step: of fifty tries at the same moment no more
pass than of fifty in a row. A try that succeeded is taken back, so that only wrong passwords use a limit up. Accounts
that do not exist are counted like those that do.
"""

import hashlib
import math

from django.conf import settings

from core.access.limits import windows
from core.access.limits.refusals import TooManyAttempts
from core.access.limits.requests import network_of


def begin(account: str, address: str) -> None:
    """Count a try to sign in; call it before the password is checked, and do not check it when this raises.

    account: the name as it was entered. Raises TooManyAttempts.
    """
    limits = [settings.SIGN_IN_TRIES_PER_ACCOUNT, settings.SIGN_IN_TRIES_PER_ADDRESS]
    tries = windows.hit(_keys(account, address), settings.SIGN_IN_WINDOW_SECONDS)
    waits = [window.seconds_left for window, limit in zip(tries, limits, strict=True) if window.hits > limit]
    if waits:
        raise TooManyAttempts(retry_after_seconds=max(1, math.ceil(max(waits))))


def succeeded(account: str, address: str) -> None:
    """Take a try back whose password was right."""
    windows.hit(_keys(account, address), settings.SIGN_IN_WINDOW_SECONDS, amount=-1)


def _keys(account: str, address: str) -> list[str]:
    """Names are hashed: they may be long, and people type passwords where a name belongs."""
    name = hashlib.sha256(account.strip().casefold().encode()).hexdigest()
    return [f"attempt-at:{name}", f"attempt-from:{network_of(address)}"]
