"""Serializers that take what they name, in the type they name, and refuse the rest (422); and those that show rows."""

import functools
import json
import math
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from django.db import models
from rest_framework import serializers
from rest_framework.utils.serializer_helpers import BindingDict

ModelT = TypeVar("ModelT", bound=models.Model)


class TextField(serializers.CharField):
    """A text; numbers and truths are not turned into one. Blanks at its ends stay."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("trim_whitespace", False)
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class SlugField(serializers.SlugField):
    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class TruthField(serializers.BooleanField):
    """true or false; not "yes", 1 or "on"."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class WholeNumberField(serializers.IntegerField):
    """A whole number; not a text that looks like one."""

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int):
            self.fail("invalid")
        return data


class NumberField(serializers.FloatField):
    """A finite number; not "NaN" or "1e999", which Python would read."""

    def to_internal_value(self, data: Any) -> float:
        if isinstance(data, bool) or not isinstance(data, int | float) or not math.isfinite(data):
            self.fail("invalid")
        return float(data)


class IdField(serializers.UUIDField):
    """An id, written as a text."""

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str):
            self.fail("invalid", value=data)
        return super().to_internal_value(data)


class ObjectField(serializers.JSONField):
    """A JSON object without null characters, which PostgreSQL cannot store."""

    default_error_messages = {"invalid": "An object is expected.", "null_characters": "No null characters, please."}

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            self.fail("invalid")
        if "\\u0000" in json.dumps(data):
            self.fail("null_characters")
        return data


class StrictMixin:
    """Refuses names that the serializer does not take."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            writable = {name for name, field in self.fields.items() if not field.read_only}  # type: ignore[attr-defined]
            if unknown := sorted(set(data) - writable):
                raise serializers.ValidationError({name: ["Unknown field."] for name in unknown})
        return super().to_internal_value(data)  # type: ignore[misc]


class StrictSerializer(StrictMixin, serializers.Serializer):
    """What a request may say."""


class StrictModelSerializer(StrictMixin, serializers.ModelSerializer):
    """What a request may say of a model's fields, within the bounds that the model sets."""

    serializer_field_mapping: ClassVar[dict[type[models.Field], type[serializers.Field]]] = {
        **serializers.ModelSerializer.serializer_field_mapping,
        models.CharField: TextField,
        models.TextField: TextField,
        models.SlugField: SlugField,
        models.URLField: TextField,
        models.BooleanField: TruthField,
        models.FloatField: NumberField,
        models.IntegerField: WholeNumberField,
        models.PositiveIntegerField: WholeNumberField,
        models.PositiveSmallIntegerField: WholeNumberField,
        models.JSONField: ObjectField,
    }


class NoInput(StrictSerializer):
    """For requests that say everything by their address."""


class RowSerializer(serializers.ModelSerializer):
    """Shows rows. Its fields follow from the model, and are made once for all instances: they may keep nothing.

    reads: the columns that its methods look at, for `shown`.
    """

    reads: ClassVar[tuple[str, ...]] = ()

    @property
    def fields(self) -> BindingDict:
        return _fields_of(type(self))


@functools.cache
def _fields_of(serializer: type[RowSerializer]) -> BindingDict:
    fields = BindingDict(first := serializer())
    for name, field in first.get_fields().items():
        fields[name] = field
    return fields


def shown(rows: models.QuerySet[ModelT], serializer: type[RowSerializer]) -> models.QuerySet[ModelT]:
    """Load of rows, and of what they point to, the columns that a serializer looks at: half the work of all."""
    columns = _columns_of(serializer)
    related = {column.rpartition("__")[0] for column in columns} - {""}
    rows = rows.select_related(*related) if related else rows
    return rows.only(*columns)


@functools.cache
def _columns_of(serializer: type[RowSerializer]) -> tuple[str, ...]:
    fields = _fields_of(serializer).values()
    plain = [str(field.source) for field in fields if not isinstance(field, serializers.SerializerMethodField)]
    return tuple(source.replace(".", "__") for source in (*plain, *serializer.reads))
