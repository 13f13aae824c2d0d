"""Refusing query parameters that mean nothing, instead of ignoring them."""

from collections.abc import Collection, Mapping

from rest_framework.request import Request

from core.exceptions import Refused

# `format` chooses the renderer, as in the browsable API's links.
ALWAYS_ALLOWED = frozenset({"format"})


class InvalidQuery(Refused):
    """A query parameter is unknown or has no meaning. `errors` names each, and what is wrong with it."""

    status = 400
    code = "invalid-query"
    title = "The query is not valid"

    def __init__(self, errors: Mapping[str, list[str]]) -> None:
        self.errors = errors
        super().__init__("; ".join(f"{name}: {' '.join(texts)}" for name, texts in errors.items()))


def refuse_unknown(request: Request, allowed: Collection[str]) -> None:
    """Raise InvalidQuery for parameters that are not allowed here."""
    if unknown := set(request.query_params) - set(allowed) - ALWAYS_ALLOWED:
        raise InvalidQuery({name: ["Unknown parameter."] for name in sorted(unknown)})


def whole_number(request: Request, name: str, *, default: int, minimum: int, maximum: int) -> int:
    """Read a whole number from the query. Raises InvalidQuery."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if text.isascii() and text.isdigit() and len(text) < 20 and minimum <= int(text) <= maximum:
        return int(text)
    raise InvalidQuery({name: [f"A whole number from {minimum} to {maximum} is expected."]})
