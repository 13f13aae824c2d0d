"""What went wrong, in the words of the formats."""

import logging
from http import HTTPStatus

from agents.engine.answers import Ended
from agents.gateway.calls import Headers
from agents.gateway.formats.base import Failure
from agents.ollama.errors import OllamaError
from core.api import problems
from core.exceptions import Refused
from core.ops import traffic

logger = logging.getLogger(__name__)


class Refusal(Exception):
    """The call is refused, for this reason and with these headers."""

    def __init__(self, failure: Failure, headers: Headers = ()) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.headers = headers


# How it is told that there is no answer; other failures are the model server's.
STATUS = {
    "cancelled": HTTPStatus.CONFLICT,
    "cannot-embed": HTTPStatus.BAD_REQUEST,
    "connect-failed": HTTPStatus.SERVICE_UNAVAILABLE,
    "connection-lost": HTTPStatus.SERVICE_UNAVAILABLE,
    "context-overflow": HTTPStatus.BAD_REQUEST,
    "cut-stream": HTTPStatus.SERVICE_UNAVAILABLE,
    "deadline-passed": HTTPStatus.GATEWAY_TIMEOUT,
    "first-byte-timeout": HTTPStatus.GATEWAY_TIMEOUT,
    "gap-timeout": HTTPStatus.GATEWAY_TIMEOUT,
    "internal-error": HTTPStatus.INTERNAL_SERVER_ERROR,
    "model-not-found": HTTPStatus.NOT_FOUND,
    "model-unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
    "pool-exhausted": HTTPStatus.SERVICE_UNAVAILABLE,
    "poison": HTTPStatus.INTERNAL_SERVER_ERROR,
    "rejected": HTTPStatus.BAD_REQUEST,
    "saturated": HTTPStatus.SERVICE_UNAVAILABLE,
    "server-error": HTTPStatus.INTERNAL_SERVER_ERROR,
    "stream-error": HTTPStatus.INTERNAL_SERVER_ERROR,
}
RETRY_SECONDS = 5


def note(failure: Failure) -> None:
    """Count a failure that a client is told of, and log it where it is not the client's."""
    traffic.failed(failure.code, failure.status)
    if failure.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.warning("A call was answered with %d %s: %s", failure.status, failure.code, failure.message)


def of_task(ended: Ended) -> Failure:
    """Tell why a task has no answer."""
    return _failure(ended.error_code, ended.error_detail or "The task failed.")


def of_error(error: Exception) -> tuple[Failure, dict[str, str]]:
    """Tell what an error means to the client, and with which headers. What nobody expected is logged."""
    if isinstance(error, OllamaError):
        refused = refusal(_failure(error.code, error.detail))
        return refused.failure, dict(refused.headers)
    problem = problems.problem_of(error)
    if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.error("A call could not be answered.", exc_info=error)
    headers = problem.all_headers()
    if isinstance(error, Refused):
        return Failure.of(error), headers
    return Failure(status=problem.status, message=problem.detail or problem.title, code=problem.code), headers


def _failure(code: str, detail: str) -> Failure:
    return Failure(status=STATUS.get(code, HTTPStatus.BAD_GATEWAY), message=detail, code=code)


def refusal(failure: Failure, headers: Headers = ()) -> Refusal:
    """Refuse, and tell official clients whether to try again: what failed here was tried again already."""
    if failure.status == HTTPStatus.SERVICE_UNAVAILABLE:
        return Refusal(failure, [*headers, ("Retry-After", str(RETRY_SECONDS))])
    return Refusal(
        failure, [*headers, ("X-Should-Retry", "false")] if failure.status >= HTTPStatus.CONFLICT else headers
    )
