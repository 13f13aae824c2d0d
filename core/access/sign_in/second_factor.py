"""The second factor of those who use the console."""

from urllib.parse import urlencode

from allauth.account.adapter import get_adapter
from allauth.account.authentication import get_authentication_records
from allauth.account.internal.flows.login import record_authentication
from allauth.mfa.models import Authenticator
from allauth.mfa.utils import is_mfa_enabled
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import reverse

from core.models import User

SET_UP = "Your account may use the console, so it needs a second factor. Choose one to go on."


def is_missing(request: HttpRequest, user: User) -> bool:
    """True if a second factor is required of this person and this session has not passed one that still exists."""
    if not settings.REQUIRE_SECOND_FACTOR or not user.is_staff:
        return False
    return not _has_passed(request, user) or not is_mfa_enabled(user)


def password_suffices(user: User) -> bool:
    """True if a name and a password alone may sign somebody in: they have no second factor, and need none."""
    return not is_mfa_enabled(user) and not (settings.REQUIRE_SECOND_FACTOR and user.is_staff)


def owner_of_code(user: User, code: str) -> Authenticator | None:
    """Find the second factor of a person that made a code; a recovery code is used up by that. None if none did."""
    makers = Authenticator.objects.filter(user=user).exclude(type=Authenticator.Type.WEBAUTHN)
    return next((maker for maker in makers if maker.wrap().validate_code(code)), None)


def note_passed(request: HttpRequest, user: User, factor: Authenticator) -> None:
    """Note in the session that a second factor was given in it."""
    record_authentication(request, user, "mfa", id=factor.pk, type=str(factor.type))


def _has_passed(request: HttpRequest, user: User) -> bool:
    # Without the user, allauth knows of no records at all.
    return any(record["method"] == "mfa" for record in get_authentication_records(request, user))


def lead(request: HttpRequest, user: User) -> HttpResponseRedirect | None:
    """Lead to where the second factor is given or set up; None if this session needs neither."""
    if not is_missing(request, user):
        return None
    ways = get_adapter(request).get_reauthentication_methods(user)
    codes = [way["url"] for way in ways if way["id"].startswith("mfa_reauthenticate")]
    if codes:
        return HttpResponseRedirect(f"{codes[0]}?{urlencode({'next': request.get_full_path()})}")
    messages.warning(request, SET_UP)
    return HttpResponseRedirect(reverse("mfa_index"))
