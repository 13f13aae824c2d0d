"""Webhooks: which other programs are told of what, whether they take it, since when not, and what was sent."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Count, F, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AllValuesCheckboxFilter, ChoicesCheckboxFilter
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminTextInputWidget

from core.admin import breakers, dashboard
from core.admin.audited import outside_transaction
from core.admin.base import ButtonsMixin, ReadOnlyMixin, VastListMixin, button, report
from core.admin.dashboard import Panel, Problem
from core.exceptions import InvalidInput
from core.formats import NOTHING, badge, moment
from core.models import CircuitBreaker, Webhook, WebhookDelivery
from core.net.calls import checked_request
from core.net.errors import BreakerOpen
from core.notifications.events import find, for_webhooks
from core.notifications.webhooks import calls, contents, sending, signatures, targets

Status = WebhookDelivery.Status

TONES = {Status.QUEUED: "busy", Status.DELIVERED: "good", Status.FAILED: "bad"}
LATEST = 20

breakers.pages[CircuitBreaker.Kind.WEBHOOK] = lambda breaker: _page(breaker.webhook)


def state_badge(webhook: Webhook) -> SafeString:
    if not webhook.is_active:
        return badge("Switched off")
    if webhook.failing_since is not None:
        return badge("Failing", "bad")
    if webhook.breaker.is_shut:
        return breakers.state_badge(webhook.breaker)
    return badge("Works", "good") if webhook.delivered_at else badge("Not tried", "warning")


def event_label(name: str) -> str:
    event = find(name)
    return event.label if event else name.capitalize()


def _page(webhook: Webhook) -> str:
    return reverse("admin:core_webhook_change", args=[webhook.pk])


class WebhookForm(forms.ModelForm):
    url = forms.CharField(
        label="Address",
        max_length=targets.MAX_ADDRESS_CHARACTERS,
        widget=UnfoldAdminTextInputWidget(
            attrs={"placeholder": "https://hooks.example/T0/B0", "spellcheck": "false", "autocomplete": "off"}
        ),
        help_text="Where to send. It is stored encrypted: whoever knows such an address can often write there.",
    )
    events = forms.MultipleChoiceField(
        label="Tell it of",
        choices=lambda: [(event.name, event.label) for event in for_webhooks()],
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
    )

    class Meta:
        model = Webhook
        fields = ("name", "url", "format", "events")

    def clean_url(self) -> str:
        try:
            return targets.read_address(self.cleaned_data["url"])
        except InvalidInput as refusal:
            raise forms.ValidationError(refusal.errors["url"]) from refusal


@admin.register(Webhook)
class WebhookAdmin(ButtonsMixin):
    list_display = ("name", "state", "since_when", "reason", "waiting", "told_of", "host", "last_taken", "made_by")
    list_filter = ("is_active", ("format", ChoicesCheckboxFilter))
    list_filter_submit = True
    list_before_template = "console/webhooks_head.html"
    search_fields = ("name", "made_by")
    list_select_related = ("breaker",)
    empty_hint = (
        "A webhook tells another program, such as Slack or Home Assistant, when an alert fires or a backup fails."
    )
    # What fails first, and what is switched off last.
    ordering = ("-is_active", F("failing_since").asc(nulls_last=True), "name")

    form = WebhookForm
    fields = WebhookForm.Meta.fields
    change_form_outer_before_template = "console/webhook.html"

    buttons = ("send_test", "switch_on", "new_secret", "switch_off")
    dangerous = ("add", "new_secret")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Webhook]:
        queued = WebhookDelivery.objects.filter(webhook=OuterRef("pk"), next_try_at__isnull=False).order_by()
        count = queued.values("webhook").annotate(total=Count("pk")).values("total")
        return super().get_queryset(request).annotate(waiting_total=Coalesce(Subquery(count), 0))

    def has_delete_permission(self, request: HttpRequest, obj: Webhook | None = None) -> bool:
        """Only one that is switched off: nobody is about to tell it anything then."""
        return super().has_delete_permission(request, obj) and (obj is None or not obj.is_active)

    def get_deleted_objects(self, objs: Sequence[Webhook], request: HttpRequest) -> Any:
        """What was sent goes with a webhook. It may be much, so it is counted; nobody deletes it alone."""
        sent = WebhookDelivery.objects.filter(webhook__in=objs).count()
        return [str(webhook) for webhook in objs], {"webhooks": len(objs), "deliveries": sent}, set(), []

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)  # it would not look at which are switched off
        return actions

    def save_model(self, request: HttpRequest, obj: Webhook, form: ModelForm, change: bool) -> None:
        if change:
            obj.save(update_fields=form.changed_data)  # meanwhile somebody may write down how it does
            return
        obj.secret = signatures.new_secret()
        obj.made_by = request.user.get_username()
        super().save_model(request, obj, form, change)

    def response_add(self, request: HttpRequest, obj: Webhook, post_url_continue: str | None = None) -> HttpResponse:
        return self._shown_once(request, obj, obj.secret)

    def _shown_once(self, request: HttpRequest, webhook: Webhook, secret: str) -> HttpResponse:
        """Show the secret here and now: a message or a redirect would put it into a cookie or a log."""
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "The secret of the webhook",
            "webhook": webhook,
            "secret": secret,
            "page_url": _page(webhook),
        }
        return TemplateResponse(request, "console/webhook_secret.html", context)

    def page_context(self, request: HttpRequest, obj: Webhook) -> dict[str, Any]:
        return {
            "webhook": obj,
            "state_badge": state_badge(obj),
            "told_of": self.told_of(obj),
            "breaker_badge": breakers.state_badge(obj.breaker),
            "both_until": obj.replaced_at and obj.replaced_at + calls.OVERLAP,
            "deliveries": [(item, _delivery_badge(item)) for item in obj.deliveries.all()[:LATEST]],
        }

    # Buttons

    def offers(self, name: str, obj: Webhook) -> bool:
        return {"switch_on": not obj.is_active, "switch_off": obj.is_active}.get(name, True)

    @button("Send a test", icon="send", permission="change", tone="primary")
    @outside_transaction
    def send_test(self, request: HttpRequest, webhook: Webhook) -> None:
        _tell_how_it_went(request, targets.send_test(webhook))

    @button(
        "Give it a new secret",
        icon="autorenew",
        permission="change",
        confirm="The old secret signs beside the new one for a day; then receivers need the new one.",
    )
    def new_secret(self, request: HttpRequest, webhook: Webhook) -> HttpResponse:
        return self._shown_once(request, webhook, targets.renew_secret(webhook))

    @button("Switch on", icon="toggle_on", permission="change", tone="primary")
    def switch_on(self, request: HttpRequest, webhook: Webhook) -> None:
        if Webhook.objects.filter(pk=webhook.pk, is_active=False).update(is_active=True):
            sending.announce([webhook.pk])
            messages.success(request, "Switched on. What waits for it is sent now.")

    @button(
        "Switch off", icon="toggle_off", permission="change", tone="danger", confirm="It is told nothing any more."
    )
    def switch_off(self, request: HttpRequest, webhook: Webhook) -> None:
        if Webhook.objects.filter(pk=webhook.pk, is_active=True).update(is_active=False):
            messages.success(request, "Switched off. Now it can be deleted, too.")

    # Columns

    @admin.display(description="State", ordering="failing_since")
    def state(self, webhook: Webhook) -> SafeString:
        return state_badge(webhook)

    @admin.display(description="Since", ordering="failing_since")
    def since_when(self, webhook: Webhook) -> SafeString:
        return moment(webhook.failing_since)

    @admin.display(description="Why")
    def reason(self, webhook: Webhook) -> str:
        return webhook.last_error or NOTHING

    @admin.display(description="Waiting", ordering="waiting_total")
    def waiting(self, webhook: Webhook) -> int:
        return webhook.waiting_total  # type: ignore[attr-defined]  # by `get_queryset`

    @admin.display(description="Told of")
    def told_of(self, webhook: Webhook) -> str:
        return ", ".join(map(event_label, webhook.events))

    @admin.display(description="Where")
    def host(self, webhook: Webhook) -> str:
        """Without its path, which may let in whoever knows it."""
        _, target = checked_request("POST", webhook.url)
        return target.host

    @admin.display(description="Last taken", ordering="delivered_at")
    def last_taken(self, webhook: Webhook) -> SafeString:
        return moment(webhook.delivered_at)


def _delivery_badge(delivery: WebhookDelivery) -> SafeString:
    return badge(delivery.get_status_display(), TONES[Status(delivery.status)])


def _tell_how_it_went(request: HttpRequest, delivery: WebhookDelivery) -> None:
    name = delivery.webhook.name
    if delivery.status == Status.DELIVERED:
        messages.success(request, f"{name} took it: it answered {delivery.last_status}.")
    else:
        messages.error(request, f"{name} did not take it. {delivery.last_error}")


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(ReadOnlyMixin, VastListMixin, ButtonsMixin):
    list_display = ("title", "webhook", "state", "made", "attempts", "last_status", "last_error", "next_try")
    list_filter = (
        ("status", ChoicesCheckboxFilter),
        ("event", AllValuesCheckboxFilter),
        ("webhook__name", AllValuesCheckboxFilter),
    )
    list_filter_submit = True
    search_fields = ("title", "last_error")
    list_select_related = ("webhook",)
    empty_hint = "Nothing was sent to a webhook so far. “Send a test” on the page of one sends something."
    ordering = ("-pk",)

    fieldsets = (
        (None, {"fields": ("state", "receiver", "what", "made", "key")}),
        ("Tries", {"fields": ("attempts", "tried", "last_status", "last_error", "next_try", "gives_up")}),
        ("What is sent", {"fields": ("body",)}),
    )
    readonly_fields = ("state", "receiver", "what", "made", "key", "tried", "next_try", "gives_up", "body")
    change_form_outer_before_template = "console/buttons.html"

    actions = ("send_selected_again",)
    buttons = ("send_again",)

    def has_change_permission(self, request: HttpRequest, obj: WebhookDelivery | None = None) -> bool:
        return False

    def has_send_permission(self, request: HttpRequest, obj: WebhookDelivery | None = None) -> bool:
        """Who may change webhooks may send to them."""
        return request.user.has_perm("core.change_webhook")

    def offers(self, name: str, obj: WebhookDelivery) -> bool:
        return obj.status != Status.DELIVERED

    @button("Try again", icon="send", permission="send", tone="primary")
    @outside_transaction
    def send_again(self, request: HttpRequest, delivery: WebhookDelivery) -> None:
        if not sending.queue_again([delivery.pk]):
            messages.info(request, "It was delivered already; nothing was sent.")
            return
        queued = WebhookDelivery.objects.select_related("webhook__breaker").get(pk=delivery.pk)
        try:
            sending.send(queued)
        except BreakerOpen as error:
            messages.warning(request, f"It waits, and is sent as soon as the webhook works again: {error}.")
            return
        queued.refresh_from_db()
        _tell_how_it_went(request, queued)

    @admin.action(description="Try selected deliveries again", permissions=["send"])
    def send_selected_again(self, request: HttpRequest, queryset: QuerySet[WebhookDelivery]) -> None:
        chosen = dict(queryset.values_list("pk", "webhook"))
        done = sending.queue_again(list(chosen))
        sending.announce(sorted(set(chosen.values())))
        skipped = len(chosen) - done
        report(
            request,
            done=done,
            verb="Queued",
            noun="delivery",
            skipped=skipped,
            why_skipped="it was delivered already.",
        )

    # Columns and fields

    @admin.display(description="State", ordering="status")
    def state(self, delivery: WebhookDelivery) -> SafeString:
        return _delivery_badge(delivery)

    @admin.display(description="Made")
    def made(self, delivery: WebhookDelivery) -> SafeString:
        return moment(delivery.created_at)

    @admin.display(description="Next try")
    def next_try(self, delivery: WebhookDelivery) -> str:
        return _exactly(delivery.next_try_at)

    @admin.display(description="Last try")
    def tried(self, delivery: WebhookDelivery) -> str:
        return _exactly(delivery.tried_at)

    @admin.display(description="Given up after")
    def gives_up(self, delivery: WebhookDelivery) -> str:
        return _exactly(delivery.give_up_at)

    @admin.display(description="Event")
    def what(self, delivery: WebhookDelivery) -> str:
        return event_label(delivery.event)

    @admin.display(description="Webhook")
    def receiver(self, delivery: WebhookDelivery) -> SafeString:
        return format_html('<a class="c-link" href="{}">{}</a>', _page(delivery.webhook), delivery.webhook.name)

    @admin.display(description="Its id")
    def key(self, delivery: WebhookDelivery) -> SafeString:
        return format_html('<span class="c-mono">{}</span>', delivery.pk)

    @admin.display(description="Body")
    def body(self, delivery: WebhookDelivery) -> SafeString:
        """As it is made now, in the format that the webhook has now."""
        content = contents.content_of(delivery, Webhook.Format(delivery.webhook.format))
        return format_html('<pre class="c-text c-code">{}</pre>', content.body.decode())


def _exactly(value: Any) -> str:
    return f"{value:%Y-%m-%d %H:%M:%S} UTC" if value else NOTHING


# The dashboard ------------------------------------------------------------------------------------------------------


def panel() -> Panel:
    """What the dashboard says of webhooks that do not take what they are sent."""
    failing = Webhook.objects.filter(is_active=True, failing_since__isnull=False).order_by("failing_since")
    return Panel(problems=[_problem(webhook) for webhook in failing.only("name", "failing_since", "last_error")])


def _problem(webhook: Webhook) -> Problem:
    return Problem(
        "warning",
        f"The webhook {webhook.name} does not take what it is sent",
        webhook.last_error,
        since=webhook.failing_since,
        url=_page(webhook),
        action="Open the webhook",
    )


dashboard.register("webhooks", panel, permission="core.view_webhook", position=35)
