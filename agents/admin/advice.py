"""What an operator can do about a task that ended badly, by its error code."""

from agents.ollama import errors

_OWN = {
    "cancelled": "Somebody cancelled it. Retry it if the answer is still wanted.",
    "deadline-passed": "It took longer than the agent's deadline allows. See where the time went, then add slots or "
    "nodes, choose a smaller model, or raise the deadline in a new version of the agent.",
    "deadline-exceeded": "The task's own deadline passed. Raise it in a new version of the agent, or add slots.",
    "context-overflow": "The conversation does not fit the model's window. Begin a new session, raise num_ctx, or let "
    "the agent drop or summarise its oldest turns.",
    "invalid-output": "The model's answers did not follow the schema. Try a larger model.",
    "cut-stream": "Look into Ollama's log and its machine's memory, then retry the task.",
    "stream-error": "Read Ollama's own words; its log may say more. Retry once.",
    "server-error": "Read Ollama's own words: a load failure, a crashed runner, too little memory, a bad option.",
    "internal-error": "The agent itself failed; the log of the worker has the details.",
    "poison": "Every process that ran this task died. Look into the worker's log before you retry it.",
}


def _from_classes(base: type[errors.OllamaError]) -> dict[str, str]:
    """Take the advice that stands in the docstrings of the error classes."""
    found = {} if base.__doc__ is None or "code" not in vars(base) else {base.code: base.__doc__}
    for child in base.__subclasses__():
        found |= _from_classes(child)
    return found


ADVICE = {**_from_classes(errors.OllamaError), **_OWN}


def advice(error_code: str) -> str:
    return ADVICE.get(error_code, "")
