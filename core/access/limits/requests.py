"""API requests within a minute: of each key and each person, of teams, and of addresses that nobody signed in from."""

import ipaddress
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

from django.conf import settings
from django.db import Error as DatabaseError

from core.access.limits import windows
from core.access.limits.allowances import Level
from core.access.limits.refusals import TooManyRequests

logger = logging.getLogger(__name__)

WINDOW_SECONDS = 60


@dataclass(frozen=True)
class Quota:
    """A limit and what was used of it. name: whose it is: key, user, team or address."""

    name: str
    limit: int
    used: int
    seconds_left: int
    window_seconds: int = WINDOW_SECONDS

    @property
    def remaining(self) -> int:
        return max(0, self.limit - self.used)

    @property
    def is_exceeded(self) -> bool:
        return self.used > self.limit

    @property
    def tightness(self) -> tuple[bool, int, int]:
        """Sorts the quota first that holds a caller back most: first those that are exceeded, the longest before."""
        return (not self.is_exceeded, -self.seconds_left if self.is_exceeded else self.remaining, -self.seconds_left)


def count(levels: Sequence[Level]) -> list[Quota]:
    """Count a request for everybody it counts for, those over their limit included."""
    return _quotas(_limited(levels), counts=True)


def count_anonymous(address: str) -> list[Quota]:
    """Count a request of nobody known."""
    limited = [("address", f"address:{network_of(address)}", settings.ANONYMOUS_REQUESTS_PER_MINUTE)]
    return _quotas(limited, counts=True)


def look(levels: Sequence[Level]) -> list[Quota]:
    """Tell how many requests there were for each of these that has a limit, without counting one."""
    return _quotas(_limited(levels), counts=False)


def refuse_excess(quotas: Sequence[Quota]) -> None:
    """Raise TooManyRequests, for the tightest, where a quota is exceeded."""
    if exceeded := [quota for quota in quotas if quota.is_exceeded]:
        tightest = min(exceeded, key=lambda quota: quota.tightness)
        raise TooManyRequests(
            name=tightest.name,
            limit=tightest.limit,
            window_seconds=tightest.window_seconds,
            retry_after_seconds=tightest.seconds_left,
        )


def network_of(address: str) -> str:
    """What one caller has of addresses: one of IPv4's, 2^64 of IPv6's."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address[:45]
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((ip, 64), strict=False))


def _limited(levels: Sequence[Level]) -> list[tuple[str, str, int]]:
    return [
        (level.subject.kind, str(level.subject), level.requests_per_minute)
        for level in levels
        if level.requests_per_minute is not None
    ]


def _quotas(limited: Sequence[tuple[str, str, int]], *, counts: bool) -> list[Quota]:
    """Ask how far these got, given as name, key and limit. While nobody can count, nobody is held back."""
    keys = [key for _, key, _ in limited]
    try:
        found = windows.hit(keys, WINDOW_SECONDS) if counts else windows.look(keys)
    except DatabaseError as error:
        logger.warning("Requests are not counted: %s", error)
        return []
    return [
        # A second begun is a second to wait.
        Quota(name, limit, used=window.hits, seconds_left=max(1, math.ceil(window.seconds_left)))
        for (name, _, limit), window in zip(limited, found, strict=True)
    ]
