"""Deterministic answers: the same request always gets the same text, and different prompts get different ones."""

import hashlib
import json
import math
import re
import zlib
from collections.abc import Callable
from typing import Any

_TOKEN = re.compile(r"\s*\S+|\s+$")

CHARACTERS_PER_TOKEN = 4


def count_tokens(text: str) -> int:
    """The usual rule of thumb for English."""
    return math.ceil(len(text) / CHARACTERS_PER_TOKEN)


def echo(prompt: str, *, tokens: int | None = None) -> list[str]:
    """Answer a prompt with itself and its checksum, in tokens; exactly `tokens` of them if given."""
    text = f"You said: {prompt} #{zlib.crc32(prompt.encode('utf-8', 'surrogatepass')):08x}"
    words = _TOKEN.findall(text)
    if tokens is None:
        return words
    return words[:tokens] + [f" w{number}" for number in range(len(words), tokens)]


def pieces(text: str) -> list[str]:
    """Cut a text into tokens of four characters."""
    return [text[start : start + CHARACTERS_PER_TOKEN] for start in range(0, len(text), CHARACTERS_PER_TOKEN)]


def formatted(prompt: str, wanted: str | dict[str, Any]) -> list[str]:
    """Answer in JSON, as `format` asks."""
    value = {"answer": prompt} if isinstance(wanted, str) else satisfy(wanted, prompt, wanted)
    return pieces(json.dumps(value))


def tool_call(tools: list[dict[str, Any]], prompt: str) -> dict[str, Any]:
    """Call the tool that the prompt names, else the first."""
    functions = [tool.get("function", {}) for tool in tools]
    named = [function for function in functions if function.get("name") and function["name"] in prompt]
    function = (named or functions)[0]
    parameters = function.get("parameters") or {"type": "object"}
    return {"name": function.get("name", ""), "arguments": satisfy(parameters, prompt, parameters)}


def satisfy(schema: dict[str, Any], prompt: str, root: dict[str, Any]) -> Any:
    """Make a value that a JSON schema accepts; texts are taken from the prompt where they may be free."""
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][zlib.crc32(prompt.encode("utf-8", "surrogatepass")) % len(schema["enum"])]
    if (plain := _resolved(schema, root)) is not schema:
        return satisfy(plain, prompt, root)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    return _OF_TYPE[kind[0] if isinstance(kind, list) else kind](schema, prompt, root)


def _resolved(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference, take the first alternative, join what must all hold."""
    if "$ref" in schema:
        target: Any = root
        for step in schema["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        return target  # type: ignore[no-any-return]
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return schema[choice][0]  # type: ignore[no-any-return]
    merged: dict[str, Any] = {}
    for part in schema.get("allOf", ()):
        merged |= part
    return merged or schema


def _object(schema: dict[str, Any], prompt: str, root: dict[str, Any]) -> dict[str, Any]:
    return {name: satisfy(part, prompt, root) for name, part in schema.get("properties", {}).items()}


def _array(schema: dict[str, Any], prompt: str, root: dict[str, Any]) -> list[Any]:
    count = min(max(schema.get("minItems", 1), 1), schema.get("maxItems", 1_000))
    return [satisfy(schema.get("items", {"type": "string"}), f"{prompt}{n or ''}", root) for n in range(count)]


def _string(schema: dict[str, Any], prompt: str, root: dict[str, Any]) -> str:
    return prompt.ljust(schema.get("minLength", 0), ".")[: schema.get("maxLength", 200)]


def _integer(schema: dict[str, Any], prompt: str, root: dict[str, Any]) -> int:
    return math.ceil(_number(schema, prompt, root))


def _number(schema: dict[str, Any], prompt: str, root: dict[str, Any]) -> float:
    if "exclusiveMinimum" in schema:
        upper = schema.get("maximum", schema.get("exclusiveMaximum", schema["exclusiveMinimum"] + 2))
        return float(schema["exclusiveMinimum"] + upper) / 2
    return float(schema.get("minimum", min(0, schema.get("maximum", 0), schema.get("exclusiveMaximum", 1) - 1)))


def _boolean(schema: dict[str, Any], prompt: str, root: dict[str, Any]) -> bool:
    return True


def _null(schema: dict[str, Any], prompt: str, root: dict[str, Any]) -> None:
    return None


_OF_TYPE: dict[str, Callable[[dict[str, Any], str, dict[str, Any]], Any]] = {
    "object": _object,
    "array": _array,
    "string": _string,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "null": _null,
}


def vector(text: str, dimensions: int) -> list[float]:
    """A unit vector that depends on the text alone."""
    numbers: list[float] = []
    block = 0
    while len(numbers) < dimensions:
        digest = hashlib.sha256(f"{block}:{text}".encode("utf-8", "surrogatepass")).digest()
        numbers += [byte / 127.5 - 1 for byte in digest]
        block += 1
    numbers = numbers[:dimensions]
    length = math.sqrt(sum(number * number for number in numbers)) or 1.0
    return [number / length for number in numbers]
