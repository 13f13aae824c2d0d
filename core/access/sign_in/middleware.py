"""What is asked of every signed-in browser, whatever page it opens."""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from core.access import known_devices
from core.access.sign_in import devices, recent, second_factor
from core.models import User

# Pages that change how somebody signs in: a browser left open must not suffice.
DANGEROUS = frozenset(
    {
        "account_change_password",
        "account_set_password",
        "mfa_activate_totp",
        "mfa_deactivate_totp",
        "mfa_add_webauthn",
        "mfa_edit_webauthn",
        "mfa_remove_webauthn",
        "mfa_view_recovery_codes",
        "mfa_download_recovery_codes",
        "mfa_generate_recovery_codes",
        "socialaccount_connections",
    }
)
# The console's doors, which must open before anything can be asked.
DOORS = frozenset({"console-sign-in", "console-sign-out"})


class SignInMiddleware:
    """Keeps the console shut without a second factor, asks for a recent sign-in, notes devices and marks them."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self._get_response(request)
        known_devices.keep_cookie(request, response)
        return response

    def process_view(self, request: HttpRequest, *_: Any) -> HttpResponse | None:
        # Without the cookie nobody is signed in; asking for the user would cost programs a session.
        if settings.SESSION_COOKIE_NAME not in request.COOKIES or not isinstance(request.user, User):
            return None
        devices.note_later(request, request.user)
        assert request.resolver_match is not None
        name = request.resolver_match.view_name
        if request.path.startswith(reverse("admin:index")) and name not in DOORS:
            return second_factor.lead(request, request.user)
        if name in DANGEROUS:
            return recent.ask(request, back_to=request.get_full_path())
        return None
