"""Whose rows are whose: the one place that decides it. What a person may not see does not exist for them (404)."""

from typing import TypeVar

from django.db.models import Model, QuerySet

from core.access.principal import Principal

RowT = TypeVar("RowT", bound=Model)


def own(rows: QuerySet[RowT], principal: Principal) -> QuerySet[RowT]:
    """Rows with an owner that this person may write into: their own."""
    return rows.filter(owner=principal.user)


def visible(rows: QuerySet[RowT], principal: Principal) -> QuerySet[RowT]:
    """Rows with an owner that this person may see: their own; an operator sees all."""
    return rows if principal.is_operator else own(rows, principal)


def shared(rows: QuerySet[RowT], principal: Principal) -> QuerySet[RowT]:
    """Rows that a team shares: the team's; an operator sees all."""
    return rows if principal.is_operator else rows.filter(team=principal.user.team_id)
