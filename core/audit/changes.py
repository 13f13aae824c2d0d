"""What a change changed: fields before and after, with secrets masked."""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

from django.db.models import Model

MASK = "••••••"
MAX_CHARACTERS = 2000  # of one value; longer ones are cut, and told by their hash
# A field whose name has one of these words holds a secret: "secret_hash", "api_key"; not "key_id" or "max_tokens".
SECRET_WORDS = frozenset(
    {
        "authorization",
        "cookie",
        "credential",
        "hash",
        "key",
        "passphrase",
        "password",
        "pepper",
        "secret",
        "seed",
        "token",
    }
)

Fields = Mapping[str, Any]


class Snapshot(dict[str, Any]):
    """A row's fields at one moment, unmasked: for `diff` alone. secret: those that its model names as secret."""

    secret: frozenset[str] = frozenset()


def snapshot(instance: Model) -> Snapshot:
    """Read a row's fields as they are now, those that were loaded, without its key.

    A model names fields that are secret, besides those that sound so, in `masked_in_audit`.
    """
    unloaded = instance.get_deferred_fields()
    found = Snapshot(
        (field.attname, getattr(instance, field.attname))
        for field in instance._meta.concrete_fields
        if field.attname not in unloaded and not field.primary_key
    )
    found.secret = frozenset(getattr(instance, "masked_in_audit", ()))
    if not instance._state.adding:
        for relation in instance._meta.many_to_many:
            found[relation.name] = sorted(map(_name, getattr(instance, relation.name).all()))
    return found


def stored(instance: Model) -> Model | None:
    """Read a row again as the database has it, with the fields that the instance has loaded; None if it is gone."""
    rows = instance._meta.model._base_manager.filter(pk=instance.pk)
    return rows.defer(*instance.get_deferred_fields()).first()


def diff(before: Model | Fields | None, after: Model | Fields | None) -> dict[str, list[Any]]:
    """Compare two states of an object: {field: [before, after]} of the fields that differ, secrets masked.

    None: it was not there, or is not any more.
    """
    old, new = _fields(before), _fields(after)
    secret = frozenset().union(*(state.secret for state in (old, new) if isinstance(state, Snapshot)))
    names = [*(old or ()), *(name for name in new or () if name not in (old or ()))]
    if old is not None and new is not None:
        names = [name for name in names if name in old and name in new]
    pairs = {name: ((old or {}).get(name), (new or {}).get(name)) for name in names}
    return {
        name: [_shown(name, value, secret) for value in pair]
        for name, pair in pairs.items()
        if _plain(pair[0]) != _plain(pair[1]) and not (_is_empty(pair[0]) and _is_empty(pair[1]))
    }


def clean(text: str, limit: int) -> str:
    """Make any text fit for a column: no null characters, no halves of surrogate pairs, cut to the limit."""
    text = text[: limit + 1].replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def is_secret(name: str) -> bool:
    """Tell by a field's name whether its value is kept out of the log."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return not words.endswith("_id") and not SECRET_WORDS.isdisjoint(re.split(r"[^a-z0-9]+", words))


def _fields(state: Model | Fields | None) -> Fields | None:
    return snapshot(state) if isinstance(state, Model) else state


def _name(related: Model) -> str:
    """A permission's own text would ask the database for its content type."""
    return str(getattr(related, "codename", None) or related)


def _is_empty(value: Any) -> bool:
    return value is None or value in ("", [], {})


def _shown(name: str, value: Any, secret: frozenset[str]) -> Any:
    if name in secret or is_secret(name):
        return value if _is_empty(value) else MASK
    return _short(_plain(value, secret))


def _plain(value: Any, secret: frozenset[str] | None = None) -> Any:
    """Turn a value into JSON's own types. secret: the names to mask at any depth; None: mask nothing."""
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {
            str(name): _plain(inner, secret) if secret is None else _shown(str(name), inner, secret)
            for name, inner in value.items()
        }
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return [_plain(item, secret) for item in value]
    return clean(str(value), len(str(value)))


def _short(value: Any) -> Any:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    if len(text) <= MAX_CHARACTERS:
        return value
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{text[:MAX_CHARACTERS]}… [{len(text)} characters, SHA-256 {digest}…]"
