"""Questions for an engine: an expression, an event, and what the reference answers; about half of them true."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vedette.expr.nodes import Node
from vedette.expr.truth import Truth
from vedette.testing.events import Event, answer, neighbours, satisfy


@dataclass(frozen=True, slots=True)
class Pair:
    """One question."""

    number: int
    """Place of the expression among those given."""
    node: Node
    event: Event
    true: bool
    """What the reference says; unknown is not true."""


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
    made: dict[int, list[tuple[Event, bool]]] = {}
    for place in range(count):
        number = order[place % len(order)]
        if number not in made or place % len(order) == place:
            made[number] = _about(nodes[number], seed)
        wanted = (place + place // len(order)) % 2 == 0
        held = made[number]
        fitting = [one for one in held if one[1] is wanted] or held
        event, true = rng.choice(fitting)
        yield Pair(number, nodes[number], event, true)


def _about(node: Node, seed: int) -> list[tuple[Event, bool]]:
    start = satisfy(node, seed=seed) or {}
    events = [start, *(one.event for one in neighbours(node, start))]
    return [(event, answer(node, event) is Truth.TRUE) for event in events]
