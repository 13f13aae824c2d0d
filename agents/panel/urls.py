"""Addresses of the panel's pages about agents."""

from django.urls import path
from django.views.generic import RedirectView

from agents.panel import views
from core.api.routers import either_way

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="panel-dashboard"), name="panel-root"),
    either_way("dashboard", views.dashboard, "panel-dashboard"),
    either_way("chat", views.chat, "panel-chat"),
    path("chat/<uuid:session_id>/", views.chat, name="panel-session"),
]
