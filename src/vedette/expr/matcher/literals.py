"""Many literals and wildcard patterns searched in one pass over a text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from ahocorasick_rs import AhoCorasick

from vedette.expr.nodes import TextMatch
from vedette.expr.patterns import Wild, compile_regex, glob_regex, glob_tokens
from vedette.expr.values import utf8

WINDOW = 1 << 16
"""Characters searched at once: every hit costs memory, and a text of one repeated character is all hits."""


class Literals:
    """Which of many text comparisons hold for a text.

    One hash lookup, one automaton, and a regex for a wildcard pattern only where its longest literal part was seen.

    Args:
        wanted: Atom, kind of comparison and value. For folded comparisons the values are folded and so must the
            searched texts be.
    """

    def __init__(self, wanted: Iterable[tuple[int, TextMatch, str]]) -> None:
        self._always: list[int] = []
        """Those that every text satisfies, such as `contains ""`."""
        self._unanchored: list[int] = []
        """Wildcard patterns without any literal, such as `??`."""
        self._globs: dict[int, str] = {}
        self._compiled: dict[int, object] = {}
        where: dict[str, dict[TextMatch, list[int]]] = defaultdict(lambda: defaultdict(list))
        equal: dict[str, list[int]] = defaultdict(list)
        for atom, match, value in wanted:
            if match is TextMatch.EQUALS:
                equal[value].append(atom)
            elif match is TextMatch.GLOB:
                self._add_glob(atom, value, where, equal)
            elif value:
                where[value][match].append(atom)
            else:
                self._always.append(atom)
        self._equal = {value: tuple(atoms) for value, atoms in equal.items()}
        self._hits = [
            (
                tuple(found[TextMatch.CONTAINS]),
                tuple(found[TextMatch.STARTS]),
                tuple(found[TextMatch.ENDS]),
                tuple(found[TextMatch.GLOB]),
            )
            for found in where.values()
        ]
        self._longest = max(map(len, where), default=1)
        self._automaton = AhoCorasick(list(where)) if where else None

    def _add_glob(
        self,
        atom: int,
        value: str,
        where: dict[str, dict[TextMatch, list[int]]],
        equal: dict[str, list[int]],
    ) -> None:
        tokens = glob_tokens(value)
        literals = [token for token in tokens if isinstance(token, str)]
        if set(tokens) == {Wild.ANY}:
            self._always.append(atom)
            return
        if len(tokens) == len(literals):
            equal["".join(literals)].append(atom)
            return
        self._globs[atom] = glob_regex(tokens)
        if literals:
            where[max(literals, key=len)][TextMatch.GLOB].append(atom)
        else:
            self._unanchored.append(atom)

    def search(self, text: str, found: set[int]) -> None:
        """Adds the atoms that hold for a text."""
        found.update(self._always)
        found.update(self._equal.get(text, ()))
        globs = set(self._unanchored)
        if self._automaton is not None:
            for offset in range(0, len(text), WINDOW):
                self._search_window(text, offset, found, globs)
        found.update(atom for atom in globs if self._glob_holds(atom, text))

    def _search_window(self, text: str, offset: int, found: set[int], globs: set[int]) -> None:
        """Looks at the hits that begin in one window; the window is read on by the longest literal."""
        hits, length = self._hits, len(text) - offset
        window = text if length <= WINDOW and not offset else text[offset : offset + WINDOW + self._longest - 1]
        assert self._automaton is not None  # noqa: S101 - asked by `search`
        for pattern, start, end in self._automaton.find_matches_as_indexes(window, overlapping=True):
            contains, starts, ends, wild = hits[pattern]
            if contains:
                found.update(contains)
            if starts and start + offset == 0:
                found.update(starts)
            if ends and end == length:
                found.update(ends)
            if wild:
                globs.update(wild)

    def _glob_holds(self, atom: int, text: str) -> bool:
        regex = self._compiled.get(atom)
        if regex is None:
            regex = self._compiled[atom] = compile_regex(self._globs[atom])
        return regex.search(utf8(text)) is not None  # type: ignore[attr-defined]
