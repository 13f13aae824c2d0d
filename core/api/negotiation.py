"""Which parser reads a body, and which renderer writes the answer."""

from collections.abc import Iterable

from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.request import Request

FORM = "application/x-www-form-urlencoded"


class CurlNegotiation(DefaultContentNegotiation):
    """REST framework's own, and a kindness: `curl -d '{…}'` calls its JSON a form unless told otherwise.

    The JSON parser refuses such a body if it is no JSON object, so a real form is still answered with 415.
    """

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser | None:
        if request.content_type.partition(";")[0].strip().lower() == FORM:
            return next(iter(parsers))
        parser: BaseParser | None = super().select_parser(request, parsers)
        return parser
