"""One readable log of several programs: whole lines, each with the name of who wrote it."""

import queue
import threading
from typing import BinaryIO

from core import logs

MAX_WAITING_LINES = 10_000
MAX_LINE_BYTES = 64 * 1024
CLOSE_TIMEOUT_SECONDS = 2
COLOURS = (36, 33, 35, 32, 34)  # cyan, yellow, magenta, green, blue: readable on dark and light
RESET = b"\x1b[0m"


class JointLog:
    """Writes in a thread of its own, so that a reader that stops reading never stops what is logged.

    Lines that nobody takes are dropped and counted. as_json: every line becomes an object that names its program.
    """

    def __init__(self, output: BinaryIO, names: list[str], *, colour: bool, as_json: bool = False) -> None:
        self._output = output
        self._as_json = as_json
        self._prefixes = {
            name: _prefix(name, position, max(map(len, names)), colour) for position, name in enumerate(names)
        }
        self._lines: queue.Queue[tuple[str, bytes | str] | None] = queue.Queue(MAX_WAITING_LINES)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write_lines, name="joint-log", daemon=True)
        self._thread.start()

    def write(self, name: str, line: bytes | str) -> None:
        """Add one line, without its newline."""
        try:
            if self._dropped:
                self._lines.put_nowait((name, f"({self._dropped} lines dropped)"))
                self._dropped = 0
            self._lines.put_nowait((name, line))
        except queue.Full:
            self._dropped += 1

    def _formed(self, name: str, line: bytes | str) -> bytes:
        text = line.decode("utf-8", "replace") if isinstance(line, bytes) else line
        if self._as_json:
            return logs.json_line(name, text).encode() + b"\n"
        return self._prefixes[name] + logs.mask(text).encode("utf-8", "replace") + b"\n"

    def close(self) -> None:
        """Write what waits, as far as somebody still reads."""
        try:
            self._lines.put(None, timeout=CLOSE_TIMEOUT_SECONDS)
        except queue.Full:
            return
        self._thread.join(CLOSE_TIMEOUT_SECONDS)

    def _write_lines(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._output.write(self._formed(*line))
                if self._lines.empty():
                    self._output.flush()
            except OSError:  # the reader is gone; a server does not die of that
                continue
        self._flush_last()

    def _flush_last(self) -> None:
        try:
            self._output.flush()
        except OSError:
            return


class LineSplitter:
    """Makes whole lines of the pieces that a pipe delivers."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> list[bytes]:
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            lines.append(self._rest)
            self._rest = b""
        return lines

    def end(self) -> list[bytes]:
        """Return what came after the last newline, if anything."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []


def _prefix(name: str, position: int, width: int, colour: bool) -> bytes:
    label = f"{name:<{width}} | ".encode()
    return b"\x1b[%dm" % COLOURS[position % len(COLOURS)] + label + RESET if colour else label
