"""allauth's calls to an identity provider, sent through the program's one way out."""

from collections.abc import Mapping
from typing import Any

import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers

from core.net import addresses, places
from core.net.calls import Timeouts
from core.net.errors import NetError
from core.net.http import pool

# Somebody waits before an empty page.
TIMEOUTS = Timeouts(connect=3, write=3, pool=3, first_byte=5, gap=5)
MAX_ANSWER_BYTES = 2**20


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
            with pool(places.EXTERNAL, addresses.identity).send(
                str(request.method), str(request.url), timeouts=TIMEOUTS, headers=headers, body=body
            ) as answer:
                content = answer.read(MAX_ANSWER_BYTES)
        except NetError as error:
            raise requests.ConnectionError(str(error), request=request) from error
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
