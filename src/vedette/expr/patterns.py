"""Wildcard patterns and regular expressions, read the same way by every engine."""

from __future__ import annotations

from enum import Enum
from typing import Any

import re2


class Wild(Enum):
    """A wildcard of a glob pattern."""

    ANY = "*"
    """Any run of characters, also none."""
    ONE = "?"
    """Exactly one character."""


Token = str | Wild
"""A wildcard, or literal text with its escapes already taken away."""

_SPECIAL = "*?\\"


def glob_tokens(pattern: str) -> tuple[Token, ...]:
    """The parts of a glob. A backslash quotes `*`, `?` and itself; before anything else it is a plain backslash."""
    tokens: list[Token] = []
    literal: list[str] = []

    def flush() -> None:
        if literal:
            tokens.append("".join(literal))
            literal.clear()

    place = 0
    while place < len(pattern):
        char = pattern[place]
        if char == "\\" and pattern[place + 1 : place + 2] in _SPECIAL and place + 1 < len(pattern):
            place += 1
            literal.append(pattern[place])
        elif char in "*?":
            flush()
            tokens.append(Wild(char))
        else:
            literal.append(char)
        place += 1
    flush()
    return tuple(tokens)


def glob_quote(text: str) -> str:
    """The glob that matches exactly this text."""
    return "".join(f"\\{char}" if char in _SPECIAL else char for char in text)


def glob_matches(tokens: tuple[Token, ...], text: str) -> bool:
    """Whether the whole text matches, by dynamic programming over the ends that a prefix of the tokens can reach.

    Cost is len(tokens) x len(text) at most; nothing backtracks.
    """
    ends = {0}
    for token in tokens:
        if token is Wild.ANY:
            ends = set(range(min(ends), len(text) + 1)) if ends else ends
        elif token is Wild.ONE:
            ends = {end + 1 for end in ends if end < len(text)}
        else:
            ends = {end + len(token) for end in ends if text.startswith(token, end)}
    return len(text) in ends


def glob_regex(tokens: tuple[Token, ...]) -> str:
    """The same glob as a pattern for RE2, anchored at both ends."""
    parts = {Wild.ANY: ".*", Wild.ONE: "."}
    return (
        r"(?s)\A" + "".join(parts[token] if isinstance(token, Wild) else re2.escape(token) for token in tokens) + r"\z"
    )


def flagged(pattern: str, flags: str) -> str:
    """The pattern with its flags written inside it, in one order."""
    known = "".join(sorted(set(flags) & set("ims")))
    return f"(?{known}){pattern}" if known else pattern


def regex_options() -> Any:
    """Options of every regular expression: quiet, and with a bound on the memory of one automaton."""
    options = re2.Options()
    options.log_errors = False
    return options


def compile_regex(pattern: str, flags: str = "") -> Any:
    """A compiled pattern whose `search` takes UTF-8 bytes.

    Raises:
        re2.error: The pattern is not in RE2's language (backreferences, look-around) or is too large.
    """
    return re2.compile(flagged(pattern, flags).encode("utf-8"), regex_options())


def regex_refusal(pattern: str, flags: str = "") -> str:
    """Why RE2 refuses a pattern, in its own words; empty when it takes it."""
    try:
        compile_regex(pattern, flags)
    except re2.error as refused:
        reason = refused.args[0]
        return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
    except UnicodeEncodeError:
        return "it holds half of a surrogate pair"
    return ""
