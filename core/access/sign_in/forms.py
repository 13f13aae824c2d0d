"""allauth's forms with our words, and with the limits on attempts."""

from functools import partial
from typing import Any

from allauth.account.forms import LoginForm, ReauthenticateForm, ResetPasswordForm
from allauth.core import context
from allauth.mfa.base.forms import AuthenticateForm
from allauth.mfa.base.forms import ReauthenticateForm as CodeReauthenticateForm
from allauth.mfa.webauthn.forms import AddWebAuthnForm
from django import forms
from django.conf import settings

from core.access.sign_in import attempts, reset_links
from core.exceptions import Refused


def check_attempt(request: Any, login: str) -> None:
    """Count an attempt; raises ValidationError where there were too many."""
    try:
        attempts.before_attempt(request, login)
    except Refused as refusal:
        raise forms.ValidationError(f"{refusal.title}. {refusal.detail}", code=refusal.code) from refusal


class SignInForm(LoginForm):
    """A user name or an email address, and a password."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        login = self.fields["login"]
        login.label = "Username or email"
        login.widget.attrs |= {
            "autocomplete": "username",
            "autocapitalize": "none",
            "spellcheck": "false",
            "autofocus": True,
        }
        self.can_reset_password = settings.EMAIL_IS_CONFIGURED


class ResetForm(ResetPasswordForm):
    """The email address that a link for a new password is sent to, if it is somebody's."""

    def clean_email(self) -> str:
        check_attempt(context.request, f"new password for {self.cleaned_data['email']}")
        return str(super().clean_email())

    def save(self, request: Any, **kwargs: Any) -> str:
        reset_links.send_soon(partial(super().save, request, **kwargs))
        return str(self.cleaned_data["email"])


class ConfirmForm(ReauthenticateForm):
    """The password once more."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["password"].widget.attrs["autofocus"] = True


class _CodeMixin:
    """A code of an authenticator app, or a recovery code."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        code = self.fields["code"]  # type: ignore[attr-defined]
        code.widget.attrs |= {"inputmode": "numeric", "autofocus": True, "spellcheck": "false"}
        code.help_text = "Six digits from your app, or one of your recovery codes."

    def clean_code(self) -> str:
        check_attempt(context.request, self.user.get_username())  # type: ignore[attr-defined]
        code: str = super().clean_code()  # type: ignore[misc]
        return code


class PasskeyForm(AddWebAuthnForm):
    """A new passkey."""

    passwordless = forms.BooleanField(
        label="Sign in with it alone",
        required=False,
        initial=True,
        help_text="Without name and password; your device then asks for a fingerprint, a face or a PIN.",
    )


class CodeForm(_CodeMixin, AuthenticateForm):
    """The second step of a sign-in."""


class CodeAgainForm(_CodeMixin, CodeReauthenticateForm):
    """A code that confirms who sits there."""
