"""Addresses of the platform's own part of the API. Sign-in and notifications keep the addresses that clients know."""

from django.urls import include, path

from core.api.alerts import AlertViewSet
from core.api.auth import CsrfView, MeView, RefreshView, SignInView, SignOutView
from core.api.breakers import BreakerViewSet
from core.api.cache import CacheView, ClearView, InvalidateView
from core.api.cors import CorsCheckView
from core.api.keys import KeyViewSet
from core.api.notifications import NotificationViewSet
from core.api.pools import PoolsView
from core.api.routers import SlashAgnosticRouter, either_way
from core.api.usage import LimitsView
from core.api.workers import WorkersView

router = SlashAgnosticRouter()
router.include_root_view = False
router.register("alerts", AlertViewSet, basename="alert")
router.register("keys", KeyViewSet, basename="key")
router.register("circuit-breaker", BreakerViewSet, basename="circuit-breaker")

own = SlashAgnosticRouter()
own.include_root_view = False
own.register("notifications", NotificationViewSet, basename="notification")

urlpatterns = [
    either_way("api/auth/csrf", CsrfView.as_view(), "auth-csrf"),
    either_way("api/auth/login", SignInView.as_view(), "auth-login"),
    either_way("api/auth/refresh", RefreshView.as_view(), "auth-refresh"),
    either_way("api/auth/logout", SignOutView.as_view(), "auth-logout"),
    either_way("api/me", MeView.as_view(), "me"),
    either_way("api/v1/cache", CacheView.as_view(), "cache"),
    either_way("api/v1/cache/invalidate", InvalidateView.as_view(), "cache-invalidate"),
    either_way("api/v1/cache/clear", ClearView.as_view(), "cache-clear"),
    either_way("api/v1/cors-check", CorsCheckView.as_view(), "cors-check"),
    either_way("api/v1/limits", LimitsView.as_view(), "limits"),
    path("api/", include(own.urls)),
    either_way("api/v1/pools", PoolsView.as_view(), "pools"),
    either_way("api/v1/workers", WorkersView.as_view(), "workers"),
    path("api/v1/", include(router.urls)),
]
