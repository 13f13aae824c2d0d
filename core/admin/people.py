"""People, the groups that carry their permissions, and their teams."""

from http import HTTPStatus
from typing import Any

from allauth.account.admin import EmailAddress
from allauth.mfa.admin import Authenticator
from allauth.socialaccount.admin import SocialAccount, SocialApp, SocialToken
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import Count, ManyToManyField, QuerySet
from django.forms import ModelForm, ModelMultipleChoiceField
from django.http import HttpRequest, HttpResponse
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from core.access import roles
from core.access.sign_in import devices
from core.admin.audited import AuditedAdmin
from core.admin.base import RecentSignInMixin, report
from core.admin.limits import LimitsLinkMixin
from core.models import Device, Role, Team, User

# allauth's own pages would let whoever may edit rows join an identity to anybody, or take a second factor away.
for _model in (Group, EmailAddress, Authenticator, SocialAccount, SocialApp, SocialToken):
    admin.site.unregister(_model)


@admin.register(User)
class UserAdmin(LimitsLinkMixin, RecentSignInMixin, DjangoUserAdmin):  # type: ignore[misc]  # unfold has no types
    limits_of = "user"

    list_display = ("username", "email", "team", "role", "is_active", "last_login")
    list_filter = ("role", "is_active", "team")
    search_fields = ("username", "email", "first_name", "last_name")
    list_select_related = ("team",)
    ordering = ("username",)
    empty_hint = "Add a person with a role, then hand them a key or their password."
    dangerous = ("add", "change", "delete", "password", "forget_second_factors")
    actions = ("forget_second_factors",)

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    fieldsets = (
        (None, {"fields": ("username", "password", "team")}),
        ("Person", {"fields": ("first_name", "last_name", "email")}),
        (
            "Rights",
            {
                "fields": ("role", "is_active", "groups"),
                "description": "Viewers read what is theirs. Users give work to agents. Operators use this console "
                "and see everybody's work. Administrators also decide who may do what. Groups add to that.",
            },
        ),
        ("Limits", {"fields": ("limits",)}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )
    add_fieldsets = (
        (None, {"classes": ("wide",), "fields": ("username", "email", "team", "role", "password1", "password2")}),
    )
    readonly_fields = ("last_login", "date_joined", "limits")

    @admin.action(description="Forget second factors (lost phone or key)", permissions=["change"])
    def forget_second_factors(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Let people who lost theirs set up another; whoever is signed in as them is signed out."""
        people = list(queryset if request.user.is_superuser else queryset.filter(is_superuser=False))
        done = [person for person in people if Authenticator.objects.filter(user=person).delete()[0]]
        devices.sign_out(Device.objects.filter(user__in=done))
        skipped = queryset.count() - len(done)
        why = "they have none, or are administrators."
        report(request, done=len(done), verb="Reset", noun="person", skipped=skipped, why_skipped=why)

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:  # noqa: A002
        """Set a password; whoever used the old one is signed out everywhere."""
        if away := self.ask_for_sign_in(request, "password"):
            return away
        if request.method != "POST":
            return super().user_change_password(request, id, form_url)
        with transaction.atomic():  # Django's page alone would change it and tell of it in two
            if person := self.get_object(request, unquote(id)):
                self.remember(request, person)
            response: HttpResponse = super().user_change_password(request, id, form_url)
            if response.status_code == HTTPStatus.FOUND:
                own_key = request.session.session_key or ""  # under a new name, if it was the own password
                devices.sign_out(Device.objects.filter(user_id=id).exclude(session_key=own_key))
        return response

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> tuple[str, ...]:
        """Only administrators hand out rights: whoever may edit people could otherwise give themselves all."""
        return self.readonly_fields if request.user.is_superuser else (*self.readonly_fields, "role", "groups")

    def formfield_for_manytomany(
        self, db_field: ManyToManyField, request: HttpRequest, **kwargs: Any
    ) -> ModelMultipleChoiceField | None:
        if db_field.name == "groups":  # those of the roles follow the role
            kwargs["queryset"] = Group.objects.exclude(name__in=Role.values)
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def save_related(self, request: HttpRequest, form: ModelForm, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        roles.join_group(form.instance)

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """An administrator is changed by administrators only: a new password would be a way to become one."""
        is_above = obj is not None and obj.is_superuser and not request.user.is_superuser
        return super().has_change_permission(request, obj) and not is_above

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        is_above = obj is not None and obj.is_superuser and not request.user.is_superuser
        return super().has_delete_permission(request, obj) and not is_above


@admin.register(Group)
class GroupAdmin(RecentSignInMixin, DjangoGroupAdmin):  # type: ignore[misc]  # unfold has no types
    dangerous = ("add", "change", "delete")
    empty_hint = "A group is a set of permissions under a name. Make one, then add people to it."

    def has_change_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        """The groups of the roles are made from a table in the code, at each migration."""
        return super().has_change_permission(request, obj) and (obj is None or obj.name not in Role.values)

    def has_delete_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return super().has_delete_permission(request, obj) and (obj is None or obj.name not in Role.values)


@admin.register(Team)
class TeamAdmin(LimitsLinkMixin, AuditedAdmin):
    limits_of = "team"

    list_display = ("name", "slug", "member_count", "created_at")
    search_fields = ("name", "slug")
    empty_hint = "A team shares its agents. Add one, then move people to it."

    fields = ("name", "slug", "limits")
    readonly_fields = ("limits",)
    prepopulated_fields = {"slug": ("name",)}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Team]:
        return super().get_queryset(request).annotate(member_total=Count("members"))

    @admin.display(description="Members", ordering="member_total")
    def member_count(self, team: Team) -> int:
        return team.member_total  # type: ignore[attr-defined]
