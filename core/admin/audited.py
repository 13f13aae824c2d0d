"""The one place where the console tells the audit log of what people do in it."""

import functools
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

from django.contrib.admin.models import LogEntry
from django.db import transaction
from django.db.models import Model, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from unfold.admin import ModelAdmin

from core import audit

BEFORE = "_audit_before"

MethodT = TypeVar("MethodT", bound=Callable[..., Any])


def outside_transaction(method: MethodT) -> MethodT:
    """Mark a button or action that talks to other machines: it runs without a transaction, and its row comes after."""
    method.outside_transaction = True  # type: ignore[attr-defined]
    return method


class AuditedAdmin(ModelAdmin):
    """Writes additions, changes, deletions, presses of buttons and actions into the audit log, in their transactions.

    Where a service that was called has told of an object, nothing is added.
    """

    # Forms: Django calls `log_…` in the transaction of the change.

    def save_form(self, request: HttpRequest, form: ModelForm, change: bool) -> Any:
        if change:
            self.remember(request, form.instance)
        return super().save_form(request, form, change)

    def remember(self, request: HttpRequest, obj: Model) -> None:
        """Keep what the database holds of an object, for `log_change` to compare with. For views of one's own."""
        if before := audit.stored(obj):
            vars(request).setdefault(BEFORE, {})[obj.pk] = audit.snapshot(before)

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> LogEntry:
        entry: LogEntry = super().log_addition(request, obj, message)
        _tell("added", audit.Subject.of(obj), audit.diff(None, audit.stored(obj)), detail=entry.get_change_message())
        return entry

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> LogEntry:
        entry: LogEntry = super().log_change(request, obj, message)
        before = vars(request).get(BEFORE, {}).pop(obj.pk, None)
        changes = audit.diff(before, audit.stored(obj)) if before is not None else {}
        is_void = not changes and not isinstance(message, str)  # a form that was saved as it was
        if not is_void:
            _tell("changed", audit.Subject.of(obj), changes, detail=entry.get_change_message())
        return entry

    def log_deletions(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[LogEntry]:
        for obj in queryset:
            _tell("deleted", audit.Subject.of(obj), audit.diff(obj, None))
        return super().log_deletions(request, queryset)

    # Buttons and actions

    def audited(self, method: Callable[..., Any], objects: Sequence[Model], *arguments: Any) -> HttpResponse | None:
        """Call the method of a button or action; write a row for each object in the transaction of the changes."""
        before = [(obj, audit.Subject.of(obj), audit.snapshot(obj)) for obj in objects]
        with nullcontext() if hasattr(method, "outside_transaction") else transaction.atomic():
            response: HttpResponse | None = method(*arguments)
            if response is None or response.status_code != 200:  # else it is a page that asks back
                for obj, subject, fields in before:
                    _tell(method.__name__.replace("_", "-"), subject, audit.diff(fields, audit.stored(obj)))
        return response

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        actions = super().get_actions(request)
        return {name: (_audited_action(method), name, title) for name, (method, _, title) in actions.items()}


def _audited_action(action: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(action)
    def act(model_admin: AuditedAdmin, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        return model_admin.audited(action, list(queryset.all()), model_admin, request, queryset)

    return act


def _tell(verb: str, subject: audit.Subject, changes: dict[str, Any], *, detail: str = "") -> None:
    if not audit.is_told(subject.type, subject.id):
        audit.record(f"{subject.type}.{verb}", target=subject, changes=changes, detail=detail)
