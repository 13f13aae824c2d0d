"""With which browsers and programs a person signed in before, so that they hear of a new one.

A browser is recognised by a cookie, which it keeps when its person signs out; a program, which keeps none, by its name
and its address.
"""

import hashlib
import re
import secrets
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from core.models import Device, KnownDevice, User
from core.net.clients import address_of
from core.notifications import Event, News, notify, register, webhooks

COOKIE = "sutazai_device"
KEPT = timedelta(days=400)  # browsers keep no cookie for longer
_TOKEN = re.compile(r"[\w-]{43}", re.ASCII)
# Where a request keeps the token for its answer's cookie.
NEW_COOKIE = "sutazai.device_cookie"

IF_NOT_YOU = "If it was not you, sign out there and change your password."
NEW_SIGN_IN = register(
    Event(
        name="new-sign-in",
        label="New sign-in",
        description="Somebody signed in to your account with a browser or a program that had not done so before.",
        email=True,
        webhook=True,
    )
)


def note_browser(request: HttpRequest, user: User) -> None:
    """Note that a person signed in with the browser that asks."""
    token = request.COOKIES.get(COOKIE, "")
    if not _TOKEN.fullmatch(token):
        token = secrets.token_urlsafe(32)
    request.META[NEW_COOKIE] = token
    browser = Device(user_agent=request.headers.get("User-Agent", "")).browser
    _note(user, f"browser {token}", name=browser, address=address_of(request), link="/account/")


def note_program(user: User, *, address: str, user_agent: str) -> None:
    """Note that a program signed in for a person; its name is not told on, because it may say anything."""
    _note(user, f"program {address} {user_agent}", name="A program", address=address, link="/settings")


def keep_cookie(request: HttpRequest, response: HttpResponse) -> None:
    """Give a browser that has just signed in what it is recognised by."""
    if token := request.META.get(NEW_COOKIE):
        response.set_cookie(
            COOKIE,
            token,
            max_age=KEPT,
            secure=settings.SESSION_COOKIE_SECURE,
            httponly=True,
            samesite="Lax",
        )


def forgotten() -> QuerySet[KnownDevice]:
    """Devices whose cookies are gone. Each person's latest stays: without any, a sign-in would look like the first."""
    later = KnownDevice.objects.filter(person=OuterRef("person"), seen_at__gt=OuterRef("seen_at"))
    return KnownDevice.objects.filter(Exists(later), seen_at__lt=timezone.now() - KEPT)


def _note(user: User, identity: str, *, name: str, address: str, link: str) -> None:
    """Tell a person of a sign-in with a device that is new, unless it is the first of all."""
    now = timezone.now()
    fingerprint = hashlib.sha256(identity.encode()).hexdigest()
    where = address or "an unknown address"
    with transaction.atomic():
        mine = KnownDevice.objects.filter(person=user)
        if mine.filter(fingerprint=fingerprint).update(seen_at=now):
            return
        is_first = not mine.exists()
        # Two sign-ins of one device may both come here.
        KnownDevice.objects.bulk_create(
            [KnownDevice(person=user, fingerprint=fingerprint, seen_at=now)], ignore_conflicts=True
        )
        if not is_first:
            body = f"{name}, from {where}, at {now:%Y-%m-%d %H:%M} UTC. {IF_NOT_YOU}"
            # A program that keeps no cookies and signs in time and again is told once an hour.
            key = f"{now:%Y-%m-%dT%H} {name} {where}"[:100]
            notify(NEW_SIGN_IN, [News(user.pk, "New sign-in to your account", link, body, collapse_key=key)], now)
            _tell_webhooks(user, now)


def _tell_webhooks(user: User, now: datetime) -> None:
    """Tell operators who signed in, once an hour. From where, only the person and the audit log are told."""
    name = user.get_username()
    text = "With a browser or a program that had not done so before."
    key = f"{user.pk} {now:%Y-%m-%dT%H}"
    message = webhooks.Message(f"New sign-in of {name}", "/admin/core/auditentry/", text, {"person": name}, key)
    webhooks.tell(NEW_SIGN_IN, [message], now)
