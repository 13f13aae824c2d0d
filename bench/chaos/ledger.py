"""What a careful client writes down: which submissions it made, and which of them were accepted."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self


@dataclass(slots=True)
class Entry:
    """One submission. task: the id that the API promised to keep. tries: requests until it was accepted."""

    key: str
    prompt: str
    task: str = ""
    tries: int = 0
    refused: str = ""


class Ledger:
    """Entries by idempotency key, in memory and in a file that survives the client."""

    def __init__(self, path: Path) -> None:
        self.entries: list[Entry] = []
        self._file = path.open("a", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def open(self, key: str, prompt: str) -> Entry:
        """Write down a submission before it is made."""
        entry = Entry(key, prompt)
        self.entries.append(entry)
        self._write({"key": key, "prompt": prompt})
        return entry

    def accepted(self, entry: Entry, task: str) -> None:
        """Write down that the API took it: from here on the task must not be lost."""
        entry.task = task
        self._write({"key": entry.key, "task": task})

    def _write(self, line: dict[str, str]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
