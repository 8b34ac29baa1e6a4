"""Literals to watch for in texts, all in one pass, and the literal without which an ask cannot hold."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from re import _constants as sre
from re import _parser as sre_parser
from typing import Any

from ahocorasick_rs import AhoCorasick

from vedette.expr.matcher.plan import Ask, Needle
from vedette.expr.nodes import TextMatch
from vedette.expr.patterns import glob_tokens
from vedette.expr.values import fold

WINDOW = 1 << 16
"""Characters searched at once: every hit costs memory, and a text of one repeated character is all hits."""

FEW = 3
"""Up to so many literals are searched one by one: setting an automaton off costs as much."""

SHORTEST = 3
"""Shortest literal of a regex that is worth watching for."""

ASCII = 128


class Needles:
    """Which literals stand in a text, and so which rules are to be looked at.

    Args:
        needles: The literals and the slots they bring up; literals and texts are folded.
    """

    def __init__(self, needles: Sequence[Needle]) -> None:
        self._needles = [(one.text, tuple(one.anywhere), tuple(one.starts), tuple(one.ends)) for one in needles]
        self._longest = max((len(one.text) for one in needles), default=1)
        self._automaton = AhoCorasick([one.text for one in needles]) if len(needles) > FEW else None

    def search(self, text: str, found: set[int]) -> None:
        """Adds the slots that a text brings up."""
        if self._automaton is None:
            self._search_each(text, found)
            return
        for offset in range(0, len(text), WINDOW):
            self._search_window(text, offset, found)

    def _search_each(self, text: str, found: set[int]) -> None:
        for literal, anywhere, starts, ends in self._needles:
            if literal in text:
                found.update(anywhere)
                if starts and text.startswith(literal):
                    found.update(starts)
                if ends and text.endswith(literal):
                    found.update(ends)

    def _search_window(self, text: str, offset: int, found: set[int]) -> None:
        """Looks at the hits that begin in one window; the window is read on by the longest literal."""
        needles, length = self._needles, len(text) - offset
        window = text if length <= WINDOW and not offset else text[offset : offset + WINDOW + self._longest - 1]
        assert self._automaton is not None  # noqa: S101 - asked by `search`
        for number, start, end in self._automaton.find_matches_as_indexes(window, overlapping=True):
            _, anywhere, starts, ends = needles[number]
            if anywhere:
                found.update(anywhere)
            if starts and start + offset == 0:
                found.update(starts)
            if ends and end == length:
                found.update(ends)


def anchors(ask: Ask) -> tuple[str, TextMatch] | None:
    """A folded literal, and where it stands in every text for which an ask holds; None when there is none.

    The empty literal stands in every text. Folding is done character by character, so what holds of a text holds of
    its fold.
    """
    match ask.op:
        case "contains" | "startswith" | "endswith":
            return fold(ask.text), TextMatch(ask.op)
        case "glob":
            literals = [token for token in glob_tokens(ask.text) if isinstance(token, str)]
            return fold(max(literals, key=len, default="")), TextMatch.CONTAINS
        case "regex":
            literal = required(ask.text)
            return (literal, TextMatch.CONTAINS) if len(literal) >= SHORTEST else None
        case _:
            return None


def required(pattern: str) -> str:
    """The longest ASCII literal, folded, that the fold of every matching text contains; empty when none is sure.

    Read by Python's own parser, which agrees with RE2 on every part that is used wherever both take the pattern; what
    Python refuses, or only warns of, gives nothing. Of what is equal without regard to case only ASCII letters and the
    two signs that fold to one are meant.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            parsed = sre_parser.parse(pattern)
    except (re.error, RecursionError, OverflowError, Warning):
        return ""
    return "" if parsed.state.flags & re.VERBOSE else max(_runs(parsed), key=len, default="")


def _runs(parsed: Iterable[Any]) -> list[str]:
    """The literal runs of a pattern's parts that every match goes through."""
    runs, run = [], ""
    for op, value in parsed:
        # RE2 sees a question mark in place of half a surrogate pair, so it may not be in the text.
        if op is sre.LITERAL and value < ASCII and chr(value) != "?":
            run += chr(value).lower()
            continue
        runs.append(run)
        run = ""
        if op is sre.SUBPATTERN or (op in (sre.MAX_REPEAT, sre.MIN_REPEAT) and value[0] > 0):
            runs += _runs(value[-1])
    return [*runs, run]
