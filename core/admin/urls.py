"""Console pages that belong to no model."""

from allauth.account.views import logout
from django.contrib import admin
from django.urls import path
from django.views.generic import RedirectView

from core.admin import alerts, cache, dashboard, doors, health, pools, workers

urlpatterns = [
    path("dashboard/", admin.site.admin_view(dashboard.refresh), name="console-dashboard"),
    path("alerts/", admin.site.admin_view(alerts.watched), name="console-alerts-watched"),
    path("cache/", admin.site.admin_view(cache.overview), name="console-cache"),
    path("cache/invalidate/", admin.site.admin_view(cache.invalidate), name="console-cache-invalidate"),
    path("cache/clear/", admin.site.admin_view(cache.clear), name="console-cache-clear"),
    path("cache/entry/", admin.site.admin_view(cache.entry), name="console-cache-entry"),
    path("health/", admin.site.admin_view(health.page), name="console-health"),
    path("pools/", admin.site.admin_view(pools.page), name="console-pools"),
    path("workers/", admin.site.admin_view(workers.page), name="console-workers"),
    # There is one door and one page for the own password; Django's own would know no second factor.
    path("login/", doors.sign_in, name="console-sign-in"),
    path("logout/", logout, name="console-sign-out"),
    path("password_change/", RedirectView.as_view(pattern_name="account_change_password")),
]
