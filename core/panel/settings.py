"""A person's own settings: profile, keys, sign-ins by token, what to be told of."""

from datetime import timedelta
from uuid import UUID

from django.conf import settings as configuration
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from core import audit
from core.access import api_keys, tokens
from core.access.sign_in import recent
from core.models import ApiKey, TokenFamily
from core.notifications import preferences
from core.panel import limits
from core.panel.forms import KeyForm, ProfileForm
from core.panel.pages import page, person_of

OVERLAP = timedelta(hours=24)
KEYS_SHOWN = 100


@login_required
def settings(request: HttpRequest) -> HttpResponse:
    person = person_of(request)
    form = ProfileForm(request.POST or None, instance=person)
    if request.method == "POST" and form.is_valid():
        with transaction.atomic():
            before = audit.stored(person)
            form.save()
            audit.record("user.changed", target=person, before=before, after=person)
        messages.success(request, "Saved.")
        return _back()
    return _draw(request, profile=form)


@login_required
@require_POST
def make_key(request: HttpRequest) -> HttpResponse:
    """Make a key and show it here and now: a redirect would need it kept somewhere."""
    if away := recent.ask(request, back_to=reverse("panel-settings")):
        return away
    form = KeyForm(request.POST, person=person_of(request))
    if not form.is_valid():
        return _draw(request, key=form)
    key, text = api_keys.issue(person_of(request), form.cleaned_data["name"], form.scope())
    return _show_key(request, key, text)


@login_required
@require_POST
def rotate_key(request: HttpRequest, key_id: UUID) -> HttpResponse:
    key = get_object_or_404(_keys(request), pk=key_id)
    if away := recent.ask(request, back_to=reverse("panel-settings")):
        return away
    try:
        return _show_key(request, *api_keys.rotate(key, overlap=OVERLAP))
    except api_keys.KeyNotUsable as refusal:
        messages.error(request, refusal.detail)
        return _back()


@login_required
@require_POST
def revoke_key(request: HttpRequest, key_id: UUID) -> HttpResponse:
    key = get_object_or_404(_keys(request), pk=key_id)
    if api_keys.revoke(ApiKey.objects.filter(pk=key.pk)):
        messages.success(request, f"Revoked {key}. It does not work any more.")
    else:
        messages.warning(request, f"{key} was revoked already; nothing changed.")
    return _back()


@login_required
@require_POST
def end_sign_in(request: HttpRequest, family_id: UUID) -> HttpResponse:
    family = get_object_or_404(TokenFamily, pk=family_id, user=person_of(request))
    if tokens.end(family, "Ended by its person."):
        messages.success(request, "Signed out there.")
    else:
        messages.warning(request, "That sign-in had ended already; nothing changed.")
    return _back()


def _keys(request: HttpRequest) -> QuerySet[ApiKey]:
    return ApiKey.objects.filter(user=person_of(request))


def _draw(request: HttpRequest, *, profile: ProfileForm | None = None, key: KeyForm | None = None) -> HttpResponse:
    person, now = person_of(request), timezone.now()
    keys = list(_keys(request).select_related("user").order_by("-pk")[:KEYS_SHOWN])
    of_keys = limits.of_keys(keys)
    families = TokenFamily.objects.filter(user=person, revoked_at=None, expires_at__gt=now).select_related("user")
    return page(
        request,
        "settings",
        name="settings",
        title="Settings",
        profile_form=profile or ProfileForm(instance=person),
        key_form=key or KeyForm(person=person),
        keys=[(item, item.works_at(now), of_keys[item.pk]) for item in keys],
        preferences=preferences.of(person),
        email_is_available=configuration.EMAIL_IS_CONFIGURED,
        families=[family for family in families if tokens.is_alive(family, now)],
    )


def _show_key(request: HttpRequest, key: ApiKey, text: str) -> HttpResponse:
    return page(request, "key_created", name="settings", title="Your new API key", key=key, text=text)


def _back() -> HttpResponseRedirect:
    return HttpResponseRedirect(reverse("panel-settings"))
