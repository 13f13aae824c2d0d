"""Tries at passwords and codes, counted before they are checked; allauth's own limits are off, so this is the place.

The count is of the account, however it was spelled, and of the address.
"""

from django.http import HttpRequest

from core.access.limits import attempts
from core.access.sign_in.backend import person
from core.net.clients import address_of

# Where a request keeps the account that it tried, for `succeeded`.
TRIED = "sutazai.tried"


def before_attempt(request: HttpRequest, login: str) -> None:
    """Count a try, before a password or a code is checked.

    login: the user name or email address as it was typed, or the user name of whoever is half or wholly signed in.
    Raises TooManyAttempts.
    """
    found = person(login)
    account = found.get_username() if found else login
    attempts.begin(account, address_of(request))
    request.META[TRIED] = account


def succeeded(request: HttpRequest) -> None:
    """Take this request's try back: it was right."""
    account = request.META.pop(TRIED, None)
    if account is not None:
        attempts.succeeded(account, address_of(request))
