"""The matcher itself: builds indexes and partitions from rules and sends each event to its partition."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from vedette.core.errors import UnsupportedError
from vedette.expr import nodes, reference
from vedette.expr.matcher import route
from vedette.expr.matcher.formula import Atom, Atoms, Kind, substitute
from vedette.expr.matcher.index import Index
from vedette.expr.matcher.memo import Budget
from vedette.expr.matcher.partition import Access, Cross, Data, Matches, Partition, confusable, judged, needed
from vedette.expr.matcher.witness import sharing_cost
from vedette.expr.nodes import Field, Node, Space, Text, TextMatch
from vedette.expr.truth import Truth
from vedette.expr.values import MISSING, lookup

MEMORY_BYTES = 96 << 20
"""Default bound of everything remembered, by our own count; the process takes about twice as much."""

ROUTES = 20_000
"""Most combinations of raw routing values remembered; classes themselves are bounded by the rules."""


class Matcher:
    """Runs many rules over events. Not for several threads at once: build one per thread.

    Args:
        rules: What to match; a rule's number is its place. A rule matches when its node is true, not when unknown.
        access: How to read fields outside the space `data`, for events that carry more; default: none can be read.
        memory: Bound in bytes of remembered values and rows. Time, not answers, depends on it.

    Raises:
        UnsupportedError: `matcher.node.unsupported`, `matcher.space.unsupported`.
    """

    def __init__(
        self,
        rules: Sequence[Node],
        *,
        access: Callable[[Field], Access] | None = None,
        memory: int = MEMORY_BYTES,
    ) -> None:
        atoms = Atoms()
        self._formulas = [atoms.formula(rule) for rule in rules]
        self._atoms = atoms.all
        self._access = access
        self._budget = Budget(memory)
        self._demands = [route.pins(formula, self._atoms) for formula in self._formulas]
        self._routing = route.routing_fields(self._demands)
        self._takers = [route.Takers(field, self._demands) for field in self._routing]
        self._partitions: dict[tuple[str, ...], Partition] = {}
        self._routes: dict[tuple[object, ...], Partition] = {}
        self._route_names = tuple(field.name for field in self._routing)
        self._route_walks = any("." in name for name in self._route_names)
        self._single: dict[Field, list[tuple[int, Atom]]] = defaultdict(list)
        self._keyword: list[tuple[int, Atom]] = []
        self._crossing: dict[int, Atom] = {}
        for number, atom in enumerate(self._atoms):
            self._sort_in(number, atom)
        # Fields of which some rule asks whether they exist: only there does absent differ from null.
        self._existing = {atom.subject for atom in self._atoms if atom.kind is Kind.EXISTS}
        self._indexes: dict[Field, Index] = {}
        self._keyword_index = Index(self._keyword, self._budget) if self._keyword else None

    def _sort_in(self, number: int, atom: Atom) -> None:
        if isinstance(atom.subject, Field):
            read: tuple[Field, ...] = (atom.subject,)
        elif isinstance(atom.subject, nodes.Keyword | nodes.KeywordRegex):
            self._keyword.append((number, atom))
            return
        else:
            read = nodes.fields(atom.subject)
        for field in read:
            if field.space is not Space.DATA and self._access is None:
                raise UnsupportedError(
                    "matcher.space.unsupported", f"no way to read `{field.name}` of the space `{field.space}`"
                )
        if len(set(read)) == 1 and not isinstance(atom.subject, nodes.FieldMatch):
            self._single[read[0]].append((number, atom))
        else:
            self._crossing[number] = atom

    def match(self, data: Data) -> Matches:
        """Numbers of the rules that are true for an event, in rising order."""
        return self._partition(data).match(data)

    def match_many(self, events: Iterable[Data]) -> list[Matches]:
        """`match` for each event."""
        return [self._partition(data).match(data) for data in events]

    def prepare(self) -> int:
        """Builds the partition of every log source that a rule names, so that no event waits for it; how many."""
        for demand in self._demands:
            classes: list[tuple[str, ...]] = [()]
            for field in self._routing:
                chosen = demand.get(field, frozenset({route.OTHER}))
                classes = [(*head, value) for head in classes for value in sorted(chosen)]
            for key in classes:
                self._built(key)
        return len(self._partitions)

    def _partition(self, data: Data) -> Partition:
        key: tuple[object, ...] = tuple(map(data.get, self._route_names))
        if self._route_walks:
            found = [lookup(data, name) for name in self._route_names]
            key = tuple([None if value is MISSING else value for value in found])
        try:
            partition = self._routes.get(key)
        except TypeError:  # a list or an object
            return self._find_partition(key)
        return self._find_partition(key) if partition is None else partition

    def _find_partition(self, key: tuple[object, ...]) -> Partition:
        plain = all(value is None or type(value) in (str, int, bool) for value in key)
        typed = (key, *map(type, key))
        if plain and (known := self._routes.get(typed)):
            return known
        pairs = zip(key, self._takers, strict=True)
        partition = self._built(tuple(route.classify(value, takers.pinned) for value, takers in pairs))
        if plain:
            if len(self._routes) >= ROUTES:
                self._routes.clear()
            self._routes[typed if confusable(key) else key] = partition
        return partition

    def _built(self, classes: tuple[str, ...]) -> Partition:
        partition = self._partitions.get(classes)
        if partition is None:
            partition = self._partitions[classes] = self._build(dict(zip(self._routing, classes, strict=True)))
        return partition

    def _build(self, classes: Mapping[Field, str]) -> Partition:
        numbers = set(range(len(self._formulas)))
        for chosen, takers in zip(classes.values(), self._takers, strict=True):
            numbers &= takers.of(chosen)
        formulas = judged(
            {number: substitute(self._formulas[number], lambda atom: self._known(atom, classes)) for number in numbers}
        )
        asked = needed(formulas.values())
        fields = self._fields_of(asked)
        plain = {field: self._index(field) for field in fields if self._is_plain(field)}
        walked = {field: (self._index(field), self._reader(field)) for field in fields if field not in plain}
        return Partition(
            formulas,
            plain=plain,
            walked=walked,
            crosses={number: self._cross(atom) for number, atom in self._crossing.items() if number in asked},
            keywords=self._keyword_index if any(number in asked for number, _ in self._keyword) else None,
            cost=sharing_cost(list(formulas.values()), self._weight),
            budget=self._budget,
        )

    def _fields_of(self, asked: set[int]) -> list[Field]:
        found: dict[Field, None] = {}
        for number in sorted(asked):
            subject = self._atoms[number].subject
            found.update(dict.fromkeys((subject,) if isinstance(subject, Field) else nodes.fields(subject)))
        return list(found)

    def _known(self, number: int, classes: Mapping[Field, str]) -> bool | None:
        """The answer of an atom that is the same for every event of these classes; None when it is not."""
        atom = self._atoms[number]
        subject = atom.subject
        field = subject if isinstance(subject, Field) else subject.field if isinstance(subject, Text) else None
        chosen = classes.get(field, route.OPEN) if field else route.OPEN
        if field is None or chosen == route.OPEN:
            return None
        if isinstance(subject, Text) and subject.match is TextMatch.EQUALS and not subject.cased:
            # A class is one folded text, or none of those that a rule pins.
            pinned = self._takers[self._routing.index(field)].pinned
            return subject.value == chosen if chosen != route.OTHER or subject.value in pinned else None
        if chosen == route.OTHER:
            return None
        if isinstance(subject, Text):
            return None if subject.cased else reference.evaluate(subject, lambda _field: chosen) is Truth.TRUE
        return True

    def _index(self, field: Field) -> Index:
        if field not in self._indexes:
            self._indexes[field] = Index(self._single.get(field, ()), self._budget)
        return self._indexes[field]

    def _is_plain(self, field: Field) -> bool:
        return field.space is Space.DATA and "." not in field.name and field not in self._existing

    def _reader(self, field: Field) -> Access:
        """Reads a field; gives None for absent unless some rule tells absent from null."""
        if self._access is not None and field.space is not Space.DATA:
            return self._access(field)
        name, absent = field.name, MISSING if field in self._existing else None

        def walk(data: Data) -> object:
            value = lookup(data, name)
            return absent if value is MISSING else value

        return walk

    def _cross(self, atom: Atom) -> Cross:
        wanted = Truth.TRUE if atom.kind is Kind.HOLDS else Truth.FALSE
        subject = atom.subject
        assert not isinstance(subject, Field)  # noqa: S101 - crossing atoms are predicates
        return lambda read: reference.evaluate(subject, read) is wanted

    def _weight(self, number: int) -> float:
        """How likely an atom is to be true, very roughly: long literals are rare, presence is common."""
        atom = self._atoms[number]
        match atom.subject:
            case Text(match=TextMatch.EQUALS):
                return 0.5
            case Text(value=value) | nodes.Keyword(value=value):
                return max(0.05, 4.0 / (1 + len(value)))
            case Field():
                return 50.0
            case _:
                return 1.0
