"""Text analysis: summary, keywords, entities, sentiment and language, as JSON that was checked against a schema."""

import json
from collections.abc import Generator, Mapping
from typing import Any

from jsonschema import Draft202012Validator

from agents.builtin.analysis import analyse
from agents.kinds.base import CannotAnswer, Kind, Outcome, Work, clean_text, estimate_tokens, model_options
from agents.models import AgentVersion
from agents.ollama.errors import Interrupted, OllamaUnavailable
from agents.ollama.types import JsonObject, Message

SCHEMA: JsonObject = {
    "type": "object",
    "properties": {
        "summary": {"type": "string"},
        "keywords": {"type": "array", "items": {"type": "string"}, "maxItems": 20},
        "entities": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "text": {"type": "string"},
                    "type": {
                        "type": "string",
                        "enum": ["person", "organisation", "place", "date", "email", "url", "number", "other"],
                    },
                },
                "required": ["text", "type"],
                "additionalProperties": False,
            },
            "maxItems": 100,
        },
        "sentiment": {
            "type": "object",
            "properties": {
                "label": {"type": "string", "enum": ["positive", "neutral", "negative"]},
                "score": {"type": "number", "minimum": -1, "maximum": 1},
            },
            "required": ["label", "score"],
            "additionalProperties": False,
        },
        "language": {"type": "string", "pattern": "^([a-z]{2}|und)$"},
    },
    "required": ["summary", "keywords", "entities", "sentiment", "language"],
    "additionalProperties": False,
}

INSTRUCTION = (
    "Analyse the user's text. Answer with one JSON object: summary (at most three sentences), keywords, entities "
    "(text and type), sentiment (label, and score from -1 to 1) and language (ISO 639-1 code, or und)."
)
REPAIR = "That was not valid: {problem}. Answer again with the corrected JSON object and nothing else."

_validator = Draft202012Validator(SCHEMA)


class TextAnalysis(Kind):
    name = "text_analysis"
    label = "Text analysis"

    def clean(self, data: Mapping[str, Any], version: AgentVersion) -> JsonObject:
        return {"text": clean_text(data, "text", version)}

    def run(self, work: Work) -> Generator[str, None, Outcome]:
        text = work.task.input["text"]
        if work.model.is_builtin:
            return (yield from _classical(text, reason="no model server has a model for it"))
        try:
            output, repairs = _ask(work, text)
        except Interrupted:
            raise
        except OllamaUnavailable as error:
            if not work.version.allows_builtin_fallback:
                raise
            return (yield from _classical(text, reason=error.detail))
        yield json.dumps(output, ensure_ascii=False)
        return Outcome(output=output, is_truncated=_exceeds_window(work, text), notes={"repairs": repairs})


def _ask(work: Work, text: str) -> tuple[JsonObject, int]:
    """Ask the model, and once more if its answer breaks the schema; returns the answer and the number of repairs."""
    messages: tuple[Message, ...] = (
        Message(role="system", content=_instruction(work)),
        Message(role="user", content=text),
    )
    answer = _complete(work, messages)
    output, problem = parse(answer)
    if output is not None:
        return output, 0
    messages += (
        Message(role="assistant", content=answer),
        Message(role="user", content=REPAIR.format(problem=problem)),
    )
    output, problem = parse(_complete(work, messages))
    if output is not None:
        return output, 1
    raise CannotAnswer("invalid-output", f"The model's answer broke the schema twice: {problem}.")


def _instruction(work: Work) -> str:
    return "\n\n".join(part for part in (work.version.system_prompt, INSTRUCTION) if part)


def _complete(work: Work, messages: tuple[Message, ...]) -> str:
    options = {"temperature": 0, **model_options(work.version)}
    return "".join(chunk.text for chunk in work.model.chat(messages, options=options, schema=SCHEMA))


def parse(answer: str) -> tuple[JsonObject | None, str]:
    """Read a model's answer: the object, or None and what is wrong with it."""
    try:
        output = json.loads(answer)
    except (ValueError, RecursionError) as error:
        return None, f"it is no JSON ({error})"
    problem = next(iter(_validator.iter_errors(output)), None)
    return (output, "") if problem is None else (None, problem.message[:200])


def _classical(text: str, *, reason: str) -> Generator[str, None, Outcome]:
    """Analyse without a model, and say so."""
    output = analyse(text)
    yield json.dumps(output, ensure_ascii=False)
    return Outcome(output=output, is_degraded=True, notes={"degraded_because": reason})


def _exceeds_window(work: Work, text: str) -> bool:
    return estimate_tokens(text) + estimate_tokens(_instruction(work)) > work.model.context_tokens
