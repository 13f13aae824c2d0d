"""Console pages that belong to no model."""

from django.contrib import admin
from django.urls import path

from core.admin import dashboard

urlpatterns = [
    path("dashboard/", admin.site.admin_view(dashboard.refresh), name="console-dashboard"),
]
