"""Writing a row of the audit log, in the caller's transaction."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from django.db.models import Model
from django.utils import timezone

from core.audit import context
from core.audit.changes import Fields, clean, diff
from core.logs import mask
from core.models import AuditEntry, User

Outcome = AuditEntry.Outcome
_LIMITS = {field.name: getattr(field, "max_length", None) or 0 for field in AuditEntry._meta.concrete_fields}


@dataclass(frozen=True)
class Subject:
    """What a row is about, also when it is gone. type: "api-key" for the model ApiKey."""

    type: str = ""
    id: str = ""
    name: str = ""

    @classmethod
    def of(cls, instance: Model) -> Self:
        model = instance._meta.model  # the class of a lazy object would be another
        return cls(type_of(model), str(instance.pk), str(instance))


def type_of(model: type[Model]) -> str:
    """Spell a model as rows do: "api-key" for ApiKey."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", model.__name__).lower()


def record(
    action: str,
    *,
    target: Model | Subject | None = None,
    before: Model | Fields | None = None,
    after: Model | Fields | None = None,
    changes: Mapping[str, Any] | None = None,
    detail: str = "",
    outcome: str = Outcome.SUCCEEDED,
    actor: User | None = None,
) -> AuditEntry:
    """Write down what happens; the row stands or falls with the caller's transaction.

    action: "<object>.<what happened to it>", such as "api-key.revoked".
    before, after: states to compare, where `changes` does not say it already. actor: if the context does not know.
    """
    if changes is None:
        changes = {} if before is None and after is None else diff(before, after)
    with context.acting(actor=actor):
        entry = AuditEntry(
            action=action,
            outcome=outcome,
            changes=dict(changes),
            **columns(subject_of(target), detail, context.origin()),
        )
    entry.save(force_insert=True)
    context.tell(entry.object_type, entry.object_id)
    return entry


def subject_of(target: Model | Subject | None) -> Subject:
    if isinstance(target, Model):
        return Subject.of(target)
    return target or Subject()


def columns(subject: Subject, detail: str, origin: context.Origin) -> dict[str, Any]:
    """Fill the columns that hold texts from outside, each within its length.

    Addresses and reasons may have credentials in them that belong elsewhere.
    """
    texts = {
        "actor_name": origin.actor_name,
        "credential": origin.credential,
        "address": origin.address,
        "request_id": origin.request_id,
        "object_type": subject.type,
        "object_id": subject.id,
        "object_name": mask(subject.name),
        "detail": mask(detail),
    }
    cleaned = {name: clean(text, _LIMITS[name]) for name, text in texts.items()}
    return {"created_at": timezone.now(), "actor_id": origin.actor_id, **cleaned}
