"""Reading JSON, and nothing that merely resembles it."""

import json
import math
from collections.abc import Mapping
from typing import IO, Any, NoReturn

from django.conf import settings
from rest_framework.exceptions import ParseError, UnsupportedMediaType
from rest_framework.parsers import BaseParser

from core.api.problems import BodyTooLarge

MAX_DEPTH = 32
MAX_INTEGER_DIGITS = 19  # 64 bits; longer ones fit no column, and take quadratic time to read


class StrictJSONParser(BaseParser):
    """One JSON object in UTF-8, with finite numbers, each name once, no lone surrogates, not nested without end.

    What strays from that would be read differently elsewhere, or cannot be stored. Raises ParseError (400).
    """

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        main_type, _, parameters = (media_type or self.media_type).partition(";")
        charset = parameters.partition("charset=")[2].strip(' "').lower()
        if charset not in {"", "utf-8", "utf8"}:
            raise UnsupportedMediaType(media_type or "", "JSON is read in UTF-8 only.")
        body = stream.read(settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)
        if len(body) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            raise BodyTooLarge
        if main_type.strip().lower() != self.media_type and not body.lstrip().startswith(b"{"):
            raise UnsupportedMediaType(media_type or "", "Send one JSON object.")
        return parse(body)


def parse(body: bytes) -> dict[str, Any]:
    """Read one JSON object. Raises ParseError."""
    try:
        data = json.loads(
            body.decode("utf-8"),
            parse_int=_integer,
            parse_float=_number,
            parse_constant=_constant,
            object_pairs_hook=_object,
        )
    except UnicodeDecodeError as error:
        raise ParseError(f"The body is not UTF-8: byte {error.start} is wrong.") from error
    except RecursionError as error:
        raise ParseError(f"JSON may be nested {MAX_DEPTH} levels deep.") from error
    except ValueError as error:
        raise ParseError(f"The body is not JSON: {error}.") from error
    if not isinstance(data, dict):
        raise ParseError("The body must be a JSON object.")
    _check_depth_and_texts(data)
    return data


def _integer(text: str) -> int:
    if len(text.lstrip("-")) > MAX_INTEGER_DIGITS:
        raise ParseError(f"Whole numbers may have {MAX_INTEGER_DIGITS} digits.")
    return int(text)


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ParseError("A number is too large.")
    return number


def _constant(name: str) -> NoReturn:
    raise ParseError(f"JSON has no {name}.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ParseError("A name stands twice in one object.")
    return members


def _check_depth_and_texts(data: dict[str, Any]) -> None:
    level: list[Any] = [data]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below.extend(value)
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
            elif isinstance(value, str):
                _check_text(value)
        if not below:
            return
        level = below
    raise ParseError(f"JSON may be nested {MAX_DEPTH} levels deep.")


def _check_text(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ParseError("A text holds half a surrogate pair, which is no character.") from error
