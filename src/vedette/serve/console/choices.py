"""Filters of a list as links: each choice is an address, so that a view can be kept, sent and opened again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from vedette.serve.policy import Served

Query = Sequence[tuple[str, str]]
"""Parameters of an address, in order."""

MAX_SHOWN = 7
"""Values of a facet that are shown at once; the others are folded."""
PAGED = frozenset({"after"})
"""Parameters that belong to one page of a list: a choice starts at the first one again."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One value of a facet."""

    value: str
    label: str
    count: int
    chosen: bool
    url: str
    """Where a click leads: with the value, or without it when it is chosen."""


@dataclass(frozen=True, slots=True)
class Facet:
    """One way to narrow a list."""

    name: str
    label: str
    kind: str
    """How its values look: `level`, `state`, `attack` or text."""
    choices: tuple[Choice, ...]
    more: tuple[Choice, ...]
    """Folded ones."""
    clear: str
    """Address without the facet; empty while nothing of it is chosen."""


def address(path: str, query: Query, *, drop: Iterable[str] = (), **changes: str) -> str:
    """An address with parameters left out, and others put in place of theirs."""
    without = {*drop, *changes}
    kept = [(name, value) for name, value in query if name not in without]
    added = [(name, value) for name, value in changes.items() if value]
    found = urlencode([*kept, *added])
    return f"{path}?{found}" if found else path


def facet(
    path: str,
    query: Query,
    name: str,
    counts: Mapping[str, int],
    *,
    label: str,
    kind: str = "",
    order: Sequence[str] = (),
    single: bool = False,
    name_of: Callable[[str], str] = str,
) -> Facet:
    """A facet with its choices.

    Args:
        path: Of the list.
        query: What is asked now.
        name: Its parameter.
        counts: Value -> what the list would hold with it, most first.
        label: For people.
        kind: How values look.
        order: Values in the order to show them, and shown with a count of 0 too; others follow by count.
        single: A choice replaces the one before.
        name_of: A value for people.
    """
    chosen = {value for parameter, value in query if parameter == name}
    values = [*order, *(value for value in counts if value not in order)]
    values += sorted(chosen - set(values))
    if not order:
        values.sort(key=lambda value: value not in chosen)
    made = [
        Choice(value, name_of(value), counts.get(value, 0), value in chosen, _toggled(path, query, name, value, single))
        for value in values
    ]
    shown = max(MAX_SHOWN, len(chosen))
    clear = address(path, query, drop=[name, *PAGED]) if chosen else ""
    return Facet(name, label, kind, tuple(made[:shown]), tuple(made[shown:]), clear)


def _toggled(path: str, query: Query, name: str, value: str, single: bool) -> str:  # noqa: FBT001
    pair = (name, value)
    kept = [each for each in query if each != pair and each[0] not in PAGED and not (single and each[0] == name)]
    return address(path, kept if pair in query else [*kept, pair])


class Names:
    """Names of people by their ids, read once for a page.

    Args:
        platform: Whose people.
        tenant: Of which tenant.
    """

    def __init__(self, platform: Served, tenant: str) -> None:
        self._names = {person.id: person.name for person in platform.access.people.list(tenant)}

    def __call__(self, operator: str) -> str:
        """The name of a person; of another operator its id."""
        return self._names.get(operator, operator)
