"""Filtering, ordering and searching lists: what a list allows, and nothing else."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import reduce
from operator import and_, or_
from typing import Any

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db.models import Exists, OuterRef, Q, QuerySet
from django_filters.rest_framework import DjangoFilterBackend, IsoDateTimeFilter, TypedChoiceFilter
from rest_framework.filters import BaseFilterBackend
from rest_framework.request import Request
from rest_framework.views import APIView

from core.api.pagination import CURSOR, PAGE_SIZE
from core.api.queries import InvalidQuery, refuse_unknown

ORDERING = "ordering"
SEARCH = "search"
MAX_SEARCH_CHARACTERS = 200
MAX_SEARCH_TERMS = 10


class MomentFilter(IsoDateTimeFilter):
    """A moment in ISO 8601, within the years that every database can hold in any time zone."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        limits = [
            MinValueValidator(datetime(1970, 1, 1, tzinfo=UTC)),
            MaxValueValidator(datetime(9000, 1, 1, tzinfo=UTC)),
        ]
        super().__init__(*args, validators=limits, **kwargs)


class TruthFilter(TypedChoiceFilter):
    """true or false; anything else is refused instead of ignored."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        choices = (("true", "true"), ("false", "false"))
        super().__init__(*args, choices=choices, coerce=lambda text: text == "true", **kwargs)


class StrictFilterBackend(DjangoFilterBackend):
    """The view's `filterset_class`; parameters that the list does not know are refused (400)."""

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: APIView) -> QuerySet[Any]:
        filterset_class = self.get_filterset_class(view, queryset)
        filters = set(filterset_class.base_filters) if filterset_class else set()
        allowed = set(filters)
        if getattr(view, "ordering_fields", None):
            allowed.add(ORDERING)
        if getattr(view, "search_fields", None):
            allowed.add(SEARCH)
        refuse_unknown(request, allowed | {CURSOR, PAGE_SIZE})
        # What nobody asks for filters nothing, and to make its form takes a fifth of a short request's time.
        if not filters & request.query_params.keys():
            return queryset
        filterset = self.get_filterset(request, queryset, view)
        if not filterset.is_valid():
            raise InvalidQuery({name: [str(text) for text in texts] for name, texts in filterset.errors.items()})
        filtered: QuerySet[Any] = filterset.qs
        return filtered


class StrictOrderingFilter(BaseFilterBackend):
    """`ordering=name` or `-name`, from the view's `ordering_fields`: the name a client uses -> the column.

    The columns may be empty in no row. Without the parameter the view's `ordering` holds.
    """

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: APIView) -> QuerySet[Any]:
        columns: Mapping[str, str] = getattr(view, "ordering_fields", {})
        text = request.query_params.get(ORDERING)
        if text is None or not columns:
            return queryset.order_by(*getattr(view, "ordering", ("-id",)))
        names = text.split(",")
        if len({name.removeprefix("-") for name in names} & columns.keys()) != len(names):
            raise InvalidQuery({ORDERING: [f"Order by {', '.join(columns)}, each once, with - for descending."]})
        return queryset.order_by(*("-" * name.startswith("-") + columns[name.removeprefix("-")] for name in names))

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        if not (fields := getattr(view, "ordering_fields", {})):
            return []
        return [
            {
                "name": ORDERING,
                "in": "query",
                "required": False,
                "description": f"Fields, separated by commas, - for descending: {', '.join(fields)}.",
                "schema": {"type": "string"},
            }
        ]


class TextSearchFilter(BaseFilterBackend):
    """`search=some words`: rows in whose `search_fields` every word occurs."""

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: APIView) -> QuerySet[Any]:
        fields: tuple[str, ...] = getattr(view, "search_fields", ())
        text = request.query_params.get(SEARCH, "")
        if "\x00" in text or len(text) > MAX_SEARCH_CHARACTERS:
            raise InvalidQuery({SEARCH: [f"At most {MAX_SEARCH_CHARACTERS} characters, none of them null."]})
        words = text.split()[:MAX_SEARCH_TERMS]
        if not words or not fields:
            return queryset
        conditions = [reduce(or_, (Q(**{f"{field}__icontains": word}) for field in fields)) for word in words]
        # A subquery, because a row with many related rows that match is still one row.
        rows = queryset.model._default_manager.filter(reduce(and_, conditions), pk=OuterRef("pk"))
        return queryset.filter(Exists(rows))

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        if not (fields := getattr(view, "search_fields", ())):
            return []
        return [
            {
                "name": SEARCH,
                "in": "query",
                "required": False,
                "description": f"Words that all occur in {', '.join(fields).replace('__', ' ')}.",
                "schema": {"type": "string", "maxLength": MAX_SEARCH_CHARACTERS},
            }
        ]
