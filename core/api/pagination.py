"""Pages that stay put: a page begins after a row, not after a count, so new rows shift nothing."""

from collections.abc import Mapping
from typing import Any

from django.core import signing
from django.db.models import Model, Q, QuerySet
from django.template import loader
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param
from rest_framework.views import APIView

from core.api.queries import InvalidQuery, whole_number

CURSOR = "cursor"
PAGE_SIZE = "page_size"


class NewestFirstPagination(BasePagination):
    """Cursor pagination along the query's own order, which must end in the key (UUIDv7: newest first).

    A cursor is signed and names the list's order, the row that the page stands beside, and the side.
    """

    default_size = 25
    maximum_size = 100
    template = "rest_framework/pagination/previous_and_next.html"

    def paginate_queryset(self, queryset: Any, request: Request, view: APIView | None = None) -> list[Any]:
        self._url = request.build_absolute_uri()
        self._order = _order(queryset)
        size = whole_number(request, PAGE_SIZE, default=self.default_size, minimum=1, maximum=2**31)
        size = min(size, self.maximum_size)
        is_backward, values = self._read(request.query_params.get(CURSOR), queryset.model)
        order = _reversed(self._order) if is_backward else self._order
        if values:
            queryset = queryset.filter(_beyond(order, values))
        rows = list(queryset.order_by(*order)[: size + 1])
        has_more, rows = len(rows) > size, rows[:size]
        if is_backward:
            rows.reverse()
        self._first = rows[0] if rows and (has_more if is_backward else bool(values)) else None
        self._last = rows[-1] if rows and (bool(values) if is_backward else has_more) else None
        self.display_page_controls = bool(self._first or self._last)
        return rows

    def _read(self, cursor: str | None, model: type[Model]) -> tuple[bool, list[Any]]:
        if cursor is None:
            return False, []
        try:
            content = signing.loads(cursor, salt=_salt(model))
        except signing.BadSignature as error:
            raise InvalidQuery({CURSOR: ["This is no cursor of this list."]}) from error
        if content["order"] != self._order:
            raise InvalidQuery({CURSOR: ["The cursor belongs to another order of this list."]})
        fields = [_field(model, name) for name in self._order]
        values = [field.to_python(text) for field, text in zip(fields, content["at"], strict=True)]
        return content["backward"], values

    def _link(self, row: Model | None, *, is_backward: bool) -> str | None:
        if row is None:
            return None
        at = [_field(type(row), name).value_to_string(row) for name in self._order]
        content = {"order": self._order, "at": at, "backward": is_backward}
        cursor = signing.dumps(content, salt=_salt(type(row)), compress=False)
        url: str = replace_query_param(self._url, CURSOR, cursor)
        return url

    def get_paginated_response(self, data: Any) -> Response:
        return Response(
            {
                "next": self._link(self._last, is_backward=False),
                "previous": self._link(self._first, is_backward=True),
                "results": data,
            }
        )

    def to_html(self) -> str:
        context = {
            "previous_url": self._link(self._first, is_backward=True),
            "next_url": self._link(self._last, is_backward=False),
        }
        return loader.get_template(self.template).render(context)

    def get_paginated_response_schema(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        link = {"type": "string", "format": "uri", "nullable": True}
        return {
            "type": "object",
            "required": ["next", "previous", "results"],
            "properties": {"next": link, "previous": link, "results": schema},
        }

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        return [
            {
                "name": CURSOR,
                "in": "query",
                "required": False,
                "description": "Where the page begins; take it from `next` or `previous`.",
                "schema": {"type": "string"},
            },
            {
                "name": PAGE_SIZE,
                "in": "query",
                "required": False,
                "description": f"Rows on a page; more than {self.maximum_size} are cut to that.",
                "schema": {"type": "integer", "minimum": 1, "default": self.default_size},
            },
        ]


def _order(queryset: QuerySet[Any]) -> list[str]:
    """The fields that a query is ordered by, the key last so that no two rows share a place."""
    order = [str(name) for name in queryset.query.order_by or queryset.model._meta.ordering]
    order = ["-id" if name == "-pk" else "id" if name == "pk" else name for name in order]
    return order if order[-1].lstrip("-") == "id" else [*order, "-id" if order[-1].startswith("-") else "id"]


def _reversed(order: list[str]) -> list[str]:
    return [name[1:] if name.startswith("-") else f"-{name}" for name in order]


def _beyond(order: list[str], values: list[Any]) -> Q:
    """Rows after these values in an order: (a > x) or (a = x and b > y) …"""
    beyond, same = Q(), Q()
    for name, value in zip(order, values, strict=True):
        field = name.lstrip("-")
        beyond |= same & Q(**{f"{field}__{'lt' if name.startswith('-') else 'gt'}": value})
        same &= Q(**{field: value})
    return beyond


def _field(model: type[Model], name: str) -> Any:
    return model._meta.get_field(name.lstrip("-"))


def _salt(model: type[Model]) -> str:
    return f"cursor:{model._meta.label_lower}"
