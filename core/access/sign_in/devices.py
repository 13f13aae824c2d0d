"""Where a person is signed in, and how they sign out from there."""

import threading
from typing import Any

from cachetools import TTLCache
from django.contrib.sessions.models import Session
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from core.models import Device, User
from core.net.clients import address_of
from core.ops.sightings import Sightings

# `last_seen_at` is this exact, so that a busy browser costs one write in five minutes and process.
PRECISION_SECONDS = 300

_noted: TTLCache[str, bool] = TTLCache(maxsize=4096, ttl=PRECISION_SECONDS)
_noted_lock = threading.Lock()


def note(request: HttpRequest, user: User) -> None:
    """Note that a person signs in from here."""
    if not request.session.session_key:
        request.session.save()
    if seen := _seen(request, user):
        _write(*seen)


def note_later(request: HttpRequest, user: User) -> None:
    """Note that a person's session was seen from here, unless that was noted a moment ago."""
    if seen := _seen(request, user):
        _sightings.note(*seen)


def _seen(request: HttpRequest, user: User) -> tuple[str, dict[str, Any]] | None:
    """What was seen of which session; None where that was noted a moment ago."""
    key = request.session.session_key
    assert key is not None
    with _noted_lock:
        if key in _noted:
            return None
        _noted[key] = True
    return key, {
        "user": user,
        "address": address_of(request) or None,
        "user_agent": request.headers.get("User-Agent", "")[:300],
        "last_seen_at": timezone.now(),
    }


def _write(key: str, seen: dict[str, Any]) -> None:
    if not Device.objects.filter(session_key=key).update(**seen):
        # Two first requests of one browser may both come here.
        device = Device(session_key=key, signed_in_at=seen["last_seen_at"], **seen)
        Device.objects.bulk_create([device], ignore_conflicts=True)


_sightings = Sightings(_write)


def of(user: User) -> QuerySet[Device]:
    """The devices on which a person is signed in now, the one seen last first."""
    return signed_in().filter(user=user)


def signed_in() -> QuerySet[Device]:
    """All devices whose session has not ended."""
    alive = Session.objects.filter(expire_date__gt=timezone.now()).values("session_key")
    return Device.objects.filter(session_key__in=alive)


def sign_out(devices: QuerySet[Device]) -> int:
    """End the sessions of these devices; returns how many there were."""
    keys = list(devices.values_list("session_key", flat=True))
    Session.objects.filter(session_key__in=keys).delete()
    Device.objects.filter(session_key__in=keys).delete()
    forget(*keys)
    return len(keys)


def sign_out_others(request: HttpRequest, user: User) -> int:
    """End all sessions of a person except the one that asks."""
    return sign_out(Device.objects.filter(user=user).exclude(session_key=request.session.session_key or ""))


def forget(*keys: str) -> None:
    """Look at the rows again: these sessions ended. Without keys: all."""
    with _noted_lock:
        for key in keys or list(_noted):
            _noted.pop(key, None)
