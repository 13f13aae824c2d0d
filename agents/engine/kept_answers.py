"""Answers that may be given again: of which calls, under which key, and what is kept of them.

A call is kept where its answer would be the same again: embeddings, and texts at temperature 0; or where its caller
says so. The key holds all that the answer depends on, and the team: nobody gets what was made for another team.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from django.conf import settings

from agents.engine import remembered
from agents.engine.pieces import chunk_of
from agents.kinds.model_call import EMBED, ModelCall
from agents.models import AgentTask
from agents.ollama.types import ChatChunk, JsonObject
from core import cache
from core.cache import Stamp

# What says how a call is to be answered, and nothing about the answer.
_ABOUT_THE_CALL = AgentTask.NOTES | {"keep_alive"}
_FIGURES = ("model", "done_reason", "prompt_tokens", "output_tokens", "total_seconds", "load_seconds",
            "prompt_eval_seconds", "eval_seconds")  # fmt: skip


@dataclass(frozen=True)
class Kept:
    """An answer as it was first given. piece: all that the model made; last: the chunk that it ended with."""

    piece: JsonObject
    last: ChatChunk
    output: JsonObject
    is_truncated: bool
    node: str

    @property
    def whole(self) -> ChatChunk:
        return chunk_of(self.piece)

    def encode(self) -> bytes:
        figures = {name: getattr(self.last, name) for name in _FIGURES}
        return json.dumps({**asdict(self), "last": figures}, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> "Kept":
        value: dict[str, Any] = json.loads(data)
        return cls(**{**value, "last": ChatChunk(**value["last"], done=True)})


def key_of(task: AgentTask, *, wish: bool | None, is_part: bool = False) -> str:
    """The key that equal calls share; empty where an answer must be made anew.

    wish: what the caller says: share, do not, or nothing. is_part: the task is a part of a call, which may end with
    that call, and so shares with parts of calls alone.
    """
    if task.kind != ModelCall.name or wish is False or not settings.CACHE_SECONDS:
        return ""
    if wish is None and not _is_deterministic(task):
        return ""
    call = {name: value for name, value in task.input.items() if name not in _ABOUT_THE_CALL}
    what = [str(task.team_id), task.model, remembered.builds(task.model), str(task.version_id), call]
    if is_part:
        what.append("part")
    return hashlib.sha256(json.dumps(what, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _is_deterministic(task: AgentTask) -> bool:
    options = {**task.version.options, **task.input.get("options", {})}
    return task.input["operation"] == EMBED or options.get("temperature") == 0


def find(task: AgentTask) -> Kept | None:
    """Find the answer to a call that has a key."""
    found = cache.get(task.request_key, _tags(task))
    return None if isinstance(found, Stamp) else Kept.decode(found.value)


def stamp(task: AgentTask) -> Stamp | None:
    """Note when the making of an answer begins, so that what is invalidated meanwhile is not kept."""
    return cache.stamp(_tags(task)) if task.request_key else None


def keep(task: AgentTask, stamp: Stamp | None, kept: Kept) -> None:
    """Keep an answer, unless it is less than what the model would say: cut to its window.

    Called before the task ends, so that whoever asks again as soon as it has ended gets it.
    """
    is_whole = not kept.is_truncated or kept.last.done_reason == "length"
    if stamp is not None and is_whole:
        cache.put(task.request_key, kept.encode(), stamp, ttl_seconds=settings.CACHE_SECONDS)


def _tags(task: AgentTask) -> Sequence[str]:
    return (f"agent:{task.agent_id}", f"model:{task.model}"[:100], f"team:{task.team_id}")
