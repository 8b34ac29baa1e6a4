"""Questions for an engine: an expression, an event, and what the reference answers; about half of them true."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vedette.expr.nodes import Node
from vedette.expr.truth import Truth
from vedette.testing.events import Event, Kind, Neighbour, answer, neighbours, satisfy


@dataclass(frozen=True, slots=True)
class Pair:
    """One question."""

    number: int
    """Place of the expression among those given."""
    node: Node
    event: Event
    true: bool
    """What the reference says; unknown is not true."""
    change: Neighbour | None = None
    """How it differs from the event made for the expression; None: not at all."""


def pairs(nodes: Sequence[Node], count: int, *, seed: int = 0) -> Iterator[Pair]:
    """Questions about expressions taken by turns, each on an event made for it or on one that differs in one field.

    Every second question is meant to be true and every other one not; an expression that no event was found for, or
    that holds for all its neighbours, breaks the rhythm. The same seed gives the same questions.

    Args:
        nodes: Expressions over the space `data`, at least one.
        count: How many questions.
        seed: Where chance begins.
    """
    rng = random.Random(seed)  # noqa: S311 - chance, no secret
    order = rng.sample(range(len(nodes)), len(nodes))
    made: dict[int, list[Pair]] = {}
    for place in range(count):
        number = order[place % len(order)]
        if number not in made:
            made[number] = list(_about(number, nodes[number], seed))
        wanted = (place + place // len(order)) % 2 == 0
        fitting = [one for one in made[number] if one.true is wanted] or made[number]
        yield rng.choices(fitting, [_weight(one) for one in fitting])[0]


def _weight(pair: Pair) -> int:
    """What is absent or null is where engines differ most, so it is asked about more often."""
    return 4 if pair.change and pair.change.kind in (Kind.ABSENT, Kind.NULL) else 1


def _about(number: int, node: Node, seed: int) -> Iterator[Pair]:
    start = satisfy(node, seed=seed) or {}
    yield Pair(number, node, start, answer(node, start) is Truth.TRUE)
    for change in neighbours(node, start):
        yield Pair(number, node, change.event, answer(node, change.event) is Truth.TRUE, change)
