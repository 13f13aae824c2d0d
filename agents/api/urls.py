"""Addresses of the API's first version."""

from agents.api.agents import AgentViewSet, VersionViewSet
from agents.api.chat import ChatView
from agents.api.nodes import NodeModelViewSet, NodeViewSet
from agents.api.queue import QueueView
from agents.api.sessions import MessageViewSet, SessionViewSet
from agents.api.tasks import TaskViewSet
from core.api.routers import SlashAgnosticRouter, either_way

router = SlashAgnosticRouter()
router.register("agents", AgentViewSet, basename="agent")
router.register(r"agents/(?P<agent_pk>[^/.]+)/versions", VersionViewSet, basename="agent-version")
router.register("nodes", NodeViewSet, basename="node")
router.register(r"nodes/(?P<node_pk>[^/.]+)/models", NodeModelViewSet, basename="node-model")
router.register("sessions", SessionViewSet, basename="session")
router.register(r"sessions/(?P<session_pk>[^/.]+)/messages", MessageViewSet, basename="session-message")
router.register("tasks", TaskViewSet, basename="task")

urlpatterns = [
    either_way("chat", ChatView.as_view(), "chat"),
    either_way("queue", QueueView.as_view(), "queue"),
    *router.urls,
]
root = router.get_api_root_view()
