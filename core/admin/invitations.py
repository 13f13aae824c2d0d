"""Invitations: made here, their links shown once, revoked here."""

import logging
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.mail import send_mail
from django.db import transaction
from django.db.models import Field, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminEmailInputWidget, UnfoldAdminSelectWidget

from core.access.sign_in import invitations
from core.admin.base import ButtonsMixin, button, report
from core.formats import badge, moment
from core.models import Invitation, User

logger = logging.getLogger(__name__)

TONES = {
    Invitation.State.OPEN: "busy",
    Invitation.State.ACCEPTED: "good",
    Invitation.State.REVOKED: "neutral",
    Invitation.State.EXPIRED: "warning",
}


def _send(request: HttpRequest, invitation: Invitation, link: str) -> bool:
    """Mail the link; False, and a word to the operator, where the mail server does not take it."""
    text = render_to_string("account/email/invitation.txt", {"link": link, "invitation": invitation}, request)
    try:
        send_mail("Your invitation to SutazAI", text, None, [invitation.email])
    except OSError as error:  # those of smtplib are such
        logger.warning("An invitation could not be mailed: %s", error)
        messages.error(request, f"The mail could not be sent ({error}). Hand the link over yourself.")
        return False
    return True


class InvitationForm(forms.ModelForm):
    class Meta:
        model = Invitation
        fields = ("email", "role")
        widgets = {"email": UnfoldAdminEmailInputWidget, "role": UnfoldAdminSelectWidget}

    def clean_email(self) -> str:
        email: str = self.cleaned_data["email"].strip().lower()
        if email and User.with_email(email):
            raise forms.ValidationError("Somebody with this email address has an account already.")
        return email


@admin.register(Invitation)
class InvitationAdmin(ButtonsMixin):
    list_display = ("label", "state_badge", "role", "invited_by", "created", "expires", "used_by")
    list_filter = ("role",)
    search_fields = ("email", "invited_by__username", "used_by__username")
    list_select_related = ("invited_by", "used_by")
    empty_hint = "Nobody can make an account by themselves. An invitation is a link that makes one."

    form = InvitationForm
    change_form_outer_before_template = "console/buttons.html"

    actions = ("revoke_selected",)
    buttons = ("revoke",)
    dangerous = ("add", "revoke", "revoke_selected")

    def get_fields(self, request: HttpRequest, obj: Invitation | None = None) -> tuple[str, ...]:
        if obj is None:
            return ("email", "role")
        return ("state_badge", "email", "role", "invited_by", "created", "expires", "used_by", "used_at", "revoked_at")

    def get_readonly_fields(self, request: HttpRequest, obj: Invitation | None = None) -> tuple[str, ...]:
        return () if obj is None else self.get_fields(request, obj)

    def formfield_for_choice_field(self, db_field: Field, request: HttpRequest, **kwargs: Any) -> Any:
        """An operator's rights are handed out by superusers only, as everywhere."""
        if db_field.name == "role" and not request.user.is_superuser:
            kwargs["choices"] = [item for item in Invitation.Role.choices if item[0] != Invitation.Role.OPERATOR]
        return super().formfield_for_choice_field(db_field, request, **kwargs)

    def has_delete_permission(self, request: HttpRequest, obj: Invitation | None = None) -> bool:
        return False  # who invited whom stays known

    def save_model(self, request: HttpRequest, obj: Invitation, form: ModelForm, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
            return
        assert isinstance(request.user, User)
        made, obj.token = invitations.invite(email=obj.email, role=obj.role, by=request.user)  # type: ignore[attr-defined]
        obj.pk, obj.created_at, obj.expires_at = made.pk, made.created_at, made.expires_at

    def response_add(
        self, request: HttpRequest, obj: Invitation, post_url_continue: str | None = None
    ) -> HttpResponse:
        """Send the link, or show it here and now: a message or a redirect would put it into a cookie or a log."""
        link = request.build_absolute_uri(reverse("account_invitation_link", args=[obj.token]))  # type: ignore[attr-defined]
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "The invitation",
            "invitation": obj,
            "link": link,
        }
        if obj.email and settings.EMAIL_IS_CONFIGURED:
            # Sending takes seconds, so it waits for the commit. The page is drawn after that.
            transaction.on_commit(lambda: context.update(is_sent=_send(request, obj, link)))
        return TemplateResponse(request, "console/invitation_created.html", context)

    def offers(self, name: str, obj: Invitation) -> bool:
        return obj.state == Invitation.State.OPEN

    @button("Revoke", icon="link_off", permission="change", tone="danger", confirm="Its link stops working.")
    def revoke(self, request: HttpRequest, invitation: Invitation) -> None:
        if invitations.revoke(Invitation.objects.filter(pk=invitation.pk)):
            messages.success(request, "Revoked. The link does not work any more.")
        else:
            messages.warning(request, "The invitation could not be accepted any more; nothing changed.")

    @admin.action(description="Revoke selected invitations", permissions=["change"])
    def revoke_selected(self, request: HttpRequest, queryset: QuerySet[Invitation]) -> None:
        total, done = queryset.count(), invitations.revoke(Invitation.objects.filter(pk__in=queryset.values("pk")))
        report(
            request,
            done=done,
            verb="Revoked",
            noun="invitation",
            skipped=total - done,
            why_skipped="it could not be accepted any more.",
        )

    @admin.display(description="Invitation", ordering="email")
    def label(self, invitation: Invitation) -> str:
        return str(invitation)

    @admin.display(description="State")
    def state_badge(self, invitation: Invitation) -> SafeString:
        state = invitation.state
        return badge(state.label, TONES[state])

    @admin.display(description="Created", ordering="created_at")
    def created(self, invitation: Invitation) -> SafeString:
        return moment(invitation.created_at)

    @admin.display(description="Expires", ordering="expires_at")
    def expires(self, invitation: Invitation) -> str:
        return f"{invitation.expires_at:%Y-%m-%d %H:%M} UTC"
