"""What the panel's pages have in common."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from core.models import User


def person_of(request: HttpRequest) -> User:
    """Return who is signed in, in a view that lets in nobody else."""
    assert isinstance(request.user, User)
    return request.user


def page(request: HttpRequest, template: str, *, name: str, title: str, **context: Any) -> HttpResponse:
    """Draw a page of the panel. name: its place in the menu."""
    shared = {"page": name, "title": title}
    response = TemplateResponse(request, f"panel/{template}.html", {**shared, **context})
    response["Cache-Control"] = "private, no-store"
    return response
