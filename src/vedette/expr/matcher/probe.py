"""Which rules a field's value brings up, remembered by value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from vedette.expr import codec, nodes
from vedette.expr.matcher.asks import Check, compile_ask, compile_group
from vedette.expr.matcher.memo import Budget, Memo
from vedette.expr.matcher.needles import Needles
from vedette.expr.matcher.plan import Ask, Group, Watch
from vedette.expr.matcher.rows import Row
from vedette.expr.nodes import Field
from vedette.expr.values import MISSING, elements, fold, text_of

REMEMBERED_CHARS = 4_096
"""Longest text whose answer is remembered; longer ones are rarely seen twice."""

Slots = tuple[int, ...]


class Probe(Memo):
    """Value of a field -> slots of the rules to look at; `probe[value]` finds and remembers what it does not hold.

    A dictionary, so that a value seen before costs no Python code at all. Only texts, whole numbers other than 0 and 1,
    and None are its keys: `True` equals 1, and a not-a-number never equals itself.

    Args:
        watch: What brings rules up.
        demand: What a rule demands of this field alone; None when nothing. A value that fails it brings no rule up.
        budget: Bound of the memory.
    """

    __slots__ = ("_absent", "_budget", "_demand", "_demands", "_equal", "_needles", "_present", "_tests")

    def __init__(self, watch: Watch, demand: Callable[[int], Group | None], budget: Budget) -> None:
        super().__init__()
        self._equal = watch.equal
        self._needles = Needles(watch.needles) if watch.needles else None
        self._present = watch.present
        self._absent: Slots = tuple(watch.absent)
        self._tests = [(_test(ask), slot) for ask, slot in watch.tests]
        self._demand = demand
        self._demands: dict[int, Check | None] = {}
        self._budget = budget
        budget.add(self)

    def __missing__(self, value: object) -> Slots:
        kind = type(value)
        if kind is str:
            found = self._find(value)
            size = len(value)  # type: ignore[arg-type]
            if size > REMEMBERED_CHARS:
                return found
        elif value is None or (kind is int and value not in (0, 1)):
            found, size = self.find(value), 0
        else:
            return self.find(value)
        self._budget.spend(self, size)
        self[value] = found
        return found

    def find(self, value: object) -> Slots:
        """The slots for any value, without the memory."""
        if value is None:
            return self._absent
        return () if value is MISSING else self._find(value)

    def _find(self, value: object) -> Slots:
        found = set(self._present)
        for item in (value,) if type(value) is str else elements(value):
            text = fold(text_of(item))
            if text in self._equal:
                found.update(self._equal[text])
            if self._needles is not None:
                self._needles.search(text, found)
        for test, slot in self._tests:
            if slot not in found and test(value):
                found.add(slot)
        return tuple(self._fit(value, found)) if found else ()

    def _fit(self, value: object, found: set[int]) -> Iterator[int]:
        row = Row((value,), {}, {})
        for slot in found:
            if slot not in self._demands:
                demand = self._demand(slot)
                self._demands[slot] = compile_group(demand) if demand else None
            check = self._demands[slot]
            if check is None or check(row):
                yield slot


def _test(ask: Ask) -> Callable[[object], bool]:
    """An ask of a single value."""
    check: Check = compile_ask(Ask(ask.op, 0, ask.text, ask.more, ask.positive, ask.node))
    places: Mapping[Field, int] = dict.fromkeys(nodes.fields(codec.decode(ask.node)), 0) if ask.node else {}
    return lambda value: check(Row((value,), places, {}))
