"""The rules that can match events of one log source, and the memory of rows already judged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import compress, repeat
from operator import call

from vedette.expr.matcher.asks import Check, compile_group
from vedette.expr.matcher.build import literals
from vedette.expr.matcher.memo import Budget, Memo
from vedette.expr.matcher.plan import KEYWORD, Column, Part, Watch
from vedette.expr.matcher.probe import NO_ATOMS, Found, Probe
from vedette.expr.matcher.rows import Row
from vedette.expr.matcher.sweep import Screen
from vedette.expr.nodes import Field, Space
from vedette.expr.values import leaves

Data = Mapping[str, object]
Matches = tuple[int, ...]
Access = Callable[[Data], object]
"""Reads one field of an event; `MISSING` where it is absent."""


class Partition:
    """Judges the events of one log source.

    For most events every field's value is one seen before that brings up no rule: they cost one dictionary lookup a
    field. Of the others the whole row is looked up, and what is new is judged rule by rule.

    Args:
        part: Its rules.
        reader: How to read a field that is not found by its name alone.
        budget: Bound of the memory.
    """

    def __init__(self, part: Part, reader: Callable[..., Access], budget: Budget) -> None:
        self.part = part
        self._fixed = tuple(part.fixed)
        self._rules = part.rules
        self._groups = part.groups
        self._checks: list[Check | None] = [None] * len(part.groups)
        self._free = frozenset(part.free)
        # Fields found by name come first, so that the walked ones are a tail of the row.
        self._columns = part.columns
        fields = [Field(one.name, Space(one.space)) for one in part.columns]
        self._places = {field: place for place, field in enumerate(fields)}
        self._names = tuple(one.name for one in part.columns)
        self._walks: tuple[Access, ...] = ()
        if not all(map(is_plain, part.columns)):
            self._walks = tuple(
                reader(field, existing=one.existing) for field, one in zip(fields, part.columns, strict=True)
            )
        self.probes = tuple(Probe(one.watch, part.groups, place, budget) for place, one in enumerate(part.columns))
        self._keywords = Probe(part.keywords, part.groups, KEYWORD, budget) if part.keywords else None
        self._screen = Screen(literals(part.keywords)) if part.keywords and part.screened else None
        self._swept = part.swept
        self._simple = not (self._walks or self._free or (self._keywords is not None and self._screen is None))
        watched = [place for place, one in enumerate(part.columns) if watches(one.watch)]
        self._all = tuple(probe.__getitem__ for probe in self.probes)
        self._watched = tuple(self._names[place] for place in watched)
        self._finds = tuple(self.probes[place].__getitem__ for place in watched)
        self.idle = self._simple and not (watched or self._fixed) and (part.swept or self._keywords is None)
        """Nothing is true here of an event that was swept."""
        self._whole = part.whole
        self._memory = Memo()
        self._budget = budget
        budget.add(self._memory)

    def match(self, data: Data) -> Matches:
        """Numbers of the rules that are true for an event, in rising order."""
        if self._simple:
            try:
                brought = any(map(call, self._finds, map(data.get, self._watched)))
            except TypeError:  # a list or an object in a field
                brought = True
            if not brought and (self._screen is None or not self._screen.holds(data)):
                return self._fixed
        return self._look(data, self._row(data))

    def match_many(self, events: Sequence[Data], suspects: Iterable[int]) -> dict[int, Matches]:
        """`match` for many events of this partition, field by field instead of event by event.

        Args:
            events: Of this partition.
            suspects: Places of the events that a sweep did not rule keywords out of.

        Returns:
            Place -> numbers of its rules, where there are any.
        """
        if self._simple:
            places = range(len(events))
            hot: set[int] = set()
            try:
                for find, name in zip(self._finds, self._watched, strict=True):
                    hot.update(compress(places, map(find, column_of(events, name))))
            except TypeError:  # a list or an object in a field
                hot.update(places)
            if self._screen is not None:
                hot.update(
                    place for place in (suspects if self._swept else places) if self._screen.holds(events[place])
                )
            found = self._look_many(events, sorted(hot)) if hot else {}
        else:
            found = {place: self.match(data) for place, data in enumerate(events)}
        if self._fixed:
            found = {place: found.get(place, self._fixed) for place in range(len(events))}
        return {place: numbers for place, numbers in found.items() if numbers}

    def ask(self, data: Data, slots: Iterable[int], atoms: frozenset[int]) -> list[int]:
        """Numbers of the rules that are true for an event, of those of some slots.

        Args:
            data: The event.
            slots: Of rules; no others are true.
            atoms: All that are true, but of keywords.
        """
        if self._whole:  # what is true of keywords is not told
            return list(self.match(data))
        facts = Row(self._row(data), self._places, data)
        return [self._rules[slot] for slot in slots if (self._checks[slot] or self._check(slot))(atoms, facts)]

    def _look_many(self, events: Sequence[Data], places: Sequence[int]) -> dict[int, Matches]:
        """`_look` for some of the events, which most often have rows that were judged before."""
        chosen = [events[place] for place in places]
        known: Sequence[Matches | None]
        rows = list(zip(*[column_of(chosen, name) for name in self._names], strict=True)) or [()] * len(places)
        try:
            known = [None] * len(rows) if self._whole else list(map(self._memory.get, rows))
        except TypeError:  # a list or an object
            known = [None] * len(rows)
        return {
            place: self._look(data, row) if answer is None else answer
            for place, data, row, answer in zip(places, chosen, rows, known, strict=True)
        }

    def _row(self, data: Data) -> tuple[object, ...]:
        return tuple([read(data) for read in self._walks]) if self._walks else tuple(map(data.get, self._names))

    def _look(self, data: Data, row: tuple[object, ...]) -> Matches:
        """Looks at the rules that a row brings up, or remembers what they said."""
        if self._whole:
            return self._judge(data, row)
        try:
            known = self._memory.get(row)
        except TypeError:
            return self._judge(data, row)
        if known is not None:
            return known  # type: ignore[no-any-return]
        found = self._found(data, row)
        if not any(found) and not self._free:
            return self._fixed
        key = (row, *map(type, row)) if confusable(row) else row
        if key is not row and (known := self._memory.get(key)) is not None:
            return known  # type: ignore[no-any-return]
        matches = self._asked(data, row, found)
        self._budget.spend(self._memory, sum([len(each) for each in row if type(each) is str]) + 8 * len(row))
        self._memory[key] = matches
        return matches

    def _judge(self, data: Data, row: tuple[object, ...]) -> Matches:
        found = self._found(data, row)
        return self._asked(data, row, found) if self._free or any(found) else self._fixed

    def _found(self, data: Data, row: tuple[object, ...]) -> list[Found]:
        """What the values of a row mean; of keywords too, unless none of those that bring rules up is there."""
        try:
            found = list(map(call, self._all, row))
        except TypeError:  # a list or an object
            found = [_find(probe, value) for probe, value in zip(self.probes, row, strict=True)]
        if self._keywords is not None and (
            self._screen is None or self._free or any(found) or self._screen.holds(data)
        ):
            found += [_find(self._keywords, value) for value in leaves(data)]
        return found

    def _asked(self, data: Data, row: tuple[object, ...], found: list[Found]) -> Matches:
        slots, true = self._free.union(*found), NO_ATOMS.union(*[one.atoms for one in found])
        facts = Row(row, self._places, data)
        matched = [self._rules[slot] for slot in slots if (self._checks[slot] or self._check(slot))(true, facts)]
        return tuple(sorted([*self._fixed, *matched])) if matched else self._fixed

    def _check(self, slot: int) -> Check:
        check = self._checks[slot] = compile_group(self._groups[slot])
        return check


def column_of(events: Sequence[Data], name: str) -> list[object]:
    """The values of a field found by its name alone; None where it is absent."""
    try:
        return list(map(dict.get, events, repeat(name)))  # type: ignore[arg-type]
    except TypeError:  # an event that is no dictionary
        return [each.get(name) for each in events]


def _find(probe: Probe, value: object) -> Found:
    try:
        return probe[value]  # type: ignore[no-any-return]
    except TypeError:
        return probe.find(value)


def watches(watch: Watch) -> bool:
    """Whether a watch can bring any rule up."""
    return bool(watch.brings or watch.tests)


def is_plain(column: Column) -> bool:
    """Whether a field is read by its name alone."""
    return column.space == Space.DATA and "." not in column.name and not column.existing


def confusable(row: tuple[object, ...]) -> bool:
    """Whether Python finds rows equal to this one that rules do not: True equals 1 and False equals 0.

    Such rows are remembered together with the types of their values.
    """
    return any(type(value) is not str and value in (0, 1) for value in row)
