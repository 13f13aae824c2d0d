"""The one place where the API tells the audit log of what it changed."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, ClassVar

from django.db import transaction
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from core import audit
from core.api.idempotency import REPLAY_HEADER

_VERBS = {"create": "added", "partial_update": "changed", "destroy": "deleted"}


class AuditedMixin(GenericViewSet):
    """For viewsets: a request that changed something writes its row in the change's own transaction.

    outside_transaction: actions that talk to other machines; no transaction stays open meanwhile. What they change
    in one of their own they record there.
    unaudited: actions that leave a record by themselves, as a task is.
    """

    outside_transaction: ClassVar[frozenset[str]] = frozenset()
    unaudited: ClassVar[frozenset[str]] = frozenset()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.method not in SAFE_METHODS and self.action is not None and self.action not in self.unaudited:
            method = str(request.method).lower()
            setattr(self, method, partial(self._audited, getattr(self, method)))

    def get_object(self) -> Any:
        found = super().get_object()
        if self.request.method not in SAFE_METHODS:
            self._found = (found, audit.Subject.of(found), audit.snapshot(found))
        return found

    def _audited(self, handler: Callable[..., Response], request: Request, *args: Any, **kwargs: Any) -> Response:
        with nullcontext() if self.action in self.outside_transaction else transaction.atomic():
            response = handler(request, *args, **kwargs)
            if response.status_code < 400 and REPLAY_HEADER not in response:
                self._record(response)
        return response

    def _record(self, response: Response) -> None:
        """Compare the row that the handler fetched, or made, with what it was before."""
        if self.action == "create":
            made = self.get_queryset().get(pk=response.data["id"])
            subject, changes = audit.Subject.of(made), audit.diff(None, made)
        else:
            found, subject, before = self._found
            changes = audit.diff(before, None if self.action == "destroy" else found)
        is_void = self.action == "partial_update" and not changes
        if not is_void and not audit.is_told(subject.type, subject.id):
            verb = _VERBS.get(str(self.action), str(self.action).replace("_", "-"))
            audit.record(f"{subject.type}.{verb}", target=subject, changes=changes)
