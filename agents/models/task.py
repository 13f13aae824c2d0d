"""The durable unit of work, and the append-only record of what happened to it."""

import functools
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, models
from django.db.models.base import ModelState

from agents.models.agent import Agent, AgentVersion
from agents.models.chat import ChatSession
from agents.models.node import Node, NodeModel
from core.models import ApiKey, Team, UUIDModel


class AgentTaskQuerySet(models.QuerySet["AgentTask"]):
    def queued(self) -> "AgentTaskQuerySet":
        return self.filter(status=AgentTask.Status.QUEUED)

    def running(self) -> "AgentTaskQuerySet":
        return self.filter(status=AgentTask.Status.RUNNING)

    def unfinished(self) -> "AgentTaskQuerySet":
        return self.filter(status__in=AgentTask.UNFINISHED_STATUSES)


class AgentTask(UUIDModel):
    """A task that was accepted and will end, whatever dies on the way.

    QUEUED -> RUNNING -> SUCCEEDED | FAILED | CANCELLED | EXPIRED
    RUNNING -> QUEUED when its runner died, stopped, or met an error worth another try
    QUEUED -> CANCELLED | EXPIRED
    WAITING_APPROVAL is promised to clients for kinds that ask a person; no kind does yet, and no step leads there.
    Only `agents.engine` moves it.
    """

    class Status(models.TextChoices):
        QUEUED = "queued", "Queued"
        RUNNING = "running", "Running"
        WAITING_APPROVAL = "waiting_approval", "Waiting for approval"
        SUCCEEDED = "succeeded", "Succeeded"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"
        EXPIRED = "expired", "Expired"

    class Priority(models.IntegerChoices):
        """Who goes first. People and programs ask for the last three; operators move single tasks to the front."""

        FRONT = 0, "Front"
        INTERACTIVE = 1, "Interactive"
        NORMAL = 2, "Normal"
        BACKGROUND = 3, "Background"

    UNFINISHED_STATUSES = (Status.QUEUED, Status.RUNNING, Status.WAITING_APPROVAL)
    # What is noted in an input beside what was asked: in what shape its client expects the answer, which further tasks
    # answer the same call, and which trace it belongs to.
    NOTES = frozenset({"client", "parts", "trace"})
    FINISHED_STATUSES = (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.EXPIRED)

    # What was asked.
    agent = models.ForeignKey(Agent, on_delete=models.PROTECT, related_name="tasks", db_index=False)
    version = models.ForeignKey(AgentVersion, on_delete=models.PROTECT, related_name="tasks", db_index=False)
    kind = models.SlugField(max_length=40)
    model = models.CharField(max_length=200, help_text="Canonical name of the model to run on.")
    session = models.ForeignKey(
        ChatSession, on_delete=models.SET_NULL, null=True, blank=True, related_name="tasks", db_index=False
    )
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="agent_tasks", db_index=False
    )
    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="agent_tasks", db_index=False)
    api_key = models.ForeignKey(
        ApiKey,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        db_index=False,
        help_text="The key that submitted it; empty for a person's sign-in.",
    )
    request_key = models.CharField(
        max_length=64, blank=True, help_text="Equal for tasks whose answer would be the same; empty: nobody shares it."
    )
    retry_of = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, blank=True, related_name="retries")
    input = models.JSONField()
    deadline_at = models.DateTimeField()
    priority = models.PositiveSmallIntegerField(choices=Priority, default=Priority.NORMAL)

    # Where it stands.
    status = models.CharField(max_length=20, choices=Status, default=Status.QUEUED)
    created_at = models.DateTimeField()
    granted_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    first_output_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    run_after = models.DateTimeField(null=True, blank=True, help_text="Not before this moment: a retry waits.")
    attempts = models.PositiveSmallIntegerField(default=0, help_text="Tries that ended in an error worth another.")
    interruptions = models.PositiveSmallIntegerField(
        default=0, help_text="Times a process died that this task may have killed."
    )
    event_count = models.PositiveIntegerField(default=0, help_text="Number of the last event.")

    # Who works on it. Every write of a runner names the fence that its grant raised.
    node = models.ForeignKey(
        Node, on_delete=models.SET_NULL, null=True, blank=True, related_name="tasks", db_index=False
    )
    node_model = models.ForeignKey(
        NodeModel, on_delete=models.SET_NULL, null=True, blank=True, related_name="tasks", db_index=False
    )
    fence = models.PositiveBigIntegerField(default=0)
    runner = models.CharField(
        max_length=200, blank=True, help_text="The process that runs it; empty until one took it."
    )
    reserved_for = models.CharField(
        max_length=200, blank=True, help_text="The process that waits to run it itself; empty: any runner may."
    )
    avoided_node = models.ForeignKey(
        Node,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        db_index=False,
        help_text="Where it failed last: it goes elsewhere, if there is anywhere else.",
    )
    lease_until = models.DateTimeField(null=True, blank=True)
    announced_at = models.DateTimeField(null=True, blank=True, help_text="When its grant was published to runners.")

    # How it ended.
    result = models.TextField(null=True, blank=True)  # noqa: DJ001 - null is "no answer", "" an empty one
    output = models.JSONField(null=True, blank=True, help_text="The answer as data, where the kind gives some.")
    error_code = models.SlugField(max_length=60, blank=True)
    error_detail = models.TextField(blank=True)
    is_truncated = models.BooleanField(default=False)
    is_degraded = models.BooleanField(default=False)
    prompt_tokens = models.PositiveIntegerField(null=True, blank=True)
    output_tokens = models.PositiveIntegerField(null=True, blank=True)
    receipt = models.JSONField(null=True, blank=True)

    # What it costs those it counts for. Both are empty where none of them had a token budget.
    reserved_tokens = models.PositiveIntegerField(null=True, blank=True, help_text="By estimate, until its end.")
    charged_tokens = models.PositiveIntegerField(null=True, blank=True, help_text="In their place, since its end.")

    objects = AgentTaskQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(status__in=["queued", "running", "waiting_approval"], finished_at=None)
                | models.Q(status__in=["succeeded", "failed", "cancelled", "expired"], finished_at__isnull=False),
                name="finished_tasks_have_a_moment",
            ),
            models.CheckConstraint(
                condition=~models.Q(status="running") | models.Q(lease_until__isnull=False, node_model__isnull=False),
                name="running_tasks_have_a_lease",
            ),
            models.CheckConstraint(
                condition=~models.Q(status="succeeded") | models.Q(result__isnull=False),
                name="succeeded_tasks_have_a_result",
            ),
        ]
        indexes = [
            # The grant: each person's oldest waiting tasks of a class. It finds all that it asks for here: the rows
            # may be long, for they hold what was asked.
            models.Index(
                fields=["model", "priority", "team", "owner", "id", "created_at", "run_after", "deadline_at"],
                condition=models.Q(status="queued"),
                name="queue_of_model",
            ),
            # The grant: how many slots of a model on a node are taken.
            models.Index(fields=["node_model"], condition=models.Q(status="running"), name="running_on_node_model"),
            # The reaper: leases that ran out; and the relay: grants that nobody took.
            models.Index(fields=["lease_until"], condition=models.Q(status="running"), name="leases"),
            # The reaper: deadlines that passed.
            models.Index(
                fields=["deadline_at"],
                condition=models.Q(status__in=["queued", "running", "waiting_approval"]),
                name="deadlines",
            ),
            # The submission: equal requests that are being answered already.
            models.Index(
                fields=["request_key"],
                condition=~models.Q(request_key="") & models.Q(status__in=["queued", "running", "waiting_approval"]),
                name="equal_requests",
            ),
            models.Index(fields=["owner", "-id"], name="tasks_of_owner"),  # a person's list
            models.Index(fields=["status", "-id"], name="tasks_by_status"),  # the console's list, filtered
            models.Index(fields=["agent", "-id"], name="tasks_of_agent"),  # lists filtered by agent
            models.Index(fields=["session", "id"], name="tasks_of_session"),  # the transcript
            models.Index(fields=["finished_at"], name="tasks_by_end"),  # the dashboard's last hour
        ]

    def __str__(self) -> str:
        return f"{self.kind} task {self.id}"

    @classmethod
    def draft(cls, rows: Mapping[str, UUIDModel | None], **columns: Any) -> "AgentTask":
        """Make a task that is not saved, as the constructor does with the same arguments, which takes 200 calls.

        rows: what foreign keys point to. columns: the other fields that are not as they are by default, and the key.
        """
        task = cls.__new__(cls)
        task._state = ModelState()
        task._state.db, task._state.fields_cache = DEFAULT_DB_ALIAS, {**rows}
        keys = {f"{name}_id": row.id if row else None for name, row in rows.items()}
        task.__dict__.update(_defaults(), **keys, **columns)
        return task

    def __copy__(self) -> "AgentTask":
        """Another instance with the same values. Left to itself, Python would pickle one."""
        twin = AgentTask.__new__(AgentTask)
        twin.__dict__.update(self.__dict__, _state=ModelState())
        twin._state.db, twin._state.adding = self._state.db, self._state.adding
        twin._state.fields_cache = dict(self._state.fields_cache)
        return twin

    @property
    def asked(self) -> dict[str, Any]:
        """The input as it was asked for, without what is noted beside it."""
        return {name: value for name, value in self.input.items() if name not in self.NOTES}

    @property
    def is_finished(self) -> bool:
        return self.status in self.FINISHED_STATUSES


@functools.cache
def _defaults() -> dict[str, Any]:
    """What the fields of a new task hold that nobody gives; all of it may be shared, for nothing in it changes."""
    fields = AgentTask._meta.concrete_fields
    return {field.attname: field.get_default() for field in fields if not field.primary_key}


class TaskEvent(models.Model):
    """What happened to a task, in order. Numbers run from 1 without gaps; rows are never changed.

    Long after its end, the pieces of its answer become one, which leaves gaps (see `agents.engine.pruning`).
    """

    class Type(models.TextChoices):
        STATE = "state", "State"
        DELTA = "delta", "Text"
        DONE = "done", "Done"
        ERROR = "error", "Error"

    pk = models.CompositePrimaryKey("task_id", "number")  # also serves the followers: a task's events after a number
    task = models.ForeignKey(AgentTask, on_delete=models.CASCADE, related_name="events", db_index=False)
    number = models.PositiveIntegerField()
    type = models.CharField(max_length=10, choices=Type)
    # One line of JSON, kept as text because it is sent on as it stands, thousands of times a second.
    data = models.TextField()
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["task", "number"]

    def __str__(self) -> str:
        return f"{self.number} {self.type}"
