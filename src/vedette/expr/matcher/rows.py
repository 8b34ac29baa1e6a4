"""What the rules of a partition read of one event, folded and walked at most once."""

from __future__ import annotations

from collections.abc import Mapping

from vedette.expr.matcher.plan import KEYWORD
from vedette.expr.nodes import Field
from vedette.expr.values import elements, fold, leaves, text_of


class Row:
    """The values of one event in the order of a partition's fields; the last place is for keywords.

    Args:
        values: Of the fields; null and, unless a rule tells them apart, absent are None.
        places: Field -> its place.
        data: The event.
    """

    __slots__ = ("_data", "_folded", "_places", "_texts", "values")

    def __init__(self, values: tuple[object, ...], places: Mapping[Field, int], data: Mapping[str, object]) -> None:
        self.values = values
        self._places = places
        self._data = data
        self._texts: list[tuple[str, ...] | None] = [None] * (len(values) + 1)
        self._folded: list[tuple[str, ...] | None] = [None] * (len(values) + 1)

    def read(self, field: Field) -> object:
        """The value of a field."""
        return self.values[self._places[field]]

    def texts(self, place: int) -> tuple[str, ...]:
        """The texts that a predicate on a field, or a keyword, is compared with."""
        found = self._texts[place]
        if found is None:
            single = leaves(self._data) if place == KEYWORD else elements(self.values[place])
            found = self._texts[place] = tuple(map(text_of, single))
        return found

    def folded(self, place: int) -> tuple[str, ...]:
        """The same, folded."""
        found = self._folded[place]
        if found is None:
            found = self._folded[place] = tuple(map(fold, self.texts(place)))
        return found
