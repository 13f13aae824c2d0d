"""The table of addresses that can be asked whether they answer: all that need no more than a GET.

Django's own addresses are read from its table. What is answered ahead of Django stands here, or is registered by an
application in its module `endpoints`.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver
from django.utils.module_loading import autodiscover_modules
from rest_framework.permissions import AllowAny
from rest_framework.views import APIView

READY = "/health/ready"
# Writing the whole API's description takes a second of the processor, and the page that shows it takes a sign-in.
NOT_ASKED = frozenset({"/api/schema", "/docs"})
_OPTIONAL_SLASH = re.compile(r"/\?\$?\Z|\\Z\Z|\$\Z")


@dataclass(frozen=True, order=True)
class Endpoint:
    """An address. takes_key: it answers those who may read it, and nobody else."""

    path: str
    takes_key: bool = False


_registered = [Endpoint("/health"), Endpoint(READY), Endpoint("/login")]


def register(*endpoints: Endpoint) -> None:
    """Add addresses that Django's table does not have, or does not tell to be answered without signing in."""
    _registered.extend(endpoints)


def endpoints() -> list[Endpoint]:
    """All addresses, without those whose parts vary."""
    autodiscover_modules("endpoints")
    return sorted({*_registered, *_of_the_api(get_resolver().url_patterns)})


def _of_the_api(patterns: Iterable[URLPattern | URLResolver], prefix: str = "/") -> Iterator[Endpoint]:
    for pattern in patterns:
        path = prefix + _plain(str(pattern.pattern))
        if isinstance(pattern, URLResolver):
            yield from _of_the_api(pattern.url_patterns, path)
            continue
        path = path.rstrip("/")
        if _is_fixed(path) and path not in NOT_ASKED and _reads(pattern.callback):
            yield Endpoint(path, takes_key=AllowAny not in _view(pattern.callback).permission_classes)


def _plain(pattern: str) -> str:
    """Write a pattern as the path that it stands for; what varies keeps its marks."""
    return _OPTIONAL_SLASH.sub("", pattern.removeprefix("^"))


def _is_fixed(path: str) -> bool:
    return not re.search(r"[<>()\[\]\\?*+$^]", path)


def _reads(callback: Any) -> bool:
    """Whether a view belongs to the API and answers GET."""
    view = _view(callback)
    if view is None:
        return False
    actions = getattr(callback, "actions", None)  # of a viewset: its methods by those of HTTP
    return "get" in actions if actions else hasattr(view, "get")


def _view(callback: Any) -> Any:
    """The class of a view of the API; None for others."""
    view = getattr(callback, "cls", None)
    return view if view is not None and issubclass(view, APIView) else None
