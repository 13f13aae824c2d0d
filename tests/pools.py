"""Pools of a test's own, with room for whatever it does."""

from collections.abc import Callable

from core.net import addresses
from core.net.addresses import Policy
from core.net.http import HttpPool
from core.net.places import Places


def some_places(limit: int = 64) -> Places:
    return Places("test", limit=limit, wait_seconds=5)


def thread_pool(policy: Callable[[], Policy] = addresses.nodes, *, limit: int = 64) -> HttpPool:
    return HttpPool(policy, some_places(limit))
