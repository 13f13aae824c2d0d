"""The console's door: passwords are tried so often and no more."""

from typing import Any

from django.contrib import admin
from unfold.forms import AuthenticationForm

from core.access.limits import attempts
from core.net.clients import address_of


class SignInForm(AuthenticationForm):
    """Counts each try before the password is checked. Raises TooManyAttempts, which is answered with 429."""

    def clean(self) -> dict[str, Any]:
        account, address = str(self.data.get("username", "")), address_of(self.request)
        attempts.begin(account, address)
        cleaned: dict[str, Any] = super().clean()
        attempts.succeeded(account, address)
        return cleaned


admin.site.login_form = SignInForm
