"""Reading requests as Ollama reads them, with its refusals."""

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any

_FLOATS = ("temperature", "top_p", "min_p", "typical_p", "repeat_penalty", "presence_penalty", "frequency_penalty")
_INTEGERS = ("top_k", "seed", "num_predict", "num_keep", "repeat_last_n", "num_ctx", "num_batch", "num_gpu",
             "main_gpu", "num_thread")  # fmt: skip
_LOAD_OPTIONS = ("num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread")
_UNIT_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)")


class Refusal(Exception):
    """The request gets this status and this text, and nothing else."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


@dataclass(slots=True)
class Options:
    """The options that this server heeds."""

    num_predict: int
    num_ctx: int
    load_options: tuple[object, ...]


def parse_body(body: bytes, *, empty: str = "missing request body") -> dict[str, Any]:
    if not body:
        raise Refusal(400, empty)
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"invalid character in request: {error}") from None
    if not isinstance(value, dict):
        raise Refusal(400, f"json: cannot unmarshal {type(value).__name__} into Go value")
    for name, kind in (("model", str), ("prompt", str), ("stream", bool), ("options", dict), ("messages", list)):
        if value.get(name) is not None and not isinstance(value[name], kind):
            raise Refusal(400, f"json: cannot unmarshal {type(value[name]).__name__} into Go struct field {name}")
    return value


def parse_keep_alive(value: Any) -> float | None:
    """Seconds; negative is for ever; None if not given."""
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str):
        raise Refusal(400, "invalid type for keep_alive")
    sign, text = (-1, value[1:]) if value.startswith("-") else (1, value)
    found = _DURATION.findall(text)
    if not found or "".join(number + unit for number, unit in found) != text:
        raise Refusal(400, f'time: missing unit in duration "{value}"')
    return sign * sum(float(number) * _UNIT_SECONDS[unit] for number, unit in found)


def parse_options(values: dict[str, Any], default_num_ctx: int) -> Options:
    """Unknown options are ignored; a wrong type is a 500, as in Ollama."""
    for name, value in values.items():
        if name in _FLOATS and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise Refusal(500, f'option "{name}" must be of type float32')
        if name in _INTEGERS and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise Refusal(500, f'option "{name}" must be of type integer')
    return Options(
        num_predict=int(values.get("num_predict", -1)),
        num_ctx=int(values.get("num_ctx", default_num_ctx)),
        load_options=tuple(values.get(name) for name in _LOAD_OPTIONS),
    )


def check_think(value: Any) -> None:
    if not (value is None or isinstance(value, bool) or value in {"low", "medium", "high", "max"}):
        raise Refusal(400, f'invalid think value: "{value}" (must be "high", "medium", "low", "max", true, or false)')


def check_images(images: list[Any]) -> None:
    for image in images:
        try:
            base64.b64decode(image, validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise Refusal(400, "illegal base64 data at input byte 0") from None


def check_logprobs(body: dict[str, Any]) -> None:
    if not 0 <= (body.get("top_logprobs") or 0) <= 20:
        raise Refusal(400, "top_logprobs must be between 0 and 20")


def check_format(wanted: Any) -> str | dict[str, Any] | None:
    """Return "json", a schema, or None; null and "" are ignored."""
    if wanted is None or wanted == "":
        return None
    if wanted == "json" or isinstance(wanted, dict):
        return wanted  # type: ignore[no-any-return]
    raise Refusal(500, f'invalid format: {json.dumps(wanted)}; expected "json" or a valid JSON Schema object')
