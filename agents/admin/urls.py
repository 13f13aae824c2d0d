"""Console pages that belong to no model."""

from django.contrib import admin
from django.urls import path

from agents.admin import queue
from agents.admin.playground import playground

urlpatterns = [
    path("playground/", admin.site.admin_view(playground), name="console-playground"),
    path("queue/", admin.site.admin_view(queue.page), name="console-queue"),
]
