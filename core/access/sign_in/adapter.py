"""Our answers to what allauth asks."""

from typing import Any

import requests
from allauth.account.adapter import DefaultAccountAdapter
from allauth.core import context
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialLogin
from django.conf import settings
from django.db import transaction
from django.http import HttpRequest
from django.shortcuts import render
from django.urls import reverse

from core import secrets
from core.access.sign_in import identity_calls, invitations, recent
from core.access.sign_in.forms import check_attempt
from core.models import Invitation, User

WRONG = "That name and password do not belong together. Check both and try again."


class AccountAdapter(DefaultAccountAdapter):
    # One text, whatever was wrong and whoever exists.
    error_messages = {
        **DefaultAccountAdapter.error_messages,
        "username_password_mismatch": WRONG,
        "email_password_mismatch": WRONG,
        "incorrect_password": "That is not your password.",
    }

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Accounts are made by operators and by invitations."""
        return False

    def get_login_redirect_url(self, request: HttpRequest) -> str:
        if isinstance(request.user, User) and request.user.is_operator:
            return reverse("admin:index")
        return str(super().get_login_redirect_url(request))

    def get_signup_redirect_url(self, request: HttpRequest) -> str:
        return self.get_login_redirect_url(request)

    def get_password_change_redirect_url(self, request: HttpRequest) -> str:
        return reverse("account")

    def pre_authenticate(self, request: HttpRequest, **credentials: Any) -> None:
        check_attempt(request, credentials.get("username") or credentials.get("email") or "")

    def reauthenticate(self, user: Any, password: str) -> bool:
        check_attempt(context.request, user.get_username())
        return bool(user.check_password(password))

    def is_reauthentication_required(self, *, app: str, **_: Any) -> bool:
        return not recent.is_recent(context.request)


class SocialAdapter(DefaultSocialAccountAdapter):
    """People of an identity provider: known ones come in, new ones by invitation or from a domain of ours."""

    def get_requests_session(self) -> requests.Session:
        return identity_calls.session()

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        """Refuse a new identity with the email address of somebody who is here already.

        Joining them silently would let a provider, or whoever registers an address there, become that person. Who is
        signed in may connect the identity.
        """
        if sociallogin.is_existing or sociallogin.state.get("process") == "connect":
            return
        addresses = {address.email for address in sociallogin.email_addresses}
        if any(User.with_email(address) for address in addresses):
            page = render(request, "account/email_taken.html", {"provider": sociallogin.provider}, status=403)
            raise ImmediateHttpResponse(page)

    def is_open_for_signup(self, request: HttpRequest, sociallogin: SocialLogin) -> bool:
        if invitations.of_session(request) is not None:
            return True
        verified = (address.email for address in sociallogin.email_addresses if address.verified)
        return any(email.rpartition("@")[2].lower() in settings.OIDC_DOMAINS for email in verified)

    @transaction.atomic
    def save_user(self, request: HttpRequest, sociallogin: SocialLogin, form: Any = None) -> Any:
        """Make the account of somebody new. An address that the provider has not verified is nobody's."""
        verified = [address for address in sociallogin.email_addresses if address.verified]
        sociallogin.email_addresses = verified
        sociallogin.user.email = verified[0].email if verified else ""
        user = super().save_user(request, sociallogin, form)
        invitation = invitations.of_session(request)
        if invitation is None:
            invitations.apply_role(user, Invitation.Role.USER)
        else:
            invitations.accept(invitation, user)
        return user


class MfaAdapter(DefaultMFAAdapter):
    def generate_authenticator_name(self, user: Any, type: Authenticator.Type) -> str:  # noqa: A002 - allauth's name
        number = Authenticator.objects.filter(user=user, type=type).count() + 1
        return "Passkey" if number == 1 else f"Passkey {number}"

    def encrypt(self, text: str) -> str:
        return secrets.encrypt(text)

    def decrypt(self, encrypted_text: str) -> str:
        return secrets.decrypt(encrypted_text)
