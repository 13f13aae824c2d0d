"""What can go wrong with an outgoing HTTP call. The message says in which phase, never a header or a body."""


class NetError(Exception):
    """An outgoing call failed; the subclass says how far it came. counts_for_breaker: it speaks against the target."""

    is_connection_error = False
    counts_for_breaker = False


class InvalidUrl(NetError):
    """The address cannot be used. Correct the configuration; do not retry."""


class AddressRefused(NetError):
    """The target is where such calls may not go; nothing was sent. Correct the address, or allow its network."""


class BreakerOpen(NetError):
    """The target's circuit breaker is open: it did not answer lately, and nothing was sent. Retry later."""


class PoolExhausted(NetError):
    """Every connection to the target was in use for longer than the pool may wait. Retry later, or send less."""


class ConnectFailed(NetError):
    """The target was never reached: refused, unknown name, or no answer in time. Retrying is safe."""

    is_connection_error = True
    counts_for_breaker = True


class FirstByteTimeout(NetError):
    """The target took the request and said nothing in time. It may still be working on it."""

    counts_for_breaker = True


class GapTimeout(NetError):
    """The body stopped coming. What was read so far is incomplete."""

    counts_for_breaker = True


class ConnectionLost(NetError):
    """The connection broke. With `body_began`, what was read so far is incomplete."""

    is_connection_error = True
    counts_for_breaker = True

    def __init__(self, detail: str, *, body_began: bool) -> None:
        super().__init__(detail)
        self.body_began = body_began


class NotHttp(NetError):
    """What answered does not speak HTTP. Check the address and port; do not retry."""

    counts_for_breaker = True


class DeadlineExceeded(NetError):
    """The call's own deadline passed. Do not retry: there is no time left."""


class Interrupted(NetError):
    """Someone called Interrupt.shutdown(). Stop; this is no failure of the target."""


class ResponseTooLarge(NetError):
    """The body exceeds what the caller accepts. Do not retry."""
