"""Which rules a field's value brings up and which atoms it makes true, remembered by value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain

from vedette.expr import codec, nodes
from vedette.expr.matcher.asks import Check, RowCheck, compile_ask, compile_group, project
from vedette.expr.matcher.memo import Budget, Memo
from vedette.expr.matcher.needles import Needles, utf8_exactly
from vedette.expr.matcher.plan import KEYWORD, NONE, Ask, Group, Watch
from vedette.expr.matcher.rows import Row
from vedette.expr.nodes import Field
from vedette.expr.patterns import compile_regex
from vedette.expr.values import MISSING, elements, fold, text_of, utf8

REMEMBERED_CHARS = 4_096
"""Longest text whose answer is remembered; of longer ones, which are rarely seen twice, only the last one's is."""

KINDS = 4_096
"""Most different answers that are shared by the values of a field."""

Atoms = frozenset[int]
NO_ATOMS: Atoms = frozenset()


class Found(list[int]):
    """What a value means to the rules: the slots of those to look at, and the atoms that it makes true.

    A list of the slots, so that it is false where there are none and a whole column is looked over in C.
    """

    __slots__ = ("atoms",)

    def __init__(self, slots: Iterable[int] = (), atoms: Atoms = NO_ATOMS) -> None:
        super().__init__(slots)
        self.atoms = atoms


NOTHING = Found()


class Probe(Memo):
    """Value of a field -> what it means; `probe[value]` finds and remembers what it does not hold.

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
        "_brings",
        "_budget",
        "_demands",
        "_equal",
        "_groups",
        "_kinds",
        "_last",
        "_needles",
        "_null",
        "_own",
        "_place",
        "_present",
        "_tests",
    )

    def __init__(self, watch: Watch, groups: list[Group], place: int, budget: Budget) -> None:
        super().__init__()
        self._equal = {utf8_exactly(text): atom for text, atom in watch.equal.items()}
        self._needles = Needles(watch.needles) if watch.needles else None
        self._null = frozenset({watch.exists} - {NONE})
        self._present = frozenset({watch.exists, watch.present} - {NONE})
        self._brings = watch.brings
        self._tests = [(_test(ask), slot) for ask, slot in watch.tests]
        self._groups = groups
        self._place = place
        self._own = own_atoms(watch)
        self._demands: dict[int, Check | None] = {}
        self._kinds: dict[tuple[tuple[int, ...], Atoms], Found] = {}
        self._last: tuple[object, Found] = (MISSING, NOTHING)
        self._budget = budget
        budget.add(self)

    def __missing__(self, value: object) -> Found:
        kind = type(value)
        if kind is str:
            size = len(value)  # type: ignore[arg-type]
            if size > REMEMBERED_CHARS:
                if value is not self._last[0]:
                    self._last = value, self.find(value)
                return self._last[1]
        elif value is None or (kind is int and value not in (0, 1)):
            size = 0
        else:
            return self.find(value)
        found = self.find(value)
        self._budget.spend(self, size)
        self[value] = found
        return found

    def find(self, value: object) -> Found:
        """What any value means, without the memory."""
        atoms = self._true(value)
        slots: set[int] = set()
        for atom in self._brings.keys() & atoms:
            slots.update(self._brings[atom])
        for test, slot in self._tests:
            if slot not in slots and test(value):
                slots.add(slot)
        kind = tuple(self._fit(value, atoms, slots)) if slots else (), atoms
        found = self._kinds.get(kind)
        if found is None:
            if len(self._kinds) >= KINDS:
                self._kinds.clear()
            found = self._kinds[kind] = Found(*kind)
        return found

    def _true(self, value: object) -> Atoms:
        if type(value) is str:
            # Of ASCII, bytes are folded in half the time.
            folded = value.encode().lower() if value.isascii() else utf8_exactly(fold(value))
            texts: Iterable[bytes] = (folded,)
        elif value is None:
            return self._null
        elif value is MISSING:
            return NO_ATOMS
        else:
            texts = [utf8_exactly(fold(text_of(item))) for item in elements(value)]
        atoms = set(self._present)
        for text in texts:
            if text in self._equal:
                atoms.add(self._equal[text])
            if self._needles is not None:
                self._needles.search(text, atoms)
        return frozenset(atoms)

    def _fit(self, value: object, atoms: Atoms, slots: set[int]) -> Iterator[int]:
        row = Row((value,), {}, {})
        for slot in slots:
            if slot not in self._demands:
                self._demands[slot] = self._demand(slot)
            check = self._demands[slot]
            if check is None or check(atoms, row):
                yield slot

    def _demand(self, slot: int) -> Check | None:
        if self._place == KEYWORD:  # what a rule demands of keywords may stand in several values
            return None
        demand = project(self._groups[slot], self._place, self._own)
        return compile_group(demand) if demand else None


def own_atoms(watch: Watch) -> frozenset[int]:
    """Every atom of a field."""
    needles = chain.from_iterable((one.anywhere, one.starts, one.ends) for one in watch.needles)
    return frozenset({watch.present, watch.exists, *watch.equal.values(), *needles}) - {NONE}


def _test(ask: Ask) -> Callable[[object], bool]:
    """An ask of a single value."""
    if ask.op == "regex" and ask.positive:
        search = compile_regex(ask.text, ask.more).search
        return lambda value: any(search(utf8(text_of(item))) is not None for item in elements(value))
    check: RowCheck = compile_ask(Ask(ask.op, 0, ask.text, ask.more, ask.positive, ask.node))
    places: Mapping[Field, int] = dict.fromkeys(nodes.fields(codec.decode(ask.node)), 0) if ask.node else {}
    return lambda value: check(Row((value,), places, {}))
