"""Keywords, which are looked for in every value: whole events, and whole chunks of lines, ruled out in one look."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from ahocorasick_rs import BytesAhoCorasick, MatchKind

from vedette.expr.spotter import Spotter, literal
from vedette.expr.values import fold

SHORTEST = 3
"""Shortest part of a literal that is worth looking for."""

FRAGMENT = 6
"""Length of what a `Sweep` looks for: literals share their parts, and the fewer there are the faster it goes."""

_PRINTED = re.compile(r"[ !#-&(-.0-\[\]-~]+")
"""ASCII without control characters, quotes, the backslash and the slash: printed as it is by Python and by JSON."""
_OTHER_THAN_DIGITS = re.compile(r"[^0-9-]")
FOLDING = (
    "\u00df\u0130\u0149\u017f\u01f0\u1e96\u1e97\u1e98\u1e99\u1e9a\u1e9e\u212a\ufb00\ufb01\ufb02\ufb03\ufb04\ufb05\ufb06"
)
"""Every sign beyond ASCII whose fold holds ASCII."""
_ESCAPED = (b"\\u00", *(b"\\u%04x" % ord(sign) for sign in FOLDING[1:]))
_FOLDING = tuple(sign.encode() for sign in FOLDING)


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
        return bool(self._automaton.find_matches_as_indexes(text.encode("utf-8", "surrogatepass")))


class Sweep:
    """A `Screen` of the JSON text of many events at once.

    What may become a literal without standing there is looked for as well: ASCII that is escaped, and signs beyond
    ASCII that fold to it.

    Args:
        literals: As for `Screen`.
    """

    def __init__(self, literals: Iterable[str]) -> None:
        wanted = [literal(each) for each in (*fragments(_runs_of(literals)), *_ESCAPED)]
        self._ascii = Spotter(wanted, any_case=True)
        self._any = Spotter([*wanted, *map(literal, _FOLDING)], any_case=True)

    def lines(self, text: bytes, ends: Sequence[int]) -> frozenset[int]:
        """Places of the lines in which one of the literals may stand in a value.

        Args:
            text: The lines.
            ends: Where each line ends.
        """
        spotter = self._ascii if text.isascii() else self._any
        found = spotter.ends(text)
        if not found:
            return frozenset()
        return frozenset(bisect_left(ends, end) for end in found)


def fragments(literals: Iterable[bytes]) -> list[bytes]:
    """A few short texts of which every literal holds one."""
    left, found = set(literals), []
    while left:
        shared = Counter(part for each in left for part in _parts(each))
        best = max(sorted(shared), key=lambda part: (shared[part], len(part)))
        found.append(best)
        left = {each for each in left if best not in each}
    return found


def _parts(text: bytes) -> set[bytes]:
    return {text[start : start + FRAGMENT] for start in range(max(1, len(text) - FRAGMENT + 1))}


def _runs_of(literals: Iterable[str]) -> list[bytes]:
    return sorted({screened(each).encode() for each in literals})


def screened(literal: str) -> str:
    """The longest part of a folded literal that every value which holds it shows when it is printed; empty when none.

    Whole floats are printed otherwise than they are compared, but as digits only.
    """
    runs = [run for run in _PRINTED.findall(literal) if _OTHER_THAN_DIGITS.search(run)]
    longest = max(runs, key=len, default="")
    return longest if len(longest) >= SHORTEST else ""
