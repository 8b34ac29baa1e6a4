"""Literals to watch for in texts, all in one pass, and the literal without which an ask cannot hold."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from re import _constants as sre
from re import _parser as sre_parser
from typing import Any

from ahocorasick_rs import BytesAhoCorasick, Implementation, MatchKind

from vedette.expr.matcher.plan import Ask, Needle
from vedette.expr.nodes import TextMatch
from vedette.expr.patterns import glob_tokens
from vedette.expr.values import fold

WINDOW = 1 << 16
"""Bytes searched at once: every hit costs memory, and a text of one repeated character is all hits."""

FEW = 3
"""Up to so many literals are searched one by one: setting an automaton off costs as much."""

SMALL = 1_000
"""Up to so many literals are searched by a table of states, which is twice as fast and takes most memory."""

SHORTEST = 3
"""Shortest literal of a regex that is worth watching for."""

ASCII = 128

_PRINTED = re.compile(r"[ !#-&(-.0-\[\]-~]+")
"""ASCII without control characters, quotes, the backslash and the slash: printed as it is by Python and by JSON."""
_OTHER_THAN_DIGITS = re.compile(r"[^0-9-]")
FOLDING = (
    "\u00df\u0130\u0149\u017f\u01f0\u1e96\u1e97\u1e98\u1e99\u1e9a\u1e9e\u212a\ufb00\ufb01\ufb02\ufb03\ufb04\ufb05\ufb06"
)
"""Every sign beyond ASCII whose fold holds ASCII."""
_FOLDING = [sign.encode() for sign in FOLDING]
_ESCAPED = sorted({b"\\u00", *(b"\\u%04x" % ord(sign) for sign in FOLDING[1:])})


class Needles:
    """Which literals stand in a text, and so which rules are to be looked at.

    Args:
        needles: The literals and the slots they bring up; literals and texts are folded.
    """

    def __init__(self, needles: Sequence[Needle]) -> None:
        self._needles = [(one.text, tuple(one.anywhere), tuple(one.starts), tuple(one.ends)) for one in needles]
        raw = [_utf8(one.text) for one in needles]
        self._longest = max(map(len, raw), default=1)
        kind = Implementation.DFA if len(raw) <= SMALL else Implementation.ContiguousNFA
        self._automaton = BytesAhoCorasick(raw, implementation=kind) if len(raw) > FEW else None

    def search(self, text: str, found: set[int]) -> None:
        """Adds the slots that a text brings up."""
        if self._automaton is None:
            self._search_each(text, found)
            return
        raw = _utf8(text)
        for offset in range(0, len(raw), WINDOW):
            self._search_window(raw, offset, found)

    def _search_each(self, text: str, found: set[int]) -> None:
        for literal, anywhere, starts, ends in self._needles:
            if literal in text:
                found.update(anywhere)
                if starts and text.startswith(literal):
                    found.update(starts)
                if ends and text.endswith(literal):
                    found.update(ends)

    def _search_window(self, text: bytes, offset: int, found: set[int]) -> None:
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


class Screen:
    """Tells in one look at a whole event that none of some literals stands in any of its values.

    It may be wrong in saying that one is there (names of fields are looked at too), never that none is.

    Args:
        literals: Folded; each for which `screened` gives a text, which is then what is searched for.
    """

    def __init__(self, literals: Iterable[str]) -> None:
        # Leftmost, not overlapping: only whether there is any matters, and this is searched many bytes at a time.
        self._automaton = BytesAhoCorasick(_runs_of(literals), matchkind=MatchKind.LeftmostFirst)

    def holds(self, data: Mapping[str, object]) -> bool:
        """Whether one of the literals may stand in a value: in all values as Python prints them."""
        text = fold("\n".join(map(str, data.values())))
        return bool(self._automaton.find_matches_as_indexes(_utf8(text)))


class Sweep:
    """A `Screen` of the JSON text of many events at once.

    What may become a literal without standing there is looked for as well: ASCII that is escaped, and signs beyond
    ASCII that fold to it.

    Args:
        literals: As for `Screen`.
    """

    def __init__(self, literals: Iterable[str]) -> None:
        runs = _runs_of(literals)
        self._ascii = BytesAhoCorasick([*runs, *_ESCAPED], matchkind=MatchKind.LeftmostFirst)
        self._any = BytesAhoCorasick([*runs, *_ESCAPED, *_FOLDING], matchkind=MatchKind.LeftmostFirst)

    def lines(self, text: bytes) -> frozenset[int]:
        """Places of the lines in which one of the literals may stand in a value."""
        automaton = self._ascii if text.isascii() else self._any
        found: set[int] = set()
        place = start = 0
        for _, begin, _ in automaton.find_matches_as_indexes(text.lower()):
            place += text.count(b"\n", start, begin)
            start = begin
            found.add(place)
        return frozenset(found)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _runs_of(literals: Iterable[str]) -> list[bytes]:
    return sorted({screened(each).encode() for each in literals})


def screened(literal: str) -> str:
    """The longest part of a folded literal that every value which holds it shows when it is printed; empty when none.

    Whole floats are printed otherwise than they are compared, but as digits only.
    """
    runs = [run for run in _PRINTED.findall(literal) if _OTHER_THAN_DIGITS.search(run)]
    longest = max(runs, key=len, default="")
    return longest if len(longest) >= SHORTEST else ""


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
