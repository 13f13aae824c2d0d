"""Conversations."""

from django.conf import settings
from django.db import models

from agents.models.agent import Agent
from core.models import Team, UUIDModel


class ChatSession(UUIDModel):
    """A conversation with one agent: OPEN -> CLOSED (closed_at set) after a time without messages."""

    agent = models.ForeignKey(Agent, on_delete=models.PROTECT, related_name="sessions")
    title = models.CharField(max_length=120, blank=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="chat_sessions", db_index=False
    )
    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="chat_sessions")
    created_at = models.DateTimeField()
    last_active_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["owner", "-id"], name="sessions_of_owner"),  # a person's list of conversations
            # The housekeeping that closes idle conversations.
            models.Index(fields=["last_active_at"], condition=models.Q(closed_at=None), name="open_sessions"),
        ]

    def __str__(self) -> str:
        return self.title or f"Session {self.id}"


class ChatMessage(UUIDModel):
    """One message. A task's answer is written once: the constraint holds even if two runners tried."""

    class Role(models.TextChoices):
        USER = "user", "User"
        ASSISTANT = "assistant", "Assistant"

    session = models.ForeignKey(ChatSession, on_delete=models.CASCADE, related_name="messages", db_index=False)
    task = models.ForeignKey("AgentTask", on_delete=models.CASCADE, related_name="messages", db_index=False)
    role = models.CharField(max_length=10, choices=Role)
    content = models.TextField()
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [
            # Serves the look-up of a task's messages, and decides between two that write its answer.
            models.UniqueConstraint(fields=["task", "role"], name="message_once_per_task_and_role"),
        ]
        indexes = [
            models.Index(fields=["session", "id"], name="messages_of_session"),  # transcript and model context
        ]

    def __str__(self) -> str:
        return f"{self.role}: {self.content[:60]}"
