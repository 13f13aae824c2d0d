"""Keys for programs: made here, shown once, revoked here."""

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import ForeignKey, QuerySet
from django.forms import ModelChoiceField, ModelForm
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminTextInputWidget

from core.access import api_keys
from core.admin.base import ButtonsMixin, button, report
from core.admin.limits import LimitsLinkMixin
from core.formats import badge, moment
from core.forms import NamesField, NewKeyMixin
from core.models import ApiKey, User, Verb

WRITTEN_ONCE = ("state", "user", "limited_to", "key_id", "created", "last_used", "expires_at", "revoked_at", "limits")
OVERLAP = timedelta(hours=24)


def _names(label: str) -> NamesField:
    """A field for names that the key is limited to."""
    return NamesField(
        label=label,
        widget=UnfoldAdminTextInputWidget,
        help_text="Names, with commas between; empty: all.",
        max_length=2_000,
        required=False,
    )


class KeyForm(NewKeyMixin, forms.ModelForm):
    """A key to make, and what it is limited to; what is left empty limits nothing."""

    verbs = forms.MultipleChoiceField(
        choices=Verb.choices,
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        label="May only",
        help_text="Nothing ticked: all that its person may, except to manage models.",
    )
    agent_names = _names("Agents")
    model_names = _names("Models")

    class Meta:
        model = ApiKey
        fields = ("user", "name", "verbs", "agent_names", "model_names", "expires_at")

    def scope(self) -> api_keys.Scope:
        chosen = self.cleaned_data
        verbs = [Verb(verb) for verb in chosen["verbs"]]
        return api_keys.Scope(verbs, chosen["agent_names"], chosen["model_names"], chosen.get("expires_at"))


@admin.register(ApiKey)
class ApiKeyAdmin(LimitsLinkMixin, ButtonsMixin):
    limits_of = "key"

    list_display = ("label", "state", "user", "limited_to", "last_used", "expires", "created")
    list_filter = (("revoked_at", admin.EmptyFieldListFilter),)
    search_fields = ("name", "key_id", "user__username")
    list_select_related = ("user",)

    empty_hint = "Programs sign in with keys. A new key is shown once, when it is made."

    form = KeyForm
    fields = KeyForm.Meta.fields
    change_form_outer_before_template = "console/buttons.html"

    actions = ("revoke_selected",)
    buttons = ("rotate", "revoke")
    dangerous = ("add", "rotate", "revoke", "revoke_selected")

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        return self.fields if obj is None else ("name", *WRITTEN_ONCE)

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        return () if obj is None else WRITTEN_ONCE

    def formfield_for_foreignkey(
        self, db_field: ForeignKey, request: HttpRequest, **kwargs: Any
    ) -> ModelChoiceField | None:
        """A key can do what its person can, so only superusers make keys for others."""
        people = User.objects.filter(is_active=True)
        if not request.user.is_superuser:
            people = people.filter(username=request.user.get_username())
        kwargs["queryset"] = people
        kwargs["initial"] = request.user.pk
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def has_delete_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return False  # a revoked key stays, so that its use can be told

    def save_model(self, request: HttpRequest, obj: ApiKey, form: ModelForm, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
            return
        key, obj.text = api_keys.issue(obj.user, obj.name, form.scope())  # type: ignore[attr-defined]
        obj.pk, obj.key_id = key.pk, key.key_id

    def response_add(self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None) -> HttpResponse:
        return self._shown_once(request, obj, obj.text)  # type: ignore[attr-defined]

    def _shown_once(self, request: HttpRequest, key: ApiKey, text: str) -> HttpResponse:
        """Show the key here and now: a message or a redirect would put it into a cookie or a log."""
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Your new API key",
            "key": key,
            "text": text,
        }
        return TemplateResponse(request, "console/api_key_created.html", context)

    def offers(self, name: str, obj: ApiKey) -> bool:
        return obj.works_at(timezone.now()) if name == "rotate" else obj.revoked_at is None

    def has_rotate_permission(self, request: HttpRequest, obj: ApiKey) -> bool:
        """Whoever rotates a key sees the new one, so others' keys are for administrators."""
        is_own = obj.user_id == request.user.pk
        return self.has_change_permission(request, obj) and (is_own or request.user.is_superuser)

    @button("Rotate", icon="autorenew", permission="rotate")
    def rotate(self, request: HttpRequest, key: ApiKey) -> HttpResponse:
        """Make a key that may do the same. The old one works for another day, so that programs can change over."""
        return self._shown_once(request, *api_keys.rotate(key, overlap=OVERLAP))

    @button(
        "Revoke",
        icon="key_off",
        permission="change",
        tone="danger",
        confirm="Programs that use this key stop working.",
    )
    def revoke(self, request: HttpRequest, key: ApiKey) -> None:
        if api_keys.revoke(ApiKey.objects.filter(pk=key.pk)):
            messages.success(request, "Revoked. The key does not work any more.")
        else:
            messages.warning(request, "The key was revoked already; nothing changed.")

    @admin.action(description="Revoke selected keys", permissions=["change"])
    def revoke_selected(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        total, done = queryset.count(), api_keys.revoke(queryset)
        skipped = total - done
        report(request, done=done, verb="Revoked", noun="key", skipped=skipped, why_skipped="revoked before.")

    @admin.display(description="Key", ordering="name")
    def label(self, key: ApiKey) -> str:
        return str(key)

    @admin.display(description="State")
    def state(self, key: ApiKey) -> SafeString:
        if key.revoked_at:
            return badge("Revoked", "neutral")
        if key.expires_at and key.expires_at <= timezone.now():
            return badge("Expired", "neutral")
        return badge("Active", "good") if key.user.is_active else badge("Owner inactive", "warning")

    @admin.display(description="May only")
    def limited_to(self, key: ApiKey) -> str:
        return ", ".join([*key.verbs, *key.agent_names, *key.model_names]) or "All that its person may"

    @admin.display(description="Expires", ordering="expires_at")
    def expires(self, key: ApiKey) -> str:
        return f"{key.expires_at:%Y-%m-%d %H:%M} UTC" if key.expires_at else "Never"

    @admin.display(description="Last used", ordering="last_used_at")
    def last_used(self, key: ApiKey) -> SafeString:
        return moment(key.last_used_at)

    @admin.display(description="Created", ordering="created_at")
    def created(self, key: ApiKey) -> SafeString:
        return moment(key.created_at)
