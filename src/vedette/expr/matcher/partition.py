"""The rules that can match events of one log source, and the memory of rows already judged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from vedette.expr.matcher.formula import Formula, atoms_of, compile_check
from vedette.expr.matcher.index import Index
from vedette.expr.matcher.memo import Budget
from vedette.expr.matcher.witness import Cost, witness
from vedette.expr.nodes import Field
from vedette.expr.values import leaves

Data = Mapping[str, object]
Matches = tuple[int, ...]
Access = Callable[[Data], object]
Check = Callable[[set[int]], bool]
Cross = Callable[[Callable[[Field], object]], bool]
"""A question about two fields at once: from a reader of fields to the answer."""


class Partition:
    """Judges the events of one log source.

    Args:
        formulas: Rule number -> when it is true, over atoms that the log source leaves open.
        plain: Field -> index, of fields read by their name alone.
        walked: Field -> index and way to read it, of all other fields.
        crosses: Atom -> question about two fields.
        keywords: Index over every value of the event, when a rule asks for keywords.
        cost: How likely each atom is.
        budget: Bound of the memory.
    """

    def __init__(
        self,
        formulas: Mapping[int, Formula],
        *,
        plain: Mapping[Field, Index],
        walked: Mapping[Field, tuple[Index, Access]],
        crosses: Mapping[int, Cross],
        keywords: Index | None,
        cost: Cost,
        budget: Budget,
    ) -> None:
        self._always = sorted(number for number, formula in formulas.items() if formula is True)
        self._fixed = tuple(self._always)
        self._names = tuple(field.name for field in plain)
        self._walks = tuple(access for _, access in walked.values())
        self._fields = (*plain, *walked)
        self._indexes = (*plain.values(), *(index for index, _ in walked.values()))
        self._crosses = tuple(crosses.items())
        self._keywords = keywords
        self._checks: dict[int, Check] = {}
        self._by_witness: dict[int, list[int]] = defaultdict(list)
        self._unwitnessed: list[int] = []
        for number, formula in formulas.items():
            if formula is not True:
                self._add(number, formula, cost)
        self._formulas = {number: formula for number, formula in formulas.items() if formula is not True}
        self._memory: dict[tuple[object, ...], Matches] = budget.memory()
        self._typed_memory: dict[tuple[object, ...], Matches] = budget.memory()
        self._budget = budget

    def _add(self, number: int, formula: Formula, cost: Cost) -> None:
        found = witness(formula, cost)
        if found is None:
            self._unwitnessed.append(number)
        else:
            for atom in found:
                self._by_witness[atom].append(number)

    def match(self, data: Data) -> Matches:
        """Numbers of the rules that are true for an event, in rising order."""
        if not self._formulas:
            return self._fixed
        row: tuple[object, ...] = tuple(map(data.get, self._names))
        if self._walks:
            row += tuple([access(data) for access in self._walks])
        if self._keywords is not None:
            row += (self._find_keywords(data),)
        try:
            known = self._memory.get(row)
        except TypeError:  # a list or an object in a field: judged every time
            return self._judge(row)
        return self._judge_and_remember(row) if known is None else known

    def _find_keywords(self, data: Data) -> frozenset[int]:
        index = self._keywords
        return frozenset(atom for value in leaves(data) for atom in index.atoms(value)) if index else frozenset()

    def _judge_and_remember(self, row: tuple[object, ...]) -> Matches:
        memory, key = self._memory, row
        if confusable(row):
            memory, key = self._typed_memory, (*row, *map(type, row))
            if (known := memory.get(key)) is not None:
                return known
        matches = self._judge(row)
        self._budget.spend(sum(len(value) for value in row if isinstance(value, str)) + 8 * len(row))
        memory[key] = matches
        return matches

    def _judge(self, row: tuple[object, ...]) -> Matches:
        true: set[int] = set()
        for index, value in zip(self._indexes, row, strict=False):
            true.update(index.atoms(value))
        if self._keywords is not None:
            true |= row[-1]  # type: ignore[arg-type]
        if self._crosses:
            values = dict(zip(self._fields, row, strict=False))
            true.update(atom for atom, holds in self._crosses if holds(values.__getitem__))
        by_witness = self._by_witness
        candidates = set(self._unwitnessed)
        for atom in true & by_witness.keys():
            candidates.update(by_witness[atom])
        matched = [number for number in candidates if self._check(number)(true)]
        return tuple(sorted([*self._always, *matched])) if matched else self._fixed

    def _check(self, number: int) -> Check:
        check = self._checks.get(number)
        if check is None:
            check = self._checks[number] = compile_check(self._formulas[number])
        return check


def confusable(row: tuple[object, ...]) -> bool:
    """Whether Python finds rows equal to this one that rules do not: True equals 1 and False equals 0.

    Such rows are remembered together with the types of their values.
    """
    return any(type(value) is not str and value in (0, 1) for value in row)


def needed(formulas: Iterable[Formula]) -> set[int]:
    """Every atom that some formula still asks for."""
    return set().union(*(atoms_of(formula) for formula in formulas))


def judged(formulas: Mapping[int, Formula]) -> dict[int, Formula]:
    """The formulas that are not false, in rising order."""
    return {number: formulas[number] for number in sorted(formulas) if formulas[number] is not False}
