"""What the console's pages have in common: reports of actions, buttons on an object's page, read-only history."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from unfold.paginator import InfinitePaginator

from core.access.sign_in import recent
from core.admin.audited import AuditedAdmin
from core.exceptions import Refused


def report(request: HttpRequest, *, done: int, verb: str, noun: str, skipped: int = 0, why_skipped: str = "") -> None:
    """Tell what an action on selected rows changed and what it skipped."""
    if done:
        messages.success(request, f"{verb} {done} {noun}{'' if done == 1 else 's'}.")
    if skipped:
        messages.warning(request, f"Skipped {skipped} {noun}{'' if skipped == 1 else 's'}: {why_skipped}")
    if not done and not skipped:
        messages.info(request, "Nothing was selected that could change.")


@dataclass(frozen=True)
class Button:
    """A button on an object's page. permission: asked as `has_<permission>_permission`. tone: primary or danger."""

    name: str
    label: str
    icon: str
    permission: str
    tone: str = ""
    confirm: str = ""

    @property
    def path(self) -> str:
        return self.name.replace("_", "-")


def button(
    label: str, *, icon: str, permission: str, tone: str = "", confirm: str = ""
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a method `(self, request, obj) -> HttpResponse | None` the work of a button on the object's page.

    The method reports by messages; None leads back to the object's page. `Refused` is reported as an error.
    """

    def decorate(method: Callable[..., Any]) -> Callable[..., Any]:
        method.button = Button(method.__name__, label, icon, permission, tone, confirm)  # type: ignore[attr-defined]
        return method

    return decorate


@dataclass(frozen=True)
class State:
    """What a page says of everything on it together, before it lists it. tone: "good", "bad" or "warning"."""

    tone: str
    title: str
    detail: str
    since: datetime | None = None


class RecentSignInMixin(AuditedAdmin):
    """Asks for a recent sign-in before what is dangerous.

    `dangerous` names it: "add", "change", "delete" (one row or many), and actions and buttons by their own names.
    """

    dangerous: tuple[str, ...] = ()

    def ask_for_sign_in(self, request: HttpRequest, name: str, back_to: str = "") -> HttpResponse | None:
        """Lead away if `name` is dangerous and the sign-in is old; None lets it happen."""
        return recent.ask(request, back_to=back_to or request.get_full_path()) if name in self.dangerous else None

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        name = "add" if object_id is None else "change"
        return self.ask_for_sign_in(request, name) or super().changeform_view(
            request, object_id, form_url, extra_context
        )

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None) -> Any:
        return self.ask_for_sign_in(request, "delete") or super().delete_view(request, object_id, extra_context)

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        # A form may hold several actions and say by a number which one it means; so any of them counts.
        names = {"delete" if name == "delete_selected" else name for name in request.POST.getlist("action")}
        asked = next((name for name in names if name in self.dangerous), "")
        return self.ask_for_sign_in(request, asked) or super().response_action(request, queryset)


class ButtonsMixin(RecentSignInMixin):
    """Adds buttons that change something, by POST, to an object's page. Their names stand in `buttons`."""

    buttons: tuple[str, ...] = ()

    def get_urls(self) -> list[URLPattern]:
        urls = [
            path(
                f"<path:object_id>/{getattr(self, name).button.path}/",
                self.admin_site.admin_view(self._press),
                {"name": name},
                name=f"{self.opts.app_label}_{self.opts.model_name}_{name}",
            )
            for name in self.buttons
        ]
        return urls + super().get_urls()

    def _press(self, request: HttpRequest, object_id: str, name: str) -> HttpResponse:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        obj = self.get_object(request, object_id)
        if obj is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        if not self._may_press(request, getattr(self, name).button, obj):
            raise PermissionDenied
        page = reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_change", args=[obj.pk])
        if away := self.ask_for_sign_in(request, name, page):
            return away
        try:
            response = self.audited(getattr(self, name), [obj], request, obj)
        except Refused as refusal:
            messages.error(request, refusal.detail)
            response = None
        return response or HttpResponseRedirect(page)

    def _may_press(self, request: HttpRequest, asked: Button, obj: Model) -> bool:
        return bool(getattr(self, f"has_{asked.permission}_permission")(request, obj))

    def offered_buttons(self, request: HttpRequest, obj: Model) -> list[Button]:
        """The buttons that this person may press now; `offers` says which make sense for the object."""
        known: Iterable[Button] = (getattr(self, name).button for name in self.buttons)
        return [item for item in known if self.offers(item.name, obj) and self._may_press(request, item, obj)]

    def offers(self, name: str, obj: Any) -> bool:
        return True

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        context = dict(extra_context or {})
        if object_id is not None and request.method == "GET" and (obj := self.get_object(request, object_id)):
            context |= {"buttons": self.offered_buttons(request, obj), **self.page_context(request, obj)}
        return super().changeform_view(request, object_id, form_url, context)

    def page_context(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        """What the object's page shows besides its form."""
        return {}


class ReadOnlyMixin(AuditedAdmin):
    """For history: it may be read, never written by hand."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class VastListMixin(AuditedAdmin):
    """For tables with hundreds of thousands of rows: nothing is counted, pages go on until one is not full."""

    paginator = InfinitePaginator
    show_full_result_count = False
    list_disable_select_all = True
    list_per_page = 25
