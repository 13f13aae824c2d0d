"""Ending calls of other threads. Whoever calls from the event loop cancels the task instead."""

import contextlib
import socket
import threading

from core.net.errors import Interrupted


class Interrupt:
    """A switch that ends the calls it was given to, for good: a call begun afterwards raises at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._is_set = False

    @property
    def is_set(self) -> bool:
        return self._is_set

    def shutdown(self) -> None:
        """End every call under way within milliseconds; safe from any thread, and more than once."""
        with self._lock:
            self._is_set = True
            for sock in self._sockets:
                with contextlib.suppress(OSError):  # already closed by the peer
                    # Not SSLSocket.shutdown, which would drop the TLS state under the reading thread.
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def attach(self, sock: socket.socket) -> None:
        """Register a socket; raises Interrupted when it is already too late."""
        with self._lock:
            if self._is_set:
                raise Interrupted("interrupted")
            self._sockets.add(sock)

    def detach(self, sock: socket.socket) -> None:
        """Forget a socket, before it is closed or lent to another call."""
        with self._lock:
            self._sockets.discard(sock)
