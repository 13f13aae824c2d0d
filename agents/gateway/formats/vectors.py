"""Answers that are vectors, and the texts that they stand for."""

import base64
import binascii
import sys
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agents.gateway.formats.base import Identity, Truth
from agents.gateway.formats.reading import CallRefused, Fields
from agents.ollama.types import JsonObject

MAX_INPUTS = 2_048  # as in OpenAI's own format
MAX_DIMENSIONS = 65_536
BYTES_PER_NUMBER = 4

# Nine digits give a float32 back exactly, in half the time and two thirds of the length of Python's own seventeen.
_write_number = "%.9g".__mod__


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """The answer to an embedding call. packed: the vectors, one after another, as little-endian float32."""

    packed: bytes
    count: int
    prompt_tokens: int = 0
    total_seconds: float = 0.0
    load_seconds: float = 0.0

    @classmethod
    def from_output(
        cls, output: JsonObject, *, prompt_tokens: int = 0, total_seconds: float = 0.0, load_seconds: float = 0.0
    ) -> "Embedded":
        """Read a task's output: {"embeddings": base64, "dimensions", "count"}. Raises ValueError if they disagree."""
        packed = binascii.a2b_base64(output["embeddings"])
        if len(packed) != output["count"] * output["dimensions"] * BYTES_PER_NUMBER:
            raise ValueError("the vectors do not have the size that the output tells")
        return cls(
            packed=packed,
            count=output["count"],
            prompt_tokens=prompt_tokens,
            total_seconds=total_seconds,
            load_seconds=load_seconds,
        )

    @classmethod
    def joined(cls, parts: "Sequence[Embedded]") -> "Embedded":
        """Make one answer of the parts of a call. Raises ValueError if their vectors differ in size."""
        if len({len(part.packed) // part.count for part in parts if part.count}) > 1:
            raise ValueError("the parts have vectors of different sizes")
        return cls(
            packed=b"".join(part.packed for part in parts),
            count=sum(part.count for part in parts),
            prompt_tokens=sum(part.prompt_tokens for part in parts),
            total_seconds=sum(part.total_seconds for part in parts),
            load_seconds=sum(part.load_seconds for part in parts),
        )

    def rows(self) -> Iterator[bytes]:
        """The vectors as bytes, in the order of the inputs."""
        size = len(self.packed) // self.count if self.count else 0
        for number in range(self.count):
            yield self.packed[number * size : (number + 1) * size]


def numbers(row: bytes) -> str:
    """Write a vector as a JSON list. Raises ValueError if it holds what is no number."""
    values = array("f", row)
    if sys.byteorder == "big":
        values.byteswap()
    text = ",".join(map(_write_number, values))
    if "n" in text:  # of nan and inf
        raise ValueError("a vector holds what is no number")
    return f"[{text}]"


def as_base64(row: bytes) -> str:
    return f'"{base64.b64encode(row).decode("ascii")}"'


class VectorEncoder(ABC):
    """Writes one answer made of vectors."""

    def __init__(self, identity: Identity, shape: JsonObject) -> None:
        self.identity = identity
        self.shape = shape

    @abstractmethod
    def whole(self, answer: Embedded, truth: Truth) -> bytes:
        """The answer. Raises ValueError if the vectors hold what is no number."""


def inputs(fields: Fields, name: str = "input") -> list[str]:
    """Read the texts of an embedding call: one, or a list of them."""
    value = fields.value.get(name)
    texts = [value] if isinstance(value, str) else value or []
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise CallRefused(f"invalid input type: {name} must be a string or a list of strings", param=name)
    if len(texts) > MAX_INPUTS:
        raise fields.refusal(name, f"at most {MAX_INPUTS} texts in one call")
    return texts
