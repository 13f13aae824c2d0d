"""Reading foreign JSON: whatever has the wrong type, size or depth is refused with a text that names the field."""

import binascii
import json
import math
import re
from typing import Any, NoReturn

from agents.ollama.protocol import MAX_COUNT, clean
from agents.ollama.types import JsonObject
from core.exceptions import Refused

# Schemas of tools nest deepest; what is below this passes any encoder and any database without recursion errors.
MAX_DEPTH = 64
MAX_NAME_CHARACTERS = 200  # as the column that keeps it

# Escapes of NUL and of surrogates. Nothing else in decoded JSON can be unstorable, so most bodies need no cleaning.
_SUSPICIOUS = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")


class CallRefused(Refused):
    """The call cannot be made as it was sent. Correct the field that the text names.

    param: the field's path ("messages[0].role"), empty if none is at fault.
    """

    code = "invalid-call"

    def __init__(self, detail: str, *, status: int = 400, param: str = "") -> None:
        super().__init__(detail)
        self.status = status
        self.param = param


def decode(data: bytes, *, missing: str) -> JsonObject:
    """Parse a request's body, which must be a JSON object; raises CallRefused, with the text `missing` if it is empty.

    As in Ollama, undecodable bytes become U+FFFD. So do NUL and lone surrogates, which no row can keep.
    """
    if not data.strip():
        raise CallRefused(missing)
    value = _parsed(data.decode("utf-8", errors="replace"))
    if not isinstance(value, dict):
        raise CallRefused("the body must be a JSON object")
    return clean(value) if _SUSPICIOUS.search(data) else value


def decode_arguments(text: str, path: str) -> JsonObject:
    """Parse the arguments of a tool call, which OpenAI's formats write as text; empty text stands for none."""
    value = _parsed(text, path) if text.strip() else {}
    if not isinstance(value, dict):
        raise CallRefused(f"{path}: must be a JSON object, written as text", param=path)
    return clean(value)  # type: ignore[no-any-return]


def _parsed(text: str, path: str = "") -> Any:
    what = path or "the body"
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise CallRefused(f"{what}: invalid JSON: {error}", param=path) from None
    except (ValueError, RecursionError):
        raise CallRefused(f"{what}: invalid JSON: a number out of range, or nested too deep", param=path) from None
    if _is_deep(value):
        raise CallRefused(f"{what}: nested deeper than {MAX_DEPTH} levels", param=path)
    return value


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse_constant)


_CONTAINERS = (dict, list)


def _is_deep(value: Any) -> bool:
    level: list[Any] = [[value]]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) in _CONTAINERS  # a decoder makes no others, and this is asked of every value
        ]
        if not level:
            return False
    return True


class Fields:
    """A JSON object that is read field by field. null is the same as nothing; a wrong type raises CallRefused."""

    __slots__ = ("path", "value")

    def __init__(self, value: JsonObject, path: str = "") -> None:
        self.value = value
        self.path = path

    def path_of(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def refusal(self, name: str, text: str, *, status: int = 400) -> CallRefused:
        """Make the error that says what is wrong with a field."""
        path = self.path_of(name)
        return CallRefused(f"{path}: {text}", status=status, param=path)

    def has(self, name: str) -> bool:
        return self.value.get(name) is not None

    def names_any(self, names: frozenset[str]) -> bool:
        """Whether any of these is named at all: what most calls leave out is looked for once, not name by name."""
        return not names.isdisjoint(self.value)

    def text(self, name: str) -> str:
        """A text; empty if there is none."""
        value = self.value.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.refusal(name, "must be a string")
        return value

    def choice(self, name: str, allowed: tuple[str, ...]) -> str:
        """One of some texts; empty if there is none."""
        value = self.text(name)
        if value and value not in allowed:
            raise self.refusal(name, f"must be one of {', '.join(allowed)}")
        return value

    def flag(self, name: str) -> bool | None:
        value = self.value.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.refusal(name, "must be true or false")
        return value

    def integer(self, name: str, *, least: int = -MAX_COUNT, most: int = MAX_COUNT) -> int | None:
        value = self.value.get(name)
        if value is None:
            return None
        if type(value) is not int:
            raise self.refusal(name, "must be a whole number")
        if not least <= value <= most:
            raise self.refusal(name, f"must be between {least} and {most}")
        return value

    def number(self, name: str) -> float | None:
        value = self.value.get(name)
        if value is None:
            return None
        if type(value) not in {int, float} or not -MAX_COUNT <= value <= MAX_COUNT:
            raise self.refusal(name, "must be a number")
        return value  # type: ignore[no-any-return]

    def items(self, name: str) -> list[Any]:
        """A list; empty if there is none."""
        value = self.value.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.refusal(name, "must be a list")
        return value

    def texts(self, name: str) -> list[str]:
        """A list of texts; empty if there is none."""
        items = self.items(name)
        if not all(isinstance(item, str) for item in items):
            raise self.refusal(name, "must be a list of strings")
        return items

    def objects(self, name: str) -> "list[Fields]":
        """A list of objects; empty if there is none."""
        objects = []
        for number, item in enumerate(self.items(name)):
            if not isinstance(item, dict):
                raise self.refusal(f"{name}[{number}]", "must be an object")
            objects.append(Fields(item, self.path_of(f"{name}[{number}]")))
        return objects

    def inner(self, name: str) -> "Fields | None":
        """An object."""
        value = self.value.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.refusal(name, "must be an object")
        return Fields(value, self.path_of(name))

    def required(self, name: str) -> "Fields":
        """An object that must be there."""
        inner = self.inner(name)
        if inner is None:
            raise self.refusal(name, "is missing")
        return inner

    def model(self) -> str:
        """The model's name as the client spells it; empty if there is none."""
        name = self.text("model")
        if len(name) > MAX_NAME_CHARACTERS:
            raise CallRefused("invalid model name", param="model")
        return name


def image(data: Any, path: str) -> str:
    """Check a bare base64 text and return it without the line ends that Ollama's reader skips, too."""
    text = data.replace("\r", "").replace("\n", "") if isinstance(data, str) else ""
    try:
        if not binascii.a2b_base64(text, strict_mode=True):
            raise ValueError("empty")
    except ValueError:  # also what is no ASCII
        raise CallRefused(f"{path}: illegal base64 data", param=path) from None
    return text
