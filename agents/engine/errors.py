"""How the engine refuses."""

from core.exceptions import Refused


class ModelNotAvailable(Refused):
    """No node has the model. Pull it on a node, add a node that has it, or choose another model."""

    status = 409
    code = "model-not-available"
    title = "No node has this model"

    def __init__(self, model: str) -> None:
        super().__init__(f"No node has the model {model!r}. Pull it on a node, or choose another model.")


class ModelUnreachable(Refused):
    """The breakers of all nodes that have the model are open. Try again soon: a node that is back is noticed."""

    status = 503
    code = "model-unavailable"
    title = "Every node that has this model is down"
    retry_after_seconds = 5

    def __init__(self, model: str) -> None:
        super().__init__(f"No node that has the model {model!r} works now.")


class ModelNotPermitted(Refused):
    """The caller's key is limited to other models. Use another agent, or another key."""

    status = 403
    code = "model-not-permitted"
    title = "This model is not among those that you may use"


class QueueFull(Refused):
    """Too many tasks wait for the model already. Try again later."""

    status = 503
    code = "queue-full"
    title = "The queue is full"

    def __init__(self, model: str, waiting: int, *, retry_after_seconds: int) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(f"{waiting} tasks already wait for the model {model!r}.")


class AgentNotReady(Refused):
    """The agent is disabled or has no live version. An operator can change that in the console."""

    status = 409
    code = "agent-not-ready"
    title = "This agent takes no tasks"


class SessionClosed(Refused):
    """The conversation was closed or belongs to another agent. Begin a new one."""

    status = 409
    code = "session-not-usable"
    title = "This conversation takes no messages"


class PriorityNotPermitted(Refused):
    """Only operators may have their tasks go before those of others. Ask for the usual class, or a lower one."""

    status = 403
    code = "priority-not-permitted"
    title = "Only operators may choose a higher class"


class DoesNotWait(Refused):
    """Only a waiting task has a place in a queue."""

    status = 409
    code = "task-does-not-wait"
    title = "The task does not wait"


class NotFinished(Refused):
    """Only a finished task can be submitted again."""

    status = 409
    code = "task-not-finished"
    title = "The task is not finished"


class AlreadyFinished(Refused):
    """The task had ended before it could be cancelled."""

    status = 409
    code = "task-already-finished"
    title = "The task is already finished"
