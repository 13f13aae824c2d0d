"""allauth's calls to an identity provider, sent through the program's one way out, and past a circuit breaker."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers

from core.net import addresses, places
from core.net.breakers import Dependency
from core.net.calls import Timeouts
from core.net.errors import BreakerOpen, NetError
from core.net.http import HttpResponse, pool

# Somebody waits before an empty page.
TIMEOUTS = Timeouts(connect=3, write=3, pool=3, first_byte=5, gap=5)
MAX_ANSWER_BYTES = 2**20

provider = Dependency("identity")


class ProviderAway(requests.ConnectionError):
    """The provider does not answer, or did not lately. is_away: for the page that tells people."""

    is_away = True


def session() -> requests.Session:
    """A session of requests whose calls take the pool. Redirects are refused: an issuer is where its address says."""
    made = requests.Session()
    made.trust_env = False
    made.max_redirects = 0
    made.headers["Accept-Encoding"] = "identity"
    for scheme in ("http://", "https://"):
        made.mount(scheme, _PoolTransport())
    return made


class _PoolTransport(BaseAdapter):
    def send(  # noqa: PLR0917 - as requests calls it
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        body = request.body.encode() if isinstance(request.body, str) else request.body
        headers = {name: value for name, value in request.headers.items() if name.lower() != "content-length"}
        try:
            answer, content = _ask(str(request.method), str(request.url), headers, body)
        except NetError as error:
            is_away = error.counts_for_breaker or isinstance(error, BreakerOpen)
            failure = ProviderAway if is_away else requests.ConnectionError
            raise failure(str(error), request=request) from error
        response = requests.Response()
        response.status_code = answer.status
        response.headers = CaseInsensitiveDict(answer.headers)
        response.encoding = get_encoding_from_headers(response.headers)
        response.url = str(request.url)
        response.request = request
        response._content = content
        return response

    def close(self) -> None:
        """The pool stays: it belongs to the process."""


def _ask(method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> tuple[HttpResponse, bytes]:
    """Make a call and read its answer. Raises NetError; BreakerOpen at once while the provider is away."""
    with (
        provider.call() as call,
        pool(places.EXTERNAL, addresses.identity).send(
            method, url, timeouts=TIMEOUTS, headers=headers, body=body
        ) as answer,
    ):
        content = answer.read(MAX_ANSWER_BYTES)
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            call.failure = f"It answered with {answer.status}."
    return answer, content
