"""The own account, its devices, and accepting an invitation."""

import uuid
from collections.abc import Callable
from functools import wraps
from typing import Any

from allauth.account.internal.flows.login import record_authentication
from allauth.account.utils import perform_login
from allauth.mfa.models import Authenticator
from allauth.socialaccount.adapter import get_adapter
from allauth.socialaccount.models import SocialAccount
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import IntegrityError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST

from core.access.sign_in import devices, invitations
from core.account.forms import AcceptForm
from core.models import Device, User

View = Callable[..., HttpResponse]


def only_with_email(view: View) -> View:
    """Let a page exist only where this installation can send email."""

    @wraps(view)
    def where_configured(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not settings.EMAIL_IS_CONFIGURED:
            raise Http404
        return view(request, *args, **kwargs)

    return where_configured


def _person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user


@never_cache
@login_required
def overview(request: HttpRequest) -> HttpResponse:
    """Show who one is, how one signs in, and where one is signed in."""
    person = _person(request)
    factors = Authenticator.objects.filter(user=person).exclude(type=Authenticator.Type.RECOVERY_CODES)
    context = {
        "devices": devices.of(person),
        "session_key": request.session.session_key,
        "factor_count": factors.count(),
        "needs_factor": settings.REQUIRE_SECOND_FACTOR and person.is_staff,
        "providers": get_adapter().list_providers(request),
        "connections": SocialAccount.objects.filter(user=person).count(),
    }
    return render(request, "account/overview.html", context)


@require_POST
@login_required
def sign_out_device(request: HttpRequest, device_id: uuid.UUID) -> HttpResponse:
    """End the session of one of the own devices."""
    if not devices.sign_out(Device.objects.filter(user=_person(request), pk=device_id)):
        raise Http404
    messages.success(request, "Signed out there.")
    return HttpResponseRedirect(reverse("account"))


@require_POST
@login_required
def sign_out_others(request: HttpRequest) -> HttpResponse:
    """End all own sessions except this one."""
    count = devices.sign_out_others(request, _person(request))
    messages.success(request, f"Signed out {count} other device{'' if count == 1 else 's'}.")
    return HttpResponseRedirect(reverse("account"))


@never_cache
def open_invitation(request: HttpRequest, token: str) -> HttpResponse:
    """Take the token out of the address bar, then show what it is good for."""
    invitation = invitations.find(token)
    if invitation is None:
        return _gone(request)
    invitations.remember(request, invitation)
    return HttpResponseRedirect(reverse("account_invitation"))


@never_cache
@sensitive_post_parameters("password1", "password2")
def accept_invitation(request: HttpRequest) -> HttpResponse:
    """Make the account that the opened invitation promises, and sign its person in."""
    invitation = invitations.of_session(request)
    if invitation is None:
        return _gone(request)
    form = AcceptForm(request.POST or None, invitation=invitation)
    if request.user.is_anonymous and form.is_valid():
        try:
            user = invitations.make_account(
                invitation, username=form.cleaned_data["username"], password=form.cleaned_data["password1"]
            )
        except invitations.InvitationGone:
            return _gone(request)
        except IntegrityError:  # somebody took the name or the email address a moment ago
            form.add_error(None, "Somebody else has this name or your email address. Choose another name.")
        else:
            record_authentication(request, user, method="password", username=user.username)
            response: HttpResponse = perform_login(request, user)
            return response
    context = {"form": form, "invitation": invitation, "providers": get_adapter().list_providers(request)}
    return render(request, "account/invitation.html", context)


def _gone(request: HttpRequest) -> HttpResponse:
    return render(request, "account/invitation_gone.html", status=invitations.InvitationGone.status)
