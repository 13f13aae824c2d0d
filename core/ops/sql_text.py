"""Texts of statements without their values, which may be secrets."""

import hashlib
import re

MOST_READ = 100_000  # characters of a statement that are looked at
MOST_KEPT = 4_000
CUT = "…"
PLACE = "%s"

# In this order: what begins earlier in a text hides what seems to begin within it. What has no end goes to the end.
_TOKENS = re.compile(
    r"""
      (?P<gap> (?: \s | --[^\n]* | /\*.*?(?:\*/|\Z) )+ )
    | (?P<name> "(?:[^"]|"")*(?:"|\Z) )
    | (?P<value>
          (?<!\w)[eE]'(?:[^'\\]|''|\\.)*(?:'|\Z)            # escapes by backslash in these alone
        | (?:(?<!\w)(?:[bBxXnN]|[uU]&))?'(?:[^']|'')*(?:'|\Z)
        | (?<!\w)\$(?P<tag>[^\W\d]\w*|)\$.*?(?:\$(?P=tag)\$|\Z)
        | %s | %\(\w+\)s | \?\d* | (?<!\w)\$\d+
      )
    | (?P<type> \b(?:var)?(?:char|bit|numeric|decimal|timestamp|time|vector)\s*\(\s*\d+\s*(?:,\s*\d+\s*)?\) )
    | (?P<number> (?<![\w$])(?:0[xX][0-9a-fA-F]+|\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?) )
    """,
    re.DOTALL | re.VERBOSE | re.IGNORECASE,
)
_LISTS = re.compile(r"\bIN \(%s(?:, ?%s)*,? ?(?:\)|\Z)", re.IGNORECASE)
_ROWS = re.compile(r"(\bVALUES )(\([^()]*\))(?:, ?\([^()]*\))+", re.IGNORECASE)


def normalised(sql: str) -> str:
    """Put a place where a value was, one for a whole list, and one space where there were several or a comment."""
    text = _TOKENS.sub(_replace, sql[:MOST_READ]).strip()
    text = _ROWS.sub(r"\1\2", _LISTS.sub(f"IN ({PLACE})", text))
    return text if len(text) <= MOST_KEPT else text[: MOST_KEPT - 1] + CUT


def _replace(found: re.Match[str]) -> str:
    if found["gap"]:
        return " "
    return found[0] if found["name"] or found["type"] else PLACE


def fingerprint(text: str) -> str:
    """Tell texts apart in few characters."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]
