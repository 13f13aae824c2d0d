"""Hints between the parts of a process: what was granted, what has news, what ended.

Nothing depends on a hint being heard: the relay publishes grants that nobody announced, and followers look at the
rows from time to time anyway. So a process without listeners, such as a management command, is complete.
"""

import uuid
from collections.abc import Callable, Sequence

from agents.engine.statements import Change

Listener = Callable[[Sequence[uuid.UUID]], None]

# Called after the commit, in the thread that committed; they must not block.
granted_listeners: list[Listener] = []
changed_listeners: list[Listener] = []
moved_listeners: list[Callable[[Sequence[Change]], None]] = []


def granted(task_ids: Sequence[uuid.UUID]) -> None:
    """Tell that tasks were given a slot and wait for a runner."""
    for listener in granted_listeners:
        listener(task_ids)


def changed(task_ids: Sequence[uuid.UUID]) -> None:
    """Tell that tasks have new events."""
    for listener in changed_listeners:
        listener(task_ids)


def moved(changes: Sequence[Change]) -> None:
    """Tell that tasks ended or went back to the queue: each as it was before, but for its status, and what changed."""
    for listener in moved_listeners:
        listener(changes)
