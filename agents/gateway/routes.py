"""The addresses of the gateway as tables: which there are, what methods they take, and who serves them."""

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import NamedTuple

# Gets the call and, by their names, the parts of its address that vary.
Handler = Callable[..., Awaitable[None]]
# By address, as "/v1/responses/{response_id}": a part that varies has no slash, but one marked {so*} may; by method.
Table = Mapping[str, Mapping[str, Handler]]


class Found(NamedTuple):
    """An address that there is, as its table has it. parts: those that vary."""

    address: str
    methods: Mapping[str, Handler]
    parts: Mapping[str, str]


class Routes:
    """All tables together."""

    def __init__(self, *tables: Table) -> None:
        self._table = {address: methods for table in tables for address, methods in table.items()}
        self._patterns = [(address, _pattern(address)) for address in self._table if "{" in address]

    def find(self, path: str) -> Found | None:
        """Find who serves an address; None where nobody does."""
        if (methods := self._table.get(path)) and "{" not in path:
            return Found(path, methods, {})
        for address, pattern in self._patterns:
            if match := pattern.fullmatch(path):
                return Found(address, self._table[address], match.groupdict())
        return None

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """All addresses with each of their methods."""
        return ((address, method) for address, methods in self._table.items() for method in methods)


def _pattern(address: str) -> re.Pattern[str]:
    return re.compile(
        re.sub(r"\{(\w+)(\*?)\}", lambda found: rf"(?P<{found[1]}>{'.+' if found[2] else '[^/]+'})", address)
    )
