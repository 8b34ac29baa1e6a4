"""Which rules a field's value brings up and which atoms it makes true, remembered by value."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import chain

from vedette.expr import codec, nodes
from vedette.expr.matcher.asks import Check, RowCheck, compile_ask, compile_group, project
from vedette.expr.matcher.memo import Budget, Memo
from vedette.expr.matcher.needles import Needles
from vedette.expr.matcher.plan import KEYWORD, NONE, Ask, Group, Watch
from vedette.expr.matcher.rows import Row
from vedette.expr.nodes import Field
from vedette.expr.values import MISSING, elements, fold, text_of

REMEMBERED_CHARS = 4_096
"""Longest text whose answer is remembered; of longer ones, which are rarely seen twice, only the last one's is."""

ATOM_COST = 8
"""Bytes charged for each atom that is remembered."""

Slots = tuple[int, ...]
Atoms = Collection[int]


class Probe(Memo):
    """Value of a field -> slots of the rules to look at; `probe[value]` finds and remembers what it does not hold.

    A dictionary, so that a value seen before costs no Python code at all. Only texts, whole numbers other than 0 and 1,
    and None are its keys: `True` equals 1, and a not-a-number never equals itself.

    Args:
        watch: What brings rules up.
        groups: Slot -> when the rule is true. A value that fails what a rule demands of this field alone does not
            bring it up.
        place: Of the field in the row.
        budget: Bound of the memory.
    """

    __slots__ = (
        "_atoms",
        "_brings",
        "_budget",
        "_demands",
        "_equal",
        "_groups",
        "_last",
        "_needles",
        "_null",
        "_own",
        "_place",
        "_present",
        "_tests",
        "_watch",
    )

    def __init__(self, watch: Watch, groups: list[Group], place: int, budget: Budget) -> None:
        super().__init__()
        self._watch = watch
        self._equal = watch.equal
        self._needles = Needles(watch.needles) if watch.needles else None
        self._null = frozenset({watch.exists} - {NONE})
        self._present = frozenset({watch.exists, watch.present} - {NONE})
        self._brings = watch.brings
        self._tests = [(_test(ask), slot) for ask, slot in watch.tests]
        self._groups = groups
        self._place = place
        self._own: frozenset[int] | None = None
        self._demands: dict[int, Check | None] = {}
        self._atoms: dict[object, Atoms] = {}
        self._last: tuple[object, Slots, Atoms] = (None, (), ())
        self._budget = budget
        budget.add(self)

    def __missing__(self, value: object) -> Slots:
        kind = type(value)
        if not (kind is str or value is None or (kind is int and value not in (0, 1))):
            return self.find(value)
        slots, atoms = self._search(value)
        size = len(value) if kind is str else 0  # type: ignore[arg-type]
        if size > REMEMBERED_CHARS:
            self._last = value, slots, atoms
            return slots
        self._budget.spend(self, size + ATOM_COST * len(atoms))
        self[value] = slots
        if atoms:
            self._atoms[value] = tuple(atoms)
        return slots

    def clear(self) -> None:
        """Forgets everything."""
        super().clear()
        self._atoms.clear()

    def find(self, value: object) -> Slots:
        """The slots for any value, without the memory."""
        return self._search(value)[0]

    def true(self, value: object) -> Atoms:
        """The atoms that are true of a value."""
        try:
            if value in self:
                return self._atoms.get(value, ())
        except TypeError:  # a list or an object
            pass
        return self._last[2] if value is self._last[0] else self._search(value)[1]

    def _search(self, value: object) -> tuple[Slots, Atoms]:
        atoms = self._true(value)
        brought = [self._brings[atom] for atom in atoms if atom in self._brings]
        tests = [slot for test, slot in self._tests if test(value)] if self._tests else []
        if not brought and not tests:
            return (), atoms
        return tuple(self._fit(value, atoms, {*chain.from_iterable(brought), *tests})), atoms

    def _true(self, value: object) -> Atoms:
        if value is None:
            return self._null
        if value is MISSING:
            return ()
        atoms = set(self._present)
        for item in (value,) if type(value) is str else elements(value):
            text = fold(text_of(item))
            equal = self._equal.get(text)
            if equal is not None:
                atoms.add(equal)
            if self._needles is not None:
                self._needles.search(text, atoms)
        return atoms

    def _fit(self, value: object, atoms: Atoms, found: set[int]) -> Iterator[int]:
        true, row = frozenset(atoms), Row((value,), {}, {})
        for slot in found:
            if slot not in self._demands:
                self._demands[slot] = self._demand(slot)
            check = self._demands[slot]
            if check is None or check(true, row):
                yield slot

    def _demand(self, slot: int) -> Check | None:
        if self._place == KEYWORD:  # what a rule demands of keywords may stand in several values
            return None
        if self._own is None:
            self._own = own_atoms(self._watch)
        demand = project(self._groups[slot], self._place, self._own)
        return compile_group(demand) if demand else None


def own_atoms(watch: Watch) -> frozenset[int]:
    """Every atom of a field."""
    needles = chain.from_iterable((one.anywhere, one.starts, one.ends) for one in watch.needles)
    return frozenset({watch.present, watch.exists, *watch.equal.values(), *needles}) - {NONE}


def _test(ask: Ask) -> Callable[[object], bool]:
    """An ask of a single value."""
    check: RowCheck = compile_ask(Ask(ask.op, 0, ask.text, ask.more, ask.positive, ask.node))
    places: Mapping[Field, int] = dict.fromkeys(nodes.fields(codec.decode(ask.node)), 0) if ask.node else {}
    return lambda value: check(Row((value,), places, {}))
