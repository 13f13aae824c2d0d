"""Addresses. `asgi.py` answers /health before Django sees it."""

from django.contrib import admin
from django.urls import include, path

from agents.admin import urls as agents_console
from agents.api import urls as agents_api
from agents.panel import urls as agents_panel
from core.account import urls as account
from core.admin import urls as core_console
from core.api import schema
from core.api import urls as core_api
from core.api.metrics import MetricsView
from core.api.routers import either_way
from core.panel import urls as core_panel

admin.autodiscover()

urlpatterns = [
    path("", include(account)),
    path("admin/", include(core_console)),
    path("admin/", include(agents_console)),
    path("admin/", admin.site.urls),
    either_way("api/v1", agents_api.root, "api-root"),
    path("api/v1/", include(agents_api)),
    path("", include(core_api)),
    path("", include(core_panel)),
    path("", include(agents_panel)),
    either_way("api/schema", schema.schema, "schema"),
    either_way("docs", schema.docs, "docs"),
    either_way("metrics", MetricsView.as_view(), "metrics"),
]

handler400 = "core.api.problems.bad_request"
handler403 = "core.api.problems.permission_denied"
handler404 = "core.api.problems.page_not_found"
handler500 = "core.api.problems.server_error"
