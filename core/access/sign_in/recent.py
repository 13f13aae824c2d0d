"""Dangerous things need a recent sign-in: a browser that was left open is not enough."""

import time
from urllib.parse import urlencode

from allauth.account.adapter import get_adapter
from allauth.account.authentication import get_authentication_records
from allauth.socialaccount.models import SocialAccount
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import reverse

from core.models import User

SIGNED_IN_AT = "signed_in_at"


def note_sign_in(request: HttpRequest) -> None:
    request.session[SIGNED_IN_AT] = int(time.time())


def is_recent(request: HttpRequest) -> bool:
    """True if whoever asks signed in, or confirmed that it is them, within RECENT_SIGN_IN_SECONDS."""
    records = get_authentication_records(request, request.user)
    confirmed = [record["at"] for record in records if record.get("reauthenticated")]
    latest: float = max([request.session.get(SIGNED_IN_AT, 0), *confirmed])
    return time.time() - latest < settings.RECENT_SIGN_IN_SECONDS


def ask(request: HttpRequest, *, back_to: str) -> HttpResponseRedirect | None:
    """Lead to the page that asks for the password or a code, unless the sign-in is recent; that page leads back."""
    if is_recent(request):
        return None
    if request.method != "GET":
        messages.warning(request, "Nothing has changed yet: first confirm that it is you, then do it again.")
    assert isinstance(request.user, User)
    address = _way_to_confirm(request, request.user)
    return HttpResponseRedirect(f"{address}{'&' if '?' in address else '?'}{urlencode({'next': back_to})}")


def _way_to_confirm(request: HttpRequest, user: User) -> str:
    ways = get_adapter(request).get_reauthentication_methods(user)
    if ways:
        return str(ways[0]["url"])
    account = SocialAccount.objects.filter(user=user).first()
    if account is not None:  # they have neither password nor second factor here: their provider asks them again
        return str(account.get_provider(request).get_login_url(request, process="login", again="1"))
    return reverse("account_logout")
