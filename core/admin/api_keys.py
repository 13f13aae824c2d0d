"""Keys for programs: made here, shown once, revoked here."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import ForeignKey, QuerySet
from django.forms import ModelChoiceField, ModelForm
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.safestring import SafeString

from core.access import api_keys
from core.admin.base import ButtonsMixin, button, report
from core.formats import badge, moment
from core.models import ApiKey, User


@admin.register(ApiKey)
class ApiKeyAdmin(ButtonsMixin):
    list_display = ("label", "state", "user", "last_used", "created")
    list_filter = (("revoked_at", admin.EmptyFieldListFilter),)
    search_fields = ("name", "key_id", "user__username")
    list_select_related = ("user",)

    empty_hint = "Programs sign in with keys. A new key is shown once, when it is made."

    fields = ("user", "name")
    change_form_outer_before_template = "console/buttons.html"

    actions = ("revoke_selected",)
    buttons = ("revoke",)

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        return (
            self.fields if obj is None else ("state", "user", "name", "key_id", "created", "last_used", "revoked_at")
        )

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        return () if obj is None else ("state", "user", "key_id", "created", "last_used", "revoked_at")

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
        key, obj.text = api_keys.issue(obj.user, obj.name)  # type: ignore[attr-defined]
        obj.pk, obj.key_id = key.pk, key.key_id

    def response_add(self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None) -> HttpResponse:
        """Show the key here and now: a message or a redirect would put it into a cookie or a log."""
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Your new API key",
            "key": obj,
            "text": obj.text,  # type: ignore[attr-defined]
        }
        return TemplateResponse(request, "console/api_key_created.html", context)

    def offers(self, name: str, obj: ApiKey) -> bool:
        return obj.revoked_at is None

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
        return badge("Active", "good") if key.user.is_active else badge("Owner inactive", "warning")

    @admin.display(description="Last used", ordering="last_used_at")
    def last_used(self, key: ApiKey) -> SafeString:
        return moment(key.last_used_at)

    @admin.display(description="Created", ordering="created_at")
    def created(self, key: ApiKey) -> SafeString:
        return moment(key.created_at)
