"""The console's own sign-in address, which leads to the one that everybody uses."""

from urllib.parse import urlencode

from django.contrib.auth import REDIRECT_FIELD_NAME
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme

from core.models import User


def sign_in(request: HttpRequest) -> HttpResponse:
    """Lead to the sign-in page, or back if that has happened; tell people who may not come in that they may not."""
    back_to = request.GET.get(REDIRECT_FIELD_NAME, "")
    if not url_has_allowed_host_and_scheme(back_to, {request.get_host()}, require_https=request.is_secure()):
        back_to = reverse("admin:index")
    if not isinstance(request.user, User):
        return HttpResponseRedirect(f"{reverse('account_login')}?{urlencode({REDIRECT_FIELD_NAME: back_to})}")
    if request.user.is_operator:
        return HttpResponseRedirect(back_to)
    return render(request, "account/not_for_you.html", {"back_to": back_to}, status=403)
