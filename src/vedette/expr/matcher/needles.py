"""Literals to watch for in texts, all in one pass, and the literals of which an ask needs one."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from re import _constants as sre
from re import _parser as sre_parser
from typing import Any

from ahocorasick_rs import BytesAhoCorasick, Implementation

from vedette.expr.matcher.plan import NONE, Ask, Needle
from vedette.expr.nodes import TextMatch
from vedette.expr.patterns import glob_tokens
from vedette.expr.values import fold

WINDOW = 1 << 16
"""Bytes searched at once: every hit costs memory, and a text of one repeated character is all hits."""

FEW = 3
"""Up to so many literals are searched one by one: setting an automaton off costs as much."""

SMALL = 1_000
"""Up to so many literals are searched by a table of states, which is twice as fast and takes most memory."""

SHORTEST = 2
"""Shortest literal of a regex that is worth watching for, unless it is one of the `RARE` signs."""

RARE = frozenset("`^{}+<>|~$")

MOST = 64
"""Most literals of one regex: one of them must be in every match."""

ASCII = 128


class Needles:
    """Which literals stand in a text, and so which atoms are true of it.

    Args:
        needles: The literals and their atoms; literals and texts are folded.
    """

    def __init__(self, needles: Sequence[Needle]) -> None:
        raw = [utf8_exactly(one.text) for one in needles]
        self._needles = [(text, one.anywhere, one.starts, one.ends) for text, one in zip(raw, needles, strict=True)]
        self._anywhere = [one.anywhere for one in needles]
        self._starts = [one.starts for one in needles]
        self._ends = [one.ends for one in needles]
        self._longest = max(map(len, raw), default=1)
        kind = Implementation.DFA if len(raw) <= SMALL else Implementation.ContiguousNFA
        self._automaton = BytesAhoCorasick(raw, implementation=kind) if len(raw) > FEW else None

    def search(self, text: bytes, found: set[int]) -> None:
        """Adds the atoms that are true of a folded text."""
        if self._automaton is None:
            self._search_each(text, found)
        elif len(text) <= WINDOW:
            self._search_window(text, 0, found)
        else:
            for offset in range(0, len(text), WINDOW):
                self._search_window(text, offset, found)

    def _search_each(self, text: bytes, found: set[int]) -> None:
        for literal, anywhere, starts, ends in self._needles:
            if literal in text:
                if anywhere >= 0:
                    found.add(anywhere)
                if starts >= 0 and text.startswith(literal):
                    found.add(starts)
                if ends >= 0 and text.endswith(literal):
                    found.add(ends)

    def _search_window(self, text: bytes, offset: int, found: set[int]) -> None:
        """Looks at the hits that begin in one window; the window is read on by the longest literal."""
        length = len(text) - offset
        window = text if length <= WINDOW and not offset else text[offset : offset + WINDOW + self._longest - 1]
        assert self._automaton is not None  # noqa: S101 - asked by `search`
        hits = self._automaton.find_matches_as_indexes(window, overlapping=True)
        if not hits:
            return
        anywhere, starts, ends = self._anywhere, self._starts, self._ends
        found.update([anywhere[number] for number, _, _ in hits])
        found.update([ends[number] for number, _, end in hits if end == length])
        if not offset:
            found.update([starts[number] for number, start, _ in hits if not start])
        found.discard(NONE)


def utf8_exactly(text: str) -> bytes:
    """Bytes that are equal only when the texts are, half a surrogate pair included."""
    return text.encode("utf-8", "surrogatepass")


def anchors(ask: Ask) -> list[tuple[str, TextMatch]] | None:
    """Folded literals, and where they stand: at least one in every text for which an ask holds; None when none is sure.

    The empty literal stands in every text. Folding is done character by character, so what holds of a text holds of
    its fold.
    """
    match ask.op:
        case "equals":
            return [(fold(ask.text), TextMatch.EQUALS)]
        case "contains" | "startswith" | "endswith":
            return [(fold(ask.text), TextMatch(ask.op))]
        case "glob":
            found = [token for token in glob_tokens(ask.text) if isinstance(token, str)]
            return [(fold(max(found, key=len, default="")), TextMatch.CONTAINS)]
        case "regex":
            return [(one, TextMatch.CONTAINS) for one in sorted(required(ask.text))] or None
        case _:
            return None


def required(pattern: str) -> frozenset[str]:
    """ASCII literals, folded, of which the fold of every matching text contains one; empty when none is sure.

    Read by Python's own parser, which agrees with RE2 on every part that is used wherever both take the pattern; what
    Python refuses, or only warns of, gives nothing. Of what is equal without regard to case only ASCII letters and the
    two signs that fold to one are meant.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            parsed = sre_parser.parse(pattern)
    except (re.error, RecursionError, OverflowError, Warning):
        return frozenset()
    return frozenset() if parsed.state.flags & re.VERBOSE else _best(parsed)


def _best(parsed: Iterable[Any]) -> frozenset[str]:
    """Of the sets of literals that every match holds one of, the one whose shortest is longest."""
    sets = [one for one in _sets(parsed) if len(one) <= MOST and all(map(_worth, one))]
    return max(sets, key=lambda one: (min(map(len, one)), -len(one)), default=frozenset())


def _worth(literal: str) -> bool:
    return len(literal) >= SHORTEST or literal in RARE


def _letter(op: Any, value: Any) -> str:
    """The folded ASCII character that a part is, in whatever case it may be written; else nothing."""
    if op is sre.IN and all(kind is sre.LITERAL for kind, _ in value):
        spelt = {chr(code).lower() if code < ASCII else "" for _, code in value}
        return spelt.pop() if len(spelt) == 1 else ""
    return chr(value).lower() if op is sre.LITERAL and value < ASCII else ""


def _sets(parsed: Iterable[Any]) -> Iterable[frozenset[str]]:
    """For each part that every match goes through: literals of which it holds one."""
    run = ""
    for op, value in parsed:
        # RE2 sees a question mark in place of half a surrogate pair, so it may not be in the text.
        letter = _letter(op, value)
        if letter and letter != "?":
            run += letter
            continue
        if run:
            yield frozenset({run})
        run = ""
        if op is sre.SUBPATTERN or (op in (sre.MAX_REPEAT, sre.MIN_REPEAT) and value[0] > 0):
            yield from _sets(value[-1])
        elif op is sre.BRANCH:
            each = [_best(branch) for branch in value[1]]
            if all(each):
                yield frozenset().union(*each)
    if run:
        yield frozenset({run})
