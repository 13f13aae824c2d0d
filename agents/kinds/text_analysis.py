"""Text analysis: summary, keywords, entities, sentiment and language, as JSON that was checked against a schema."""

import json
from collections.abc import Generator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from agents.builtin.analysis import analyse, summarise
from agents.kinds.base import (
    CannotAnswer,
    Kind,
    Outcome,
    Work,
    clean_text,
    cut_to_fit,
    estimate_tokens,
    model_options,
    prompt_budget,
)
from agents.models import AgentTask, AgentVersion
from agents.ollama.errors import OllamaUnavailable
from agents.ollama.protocol import clean
from agents.ollama.types import ChatChunk, JsonObject, Message

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

ISO_639_1 = """
aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en
eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja
jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb
nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq
sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
"""
# "und" for a text that none of them tells.
LANGUAGES = [*ISO_639_1.split(), "und"]

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
        "language": {"type": "string", "enum": LANGUAGES},
    },
    "required": ["summary", "keywords", "entities", "sentiment", "language"],
    "additionalProperties": False,
}

INSTRUCTION = (
    "Analyse the user's text. Answer with one JSON object: summary (at most three sentences), keywords, entities "
    "(text and type), sentiment (label, and score from -1 to 1) and language (ISO 639-1 code, or und)."
)
REPAIR = "That was not valid: {problem}. Answer again with the corrected JSON object and nothing else."

TOKENS_PER_SENTENCE = 30  # a long one; fewer sentences are tried where these do not fit


@cache
def _validator() -> "Draft202012Validator":
    """Import the library where it is needed: with its formats it takes as long as all of Django."""
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - see above

    return Draft202012Validator(SCHEMA)


class TextAnalysis(Kind):
    name = "text_analysis"
    label = "Text analysis"

    def clean(self, data: Mapping[str, Any], version: AgentVersion) -> JsonObject:
        return {"text": clean_text(data, "text", version)}

    def input_of(self, call: JsonObject) -> JsonObject:
        """The text is what was said last."""
        said = [message.get("content", "") for message in call.get("messages", []) if message.get("role") == "user"]
        return {"text": said[-1] if said else call.get("prompt", "")}

    def estimate_prompt(self, task: AgentTask, *, at_most: int) -> int:
        return super().estimate_prompt(task, at_most=at_most) + estimate_tokens(INSTRUCTION)

    def run(self, work: Work) -> Generator[ChatChunk, None, Outcome]:
        text = work.task.input["text"]
        if work.model.is_builtin:
            return (yield from _classical(text, reason="No model server has a model for it."))
        shown = fit_text(work, text)
        try:
            output, repairs = _ask(work, shown)
        except (OllamaUnavailable, CannotAnswer) as failure:
            if not _may_fall_back(work, failure):
                raise
            return (yield from _classical(text, reason=failure.detail))
        yield ChatChunk(text=json.dumps(output, ensure_ascii=False))
        return Outcome(output=output, is_truncated=shown != text, notes={"repairs": repairs})


def _may_fall_back(work: Work, failure: OllamaUnavailable | CannotAnswer) -> bool:
    """A node that failed once is tried again, or another one is, before classical methods take over."""
    is_last_try = isinstance(failure, CannotAnswer) or work.task.attempts > 0
    return work.version.allows_builtin_fallback and is_last_try


def fit_text(work: Work, text: str) -> str:
    """Choose what of a long text the model is shown, by the version's truncation policy.

    Raises CannotAnswer when the policy is to refuse what does not fit.
    """
    budget = prompt_budget(work) - estimate_tokens(_instruction(work))
    if estimate_tokens(text) <= budget:
        return text
    if work.version.truncation == AgentVersion.Truncation.REJECT:
        raise CannotAnswer(
            "context-overflow",
            f"The text does not fit into the {max(0, budget)} tokens that the model can read at once.",
        )
    if work.version.truncation == AgentVersion.Truncation.COMPACT:
        sentences = budget // TOKENS_PER_SENTENCE
        while sentences > 0 and estimate_tokens(summary := summarise(text, sentences)) > budget:
            sentences = sentences * 3 // 4
        if sentences > 0:
            return summary
    return cut_to_fit(text, budget)


def _ask(work: Work, text: str) -> tuple[JsonObject, int]:
    """Ask the model, and once more if its answer breaks the schema; returns the answer and how many repairs it took.

    Raises CannotAnswer when both answers break it.
    """
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
        # Escapes may stand for characters that no database holds, which the text of the answer did not show.
        output = clean(json.loads(answer, parse_constant=_refuse_constant))
    except (ValueError, RecursionError) as error:
        return None, f"it is no JSON ({error})"
    problem = next(iter(_validator().iter_errors(output)), None)
    return (output, "") if problem is None else (None, problem.message[:200])


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _classical(text: str, *, reason: str) -> Generator[ChatChunk, None, Outcome]:
    """Analyse without a model, and say so."""
    output = analyse(text)
    yield ChatChunk(text=json.dumps(output, ensure_ascii=False))
    return Outcome(output=output, is_degraded=True, notes={"degraded_because": reason})
