"""What a person was told, the bell that counts what is unread, and the choice of what to be told of."""

from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from core.models import Notification
from core.notifications import events, inbox, preferences
from core.panel.forms import NotificationsForm
from core.panel.pages import page, person_of

SHOWN = 50


@login_required
def notifications(request: HttpRequest) -> HttpResponse:
    """Show what one was told, a page at a time: `before` is the key of the row that the page comes after."""
    person = person_of(request)
    only_unread = "unread" in request.GET
    rows = inbox.unread(person) if only_unread else inbox.of(person)
    if before := _key(request.GET.get("before", "")):
        rows = rows.filter(pk__lt=before)
    found = list(rows.order_by("-pk")[: SHOWN + 1])
    return page(
        request,
        "notifications",
        name="notifications",
        title="Notifications",
        notifications=found[:SHOWN],
        older=found[SHOWN - 1].pk if len(found) > SHOWN else None,
        only_unread=only_unread,
        unread=inbox.unread(person).count(),
        events=[event.label for event in events.for_role(person.role)],
    )


@never_cache
@login_required
def unread(request: HttpRequest) -> JsonResponse:
    """Tell a bell that is looked at how much is unread."""
    return JsonResponse({"unread": inbox.unread(person_of(request)).count()})


@login_required
@require_POST
def open_notification(request: HttpRequest, notification_id: UUID) -> HttpResponse:
    """Mark a notification as read and lead to what it is about."""
    notification = _own(request, notification_id)
    inbox.mark_read(notification)
    return HttpResponseRedirect(notification.link)


@login_required
@require_POST
def read(request: HttpRequest, notification_id: UUID) -> HttpResponse:
    inbox.mark_read(_own(request, notification_id))
    return _back()


@login_required
@require_POST
def read_all(request: HttpRequest) -> HttpResponse:
    inbox.mark_all_read(person_of(request))
    return _back()


@login_required
@require_POST
def change_preferences(request: HttpRequest) -> HttpResponse:
    person = person_of(request)
    form = NotificationsForm(request.POST, preferences=preferences.of(person))
    if form.is_valid():
        preferences.change(person, form.wanted())
        messages.success(request, "Saved.")
    else:
        messages.error(request, "Nothing was saved: the form named something that nobody tells you of.")
    return HttpResponseRedirect(f"{reverse('panel-settings')}#notifications")


def _own(request: HttpRequest, notification_id: UUID) -> Notification:
    return get_object_or_404(inbox.of(person_of(request)), pk=notification_id)


def _key(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _back() -> HttpResponseRedirect:
    return HttpResponseRedirect(reverse("panel-notifications"))
