"""Where people are signed in, for operators who must end it."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from core.access.sign_in import devices
from core.admin.base import ReadOnlyMixin, RecentSignInMixin, report
from core.formats import moment
from core.models import Device


@admin.register(Device)
class DeviceAdmin(RecentSignInMixin, ReadOnlyMixin):
    list_display = ("browser", "user", "address", "last_seen", "signed_in")
    list_display_links = None
    search_fields = ("user__username", "user__email", "address")
    list_select_related = ("user",)
    empty_hint = "Nobody is signed in with a browser."

    readonly_fields = ("user", "address", "user_agent", "signed_in_at", "last_seen_at")

    actions = ("sign_out_selected",)
    dangerous = ("sign_out_selected",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Device]:
        return devices.signed_in()

    @admin.action(description="Sign out selected devices", permissions=["change"])
    def sign_out_selected(self, request: HttpRequest, queryset: QuerySet[Device]) -> None:
        total = queryset.count()
        own = queryset.filter(session_key=request.session.session_key or "").count()
        done = devices.sign_out(queryset.exclude(session_key=request.session.session_key or ""))
        skipped = min(own, total - done)
        report(request, done=done, verb="Signed out", noun="device", skipped=skipped, why_skipped="it is this one.")

    @admin.display(description="Last seen", ordering="last_seen_at")
    def last_seen(self, device: Device) -> SafeString:
        return moment(device.last_seen_at)

    @admin.display(description="Signed in", ordering="signed_in_at")
    def signed_in(self, device: Device) -> SafeString:
        return moment(device.signed_in_at)
