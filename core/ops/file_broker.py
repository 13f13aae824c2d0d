"""The embedded broker: kombu's filesystem transport, made safe against readers and deaths at the wrong moment.

Kombu's own writes messages and bindings into their final files. A reader may catch one empty, which ends a worker, and
a writer that dies leaves it so for ever. Here everything is written beside its place and renamed into it, and a
message is taken by another rename, within its folder.
"""

import fcntl
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty
from time import monotonic_ns
from typing import Any

from kombu.exceptions import ChannelError
from kombu.transport import TRANSPORT_ALIASES, filesystem
from kombu.utils.json import dumps, loads

Binding = filesystem.exchange_queue_t
Table = list[filesystem.exchange_queue_t]

SUFFIX = ".msg"
WRITING = ".new"
TAKEN = ".taken"
LEFT_BEHIND_SECONDS = 60  # writing and reading take milliseconds
LONGEST_WAIT_SECONDS = 0.25


class Channel(filesystem.Channel):
    """Messages are files `<time>_<uuid>.<queue>.msg`, taken in the order of their names."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sweep()

    # The stubs of kombu's two base classes contradict each other.
    def _put(self, queue: str, message: Any, **_: Any) -> None:  # type: ignore[override]
        name = f"{monotonic_ns():020d}_{uuid.uuid4().hex}.{queue}{SUFFIX}"
        path = Path(self.data_folder_out) / name
        writing = path.with_suffix(WRITING)
        try:
            writing.write_text(dumps(message), "utf-8")
            writing.rename(path)
        except OSError as error:
            raise ChannelError(f"The message {path} could not be written: {error}") from error

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        ending = f".{queue}{SUFFIX}"
        for name in sorted(self._names(ending)):
            path = Path(self.data_folder_in) / name
            taken = path.with_suffix(TAKEN)
            try:
                path.rename(taken)
            except FileNotFoundError:  # another worker was first
                continue
            try:
                payload = loads(taken.read_text("utf-8"))
            except ValueError:  # written as the power failed; the row will be announced again
                continue
            finally:
                taken.unlink(missing_ok=True)
            return payload
        raise Empty

    def _sweep(self) -> None:
        """Remove what processes left behind that died while they wrote or read."""
        for pattern in (f"*{WRITING}", f"*{TAKEN}"):
            for path in Path(self.data_folder_in).glob(pattern):
                with suppress(FileNotFoundError):  # another process sweeps too
                    if time.time() - path.stat().st_mtime > LEFT_BEHIND_SECONDS:
                        path.unlink()

    def _names(self, ending: str) -> list[str]:
        """Names of a queue's messages; none while the folder is away."""
        try:
            with os.scandir(self.data_folder_in) as files:
                return [file.name for file in files if file.name.endswith(ending)]
        except FileNotFoundError:
            return []

    def _size(self, queue: str) -> int:
        return len(self._names(f".{queue}{SUFFIX}"))

    def _purge(self, queue: str) -> int:
        names = self._names(f".{queue}{SUFFIX}")
        for name in names:
            (Path(self.data_folder_in) / name).unlink(missing_ok=True)
        return len(names)

    def get_table(self, exchange: str) -> Table:  # type: ignore[override]
        try:
            return [Binding(*row) for row in loads(self._table_path(exchange).read_text("utf-8"))]
        except (FileNotFoundError, ValueError):
            return []

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str | None, queue: str) -> None:
        binding = Binding(routing_key or "", pattern or "", queue or "")
        self._change_table(exchange, lambda table: table if binding in table else [binding, *table])

    def _delete(self, queue: str, exchange: str, routing_key: str, pattern: str, *_: Any, **__: Any) -> None:
        self._purge(queue)
        binding = Binding(routing_key or "", pattern or "", queue or "")
        self._change_table(exchange, lambda table: [row for row in table if row != binding])

    def _table_path(self, exchange: str) -> Path:
        path: Path = self._exchange_file(exchange)  # type: ignore[attr-defined]  # the stubs do not know it
        return path

    def _change_table(self, exchange: str, change: Callable[[Table], Table]) -> None:
        path = self._table_path(exchange)
        with _locked(self.control_folder):
            before = self.get_table(exchange)
            after = change(before)
            if after != before:
                writing = path.with_suffix(WRITING)
                writing.write_text(dumps(after), "utf-8")
                writing.rename(path)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Be alone among the processes that change files of this folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Transport(filesystem.Transport):
    Channel = Channel

    def drain_events(self, connection: Any, timeout: float | None = None) -> None:  # type: ignore[override]
        """Wait for a message, and not for long: a worker looks between two of these whether it has to stop."""
        super().drain_events(connection, None if timeout is None else min(timeout, LONGEST_WAIT_SECONDS))


def register() -> None:
    """Have filesystem:// mean this transport."""
    TRANSPORT_ALIASES["filesystem"] = f"{__name__}:Transport"
