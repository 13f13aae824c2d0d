"""The pace and the faults of one answer, written as words joined by hyphens: "t100-f200-d50-cut3".

t100       100 tokens (without it: the echo of the prompt, whatever its length)
f200       the first byte after 200 ms        d50   each further token (or step of a pull) after 50 ms
l500       loading takes 500 ms               p8    8 slots for this model
think3     3 thinking tokens (when thinking)
split1     send the bytes one by one, each in a TCP segment of its own
hold3      after 3 tokens, wait until the server is told to go on: control(release=True)
ascii      escape every other character, which Ollama itself does not

hang       take the request and never answer  reset  take it and break the connection
status503  answer with that status, as Ollama or a proxy in front of it would
html       answer 200 with a web page         counts9  report 9 output tokens, whatever came
stall3     fall silent after 3 tokens         cut3   break the connection after 3 tokens
error3     report an error after 3 tokens     eof3   end politely, without `done`, after 3 tokens
linger     keep the body open after the last line
"""

import re
from dataclasses import dataclass, fields, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """None means not asked for. Times in milliseconds; hold, stall, cut, error and eof in tokens sent before."""

    t: int | None = None
    f: int | None = None
    d: int | None = None
    l: int | None = None  # noqa: E741  # the letter is the notation
    p: int | None = None
    think: int | None = None
    split: int | None = None
    hold: int | None = None
    ascii: int | None = None
    hang: int | None = None
    reset: int | None = None
    status: int | None = None
    html: int | None = None
    counts: int | None = None
    stall: int | None = None
    cut: int | None = None
    error: int | None = None
    eof: int | None = None
    linger: int | None = None

    def merged(self, other: "Knobs") -> "Knobs":
        """These knobs, with those of `other` in their place where it has any."""
        given = {field.name: value for field in fields(other) if (value := getattr(other, field.name)) is not None}
        return replace(self, **given)


NONE = Knobs()

_NAMES = {field.name for field in fields(Knobs)}
_WORD = re.compile(r"([a-z]+)(\d*)")
_MARKER = re.compile(r"\[\[([a-z0-9-]+)\]\]")


def parse(text: str) -> Knobs | None:
    """Read "t100-d50"; None if any word is no knob."""
    given: dict[str, int] = {}
    for word in text.split("-"):
        match = _WORD.fullmatch(word)
        if match is None or match[1] not in _NAMES:
            return None
        given[match[1]] = int(match[2] or 0)
    return Knobs(**given)


def in_prompt(prompt: str) -> Knobs:
    """Collect the knobs of all markers like [[cut3]] in a prompt."""
    found = NONE
    if "[[" in prompt:
        for marker in _MARKER.findall(prompt):
            found = found.merged(parse(marker) or NONE)
    return found
