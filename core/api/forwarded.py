"""What proxies say of a request."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from core.net import clients


class ForwardedMiddleware:
    """Have everything behind it see what proxies say (X-Forwarded-…) only where they are trusted.

    Stands first: others read these headers, and Django keeps what it has read once.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        clients.forget_untrusted(request.META)
        return self.get_response(request)
