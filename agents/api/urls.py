"""Addresses of the API's first version."""

from agents.api.chat import ChatView
from agents.api.tasks import TaskViewSet
from core.api.routers import SlashAgnosticRouter, either_way

router = SlashAgnosticRouter()
router.register("tasks", TaskViewSet, basename="task")

urlpatterns = [
    either_way("chat", ChatView.as_view(), "chat"),
    *router.urls,
]
root = router.get_api_root_view()
