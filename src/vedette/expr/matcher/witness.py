"""Witnesses: for each rule a small set of atoms of which at least one is true whenever the rule is.

Only rules with a true witness are looked at; on most events that is none of a thousand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from vedette.expr.matcher.formula import All, Any, Formula, Lit, atoms_of

Cost = Callable[[int], float]
"""How likely an atom is true, in any unit."""


def witness(formula: Formula, cost: Cost) -> frozenset[int] | None:
    """The cheapest witness; None when the formula can be true with every atom false."""
    best = _best(formula, cost)
    return best[1] if best else None


def _best(formula: Formula, cost: Cost) -> tuple[float, frozenset[int]] | None:
    match formula:
        case Lit(atom=atom, positive=True):
            return cost(atom), frozenset({atom})
        case All(parts=parts):
            found = [best for part in parts if (best := _best(part, cost))]
            return min(found, key=lambda best: (best[0], len(best[1]))) if found else None
        case Any(parts=parts):
            each = [_best(part, cost) for part in parts]
            if any(best is None for best in each):
                return None
            union = frozenset().union(*(best[1] for best in each if best))
            return sum(map(cost, union)), union
        case _:
            return None


def sharing_cost(formulas: Sequence[Formula], weight: Callable[[int], float]) -> Cost:
    """A cost that grows with how many rules contain an atom: what many rules ask for is common in what they watch."""
    uses: Mapping[int, int] = Counter(atom for formula in formulas for atom in atoms_of(formula))
    return lambda atom: weight(atom) * uses[atom]
