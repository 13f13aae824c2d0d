"""Which class of priority a task gets. Answers that somebody waits for are interactive, everything else is normal."""

from agents.engine.errors import PriorityNotPermitted
from agents.models import AgentTask

Priority = AgentTask.Priority

# What callers may ask for, by their names; to the front, operators move single tasks.
CLASSES = {priority.name.lower(): priority for priority in Priority if priority != Priority.FRONT}


def choose(wanted: Priority | None, usual: Priority, *, is_operator: bool) -> Priority:
    """Grant a caller's wish: anybody may wait behind others. Raises PriorityNotPermitted."""
    if wanted is None:
        return usual
    if wanted < usual and not is_operator:
        raise PriorityNotPermitted(f"Your tasks are {usual.label.lower()} here, or lower.")
    return wanted
