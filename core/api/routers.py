"""Addresses that answer with and without their trailing slash, without a redirect."""

from django.urls import URLPattern, URLResolver, re_path
from rest_framework.routers import DefaultRouter


class SlashAgnosticRouter(DefaultRouter):
    include_format_suffixes = False

    def __init__(self) -> None:
        super().__init__()
        self.trailing_slash = "/?"


def either_way(path: str, view: object, name: str) -> URLPattern | URLResolver:
    """Route a fixed path such as "api/schema", with or without its trailing slash."""
    return re_path(rf"^{path}/?$", view, name=name)  # type: ignore[call-overload, no-any-return]
