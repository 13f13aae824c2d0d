"""What can go wrong with Ollama, one class per kind, and what follows from it.

retryable: the same request may succeed later or elsewhere.
other_node_only: but not on the same node, where it would hang or fail again.
max_retries: how many retries are worth it; None leaves it to the caller.
counts_for_breaker: it speaks against the node's health. A first-byte timeout only does so when the node was not
    known to be busy, which the caller knows.
output_began: set by the client once it handed out text. Who forwarded that text and cannot take it back must not
    retry, whatever `retryable` says.
"""

from typing import ClassVar


class OllamaError(Exception):
    """Base of all. code: stable, for rows and metrics. status: Ollama's HTTP status, if it sent one."""

    code: ClassVar[str] = "ollama-error"
    retryable: ClassVar[bool] = False
    other_node_only: ClassVar[bool] = False
    max_retries: ClassVar[int | None] = None
    counts_for_breaker: ClassVar[bool] = False

    def __init__(self, detail: str, *, status: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.output_began = False


class OllamaUnavailable(OllamaError):
    """The node could not do it. Retry as the attributes say, another node first."""

    retryable = True


class ConnectFailed(OllamaUnavailable):
    """No server was reached at the node's address. Check that Ollama runs there and listens on that interface."""

    code = "connect-failed"
    counts_for_breaker = True


class AddressRefused(OllamaUnavailable):
    """The node's address is in no network of SUTAZAI_NODE_NETWORKS; nothing was sent. Correct either of them."""

    code = "address-refused"
    other_node_only = True


class PoolExhausted(OllamaUnavailable):
    """All our connections to the node were busy. Nothing is wrong with the node; retry, or allow it fewer tasks."""

    code = "pool-exhausted"


class ConnectionLost(OllamaUnavailable):
    """The connection broke before the first byte of the answer, as when Ollama restarts. Retry."""

    code = "connection-lost"
    counts_for_breaker = True


class FirstByteTimeout(OllamaUnavailable):
    """No answer began in time: a long load or queue, or a hung runner. Retry elsewhere, or raise the node's limit."""

    code = "first-byte-timeout"
    other_node_only = True
    counts_for_breaker = True


class Saturated(OllamaUnavailable):
    """The node's queue is full (503). Retry elsewhere or later, send it less; the node is healthy."""

    code = "saturated"


class ServerError(OllamaUnavailable):
    """Ollama answered 500: load failure, crashed runner, out of memory, a bad option. Retry once; read the detail."""

    code = "server-error"
    max_retries = 1
    counts_for_breaker = True


class BadGateway(OllamaUnavailable):
    """A proxy (or Ollama's cloud) answered 502 or 504: the server behind it is away. Retry."""

    code = "bad-gateway"
    counts_for_breaker = True


class IncompleteAnswer(OllamaUnavailable):
    """The answer began and did not end well. What came so far must not pass for an answer."""

    max_retries = 1
    counts_for_breaker = True


class GapTimeout(IncompleteAnswer):
    """The stream fell silent. The runner hangs or is overloaded; retry elsewhere."""

    code = "gap-timeout"
    other_node_only = True


class CutStream(IncompleteAnswer):
    """The connection broke in the middle of the answer, as when Ollama is killed."""

    code = "cut-stream"


class UnfinishedStream(IncompleteAnswer):
    """The answer ended politely without `done`: Ollama aborts so when a model repeats itself for ever."""

    code = "unfinished-stream"


class StreamError(IncompleteAnswer):
    """Ollama reported an error in the middle of its answer; the detail is its text."""

    code = "stream-error"


class NotOllama(OllamaUnavailable):
    """What answered does not speak Ollama's protocol. Check the node's URL."""

    code = "not-ollama"
    other_node_only = True
    counts_for_breaker = True


class ModelNotFound(OllamaUnavailable):
    """The node does not hold the model. Retry only on a node that does, or pull it."""

    code = "model-not-found"
    other_node_only = True


class OllamaRejected(OllamaError):
    """The request was refused (4xx) and would be refused again. Show the detail to whoever sent it."""

    code = "rejected"


class DeadlineExceeded(OllamaError):
    """The task's own deadline passed. There is no time left to retry."""

    code = "deadline-exceeded"


class Interrupted(OllamaError):
    """Our side ended the call: cancelled, lease lost, or stopping. No failure of the node; stop quietly."""

    code = "interrupted"
