"""No pattern of ours takes long on a text that was made to make it slow (ReDoS)."""

import importlib
import pkgutil
import re
import time

import pytest

import agents
import core

SIZE = 50_000
LIMIT_SECONDS = 0.1
SEEDS = [
    "a",
    "0",
    " ",
    "\n",
    "-",
    "_",
    ".",
    "/",
    ":",
    "=",
    "aA0",
    "a ",
    "a.",
    "a-",
    "a@",
    "://a:",
    "eyJa.",
    "<a",
    "\u00e4",
    "''",
    '"',
]


def patterns() -> dict[str, re.Pattern]:
    """Every compiled pattern that stands in a module of ours, by its address."""
    found = {}
    for package in (core, agents):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if ".migrations." in module.name or ".management." in module.name:
                continue
            loaded = importlib.import_module(module.name)
            for name, value in vars(loaded).items():
                for number, inner in enumerate(value if isinstance(value, tuple | list) else [value]):
                    candidate = inner[0] if isinstance(inner, tuple) and inner else inner
                    if isinstance(candidate, re.Pattern) and isinstance(candidate.pattern, str):
                        found[f"{module.name}.{name}.{number}"] = candidate
    return found


PATTERNS = patterns()


def test_there_are_patterns() -> None:
    assert len(PATTERNS) > 10


@pytest.mark.parametrize("address", PATTERNS)
def test_a_pattern_takes_its_time_on_no_text(address: str) -> None:
    assert [seed for seed in SEEDS if is_slow(PATTERNS[address], seed)] == []


def is_slow(pattern: re.Pattern, seed: str) -> bool:
    """Try a short text first: what grows with the square of the length is noticed there, before it takes minutes."""
    for size, limit in ((SIZE // 10, LIMIT_SECONDS / 5), (SIZE, LIMIT_SECONDS)):
        text = (seed * size)[:size] + "!"
        began = time.process_time()
        pattern.search(text)
        pattern.fullmatch(text)
        if time.process_time() - began > limit:
            return True
    return False
