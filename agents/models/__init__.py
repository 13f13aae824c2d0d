"""What the agents' side stores."""

from agents.models.agent import Agent, AgentVersion
from agents.models.chat import ChatMessage, ChatSession
from agents.models.node import Node, NodeModel
from agents.models.queue import QueueShare
from agents.models.task import AgentTask, TaskEvent

__all__ = [
    "Agent",
    "AgentTask",
    "AgentVersion",
    "ChatMessage",
    "ChatSession",
    "Node",
    "NodeModel",
    "QueueShare",
    "TaskEvent",
]
