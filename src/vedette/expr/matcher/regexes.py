"""Many regular expressions searched in one pass over a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import re2

from vedette.expr.patterns import compile_regex, flagged, regex_options
from vedette.expr.values import utf8

_SET_BYTES = 64 << 20
"""Most memory of one set's automaton; states are dropped and built again beyond it."""


class Regexes:
    """Which of many RE2 patterns are found in a text.

    A set answers for all patterns at once. When its automaton does not fit into memory RE2 answers "none", which would
    be a missed detection; so every set also holds a pattern that always matches, and an answer without it means: ask
    each pattern on its own.

    Args:
        wanted: Atom, pattern and flags; every pattern is one that RE2 takes.
    """

    def __init__(self, wanted: Sequence[tuple[int, str, str]]) -> None:
        self._atoms = [atom for atom, _, _ in wanted]
        self._patterns = [(pattern, flags) for _, pattern, flags in wanted]
        self._single: list[Any] = []
        self._set = self._build() if len(wanted) > 1 else None

    def _build(self) -> Any:
        options = regex_options()
        options.max_mem = _SET_BYTES
        built = re2.Set.SearchSet(options)
        try:
            for pattern, flags in self._patterns:
                built.Add(flagged(pattern, flags).encode())
            self._witness = built.Add(b"")
            built.Compile()
        except re2.error:
            return None
        return built

    def search(self, text: str, found: set[int]) -> None:
        """Adds the atoms whose pattern is found in a text."""
        raw = utf8(text)
        matched = self._set.Match(raw) if self._set is not None else None
        if not matched or self._witness not in matched:
            self._search_each(raw, found)
            return
        found.update(self._atoms[place] for place in matched if place != self._witness)

    def _search_each(self, raw: bytes, found: set[int]) -> None:
        if not self._single:
            self._single = [compile_regex(pattern, flags) for pattern, flags in self._patterns]
        found.update(atom for atom, regex in zip(self._atoms, self._single, strict=True) if regex.search(raw))
