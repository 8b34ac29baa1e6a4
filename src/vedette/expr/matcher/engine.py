"""The matcher itself: sends each event to the partitions of the rules that can match it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate, chain, product
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from vedette.core.errors import UnsupportedError
from vedette.expr.matcher import route
from vedette.expr.matcher.build import Builder
from vedette.expr.matcher.memo import Budget
from vedette.expr.matcher.partition import Access, Data, Matches, Partition, column_of
from vedette.expr.matcher.plan import Part, Plan
from vedette.expr.matcher.sweep import Sweep
from vedette.expr.nodes import Field, Node, Space
from vedette.expr.values import MISSING, lookup

if TYPE_CHECKING:
    from vedette.expr.matcher.flat import Step
    from vedette.expr.matcher.skimmer import Skimmer

MEMORY_BYTES = 96 << 20
"""Default bound of everything remembered, by our own count; the process takes about twice as much."""

ROUTES = 20_000
"""Most combinations of raw routing values remembered; classes themselves are bounded by the rules."""

_NOTHING_ELSE: Mapping[str, Callable[[object], bool]] = MappingProxyType({})
_PLAIN = frozenset({str, int, type(None)})

Route = tuple[tuple[Partition, ...], tuple[Partition, ...]]
"""Where an event goes, and where it goes when no keyword stands in it."""


class Matcher:
    """Runs many rules over events. Not for several threads at once: build one per thread.

    Args:
        rules: What to match; a rule's number is its place. A rule matches when its node is true, not when unknown. A
            function when they are dear to load: with a plan they are asked for at an event with a list where most have
            one value, such as `EventID`, and never else.
        access: How to read fields outside the space `data`, for events that carry more; default: none can be read.
        memory: Bound in bytes of remembered values and rows. Time, not answers, depends on it.
        plan: What `plan` gave for the same rules, here or in an earlier process.

    Raises:
        UnsupportedError: `matcher.node.unsupported`, `matcher.space.unsupported`.
    """

    def __init__(
        self,
        rules: Sequence[Node] | Callable[[], Sequence[Node]],
        *,
        access: Callable[[Field], Access] | None = None,
        memory: int = MEMORY_BYTES,
        plan: bytes = b"",
    ) -> None:
        self._rules = rules
        self._access = access
        self._budget = Budget(memory)
        self.plan = plan or msgspec.msgpack.encode(Builder(rules() if callable(rules) else rules).plan())
        """The rules made ready, as bytes that another process may give to its matcher."""
        found = msgspec.msgpack.decode(self.plan, type=Plan)
        self._raw = {tuple(classes): raw for classes, raw in found.parts}
        self._pinned = [frozenset(each) for each in found.pinned]
        self._sweep = Sweep(found.sweep) if found.sweep else None
        self._partitions: dict[tuple[str, ...], Partition] = {}
        self._whole: Partition | None = None
        self._routes: dict[tuple[object, ...], Route] = {}
        self._names = tuple(found.routing)
        self._walks = any("." in name for name in self._names)
        self._check_spaces()

    def match(self, data: Data) -> Matches:
        """Numbers of the rules that are true for an event, in rising order."""
        partitions, _ = self._route(data)
        if len(partitions) == 1:
            return partitions[0].match(data)
        return _merged([each.match(data) for each in partitions])

    def match_many(self, events: Sequence[Data], suspects: frozenset[int] | None = None) -> list[Matches]:
        """`match` for each event; the more at once, the less each costs.

        Args:
            events: Decoded.
            suspects: What `suspects` gave for the lines they were decoded from; None when it was not asked.
        """
        found: list[Matches] = [()] * len(events)
        swept = suspects is not None
        groups: dict[Partition, list[int]] = defaultdict(list)
        for goes, places in self._routed(events).items():
            doubted = swept and not suspects.isdisjoint(places)  # type: ignore[union-attr]
            for partition in goes[0] if doubted or not swept else goes[1]:
                groups[partition] += places
        for partition, places in groups.items():
            doubtful: Sequence[int] = range(len(places))
            if suspects is not None:
                doubtful = [number for number, place in enumerate(places) if place in suspects] if suspects else ()
            for number, numbers in partition.match_many([events[place] for place in places], doubtful).items():
                place = places[number]
                found[place] = _merged([found[place], numbers])
        return found

    def suspects(self, text: bytes, ended: Iterable[bytes]) -> frozenset[int]:
        """Places of the lines of JSON that a rule on keywords has to look at; of all others it is known to be false.

        One pass over the bytes of many events, at a tenth of what it costs to look at the values of each.

        Args:
            text: The lines.
            ended: The same, cut after each newline.
        """
        return self._sweep.lines(text, [*accumulate(map(len, ended))]) if self._sweep else frozenset()

    def skimmer(
        self, steps: Sequence[Step] = (), asked: Mapping[str, Callable[[object], bool]] = _NOTHING_ELSE
    ) -> Skimmer:
        """What rules out lines of JSON without decoding them; loads compiled code, which takes some 0.4 s.

        Args:
            steps: How records are shaped between decoding and matching.
            asked: Field -> what else is asked of its values: a line of which it says yes is not ruled out.
        """
        from vedette.expr.matcher.skimmer import Skimmer

        self.prepare()
        names = {column.name for each in self._partitions.values() for column in each.part.columns}
        fields = list(zip(self._names, self._pinned, strict=True))
        return Skimmer(
            fields,
            sorted(names),
            steps,
            partitions=self._partitions,
            find=self._partitions_of,
            rest=self.match_many,
            sweep=self._sweep,
            asked=asked,
        )

    def prepare(self) -> int:
        """Builds every partition, so that no event waits for it; how many."""
        for classes in self._raw:
            self._partition(classes)
        return len(self._partitions)

    def _routed(self, events: Sequence[Data]) -> dict[Route, list[int]]:
        """Where events go -> their places, rising; found for all at once where their routing values are plain."""
        places: dict[Route, list[int]] = defaultdict(list)
        columns = [] if self._walks else [column_of(events, name) for name in self._names]
        if columns and all(_PLAIN.issuperset(map(type, column)) for column in columns):
            by_key: dict[tuple[object, ...], list[int]] = defaultdict(list)
            for place, key in enumerate(zip(*columns, strict=True)):
                by_key[key].append(place)
            for key, some in by_key.items():
                goes = self._routes.get(key)
                places[self._find_route(key) if goes is None else goes] += some
        else:
            for place, data in enumerate(events):
                places[self._route(data)].append(place)
        return places

    def _route(self, data: Data) -> Route:
        if self._walks:
            found = [lookup(data, name) for name in self._names]
            key: tuple[object, ...] = tuple([None if value is MISSING else value for value in found])
        else:
            key = tuple(map(data.get, self._names))
        if not _PLAIN.issuperset(map(type, key)):
            return self._find_route(key)
        known = self._routes.get(key)
        return self._find_route(key) if known is None else known

    def _find_route(self, key: tuple[object, ...]) -> Route:
        classes = [route.classify(value, pinned) for value, pinned in zip(key, self._pinned, strict=True)]
        if route.OPEN in classes:
            return (self._open(),), (self._open(),)
        partitions = self._partitions_of(classes)
        found = partitions, tuple(each for each in partitions if not each.idle)
        if _PLAIN.issuperset(map(type, key)):  # as keys, truth values and floats would be taken for numbers
            if len(self._routes) >= ROUTES:
                self._routes.clear()
            self._routes[key] = found
        return found

    def _partitions_of(self, classes: Iterable[str]) -> tuple[Partition, ...]:
        # Rules are kept by just what they demand; an event meets those that demand its class or nothing.
        wanted = product(*({one, route.REST} for one in classes))
        return tuple(self._partition(one) for one in wanted if one in self._raw)

    def _partition(self, classes: tuple[str, ...]) -> Partition:
        partition = self._partitions.get(classes)
        if partition is None:
            part = msgspec.msgpack.decode(self._raw[classes], type=Part)
            partition = self._partitions[classes] = Partition(part, self._reader, self._budget)
        return partition

    def _open(self) -> Partition:
        if self._whole is None:
            part = Builder(self._rules() if callable(self._rules) else self._rules).whole()
            self._whole = Partition(part, self._reader, self._budget)
        return self._whole

    def _check_spaces(self) -> None:
        if self._access is not None:
            return
        for raw in self._raw.values():
            for column in msgspec.msgpack.decode(raw, type=Part).columns:
                if column.space != Space.DATA:
                    raise UnsupportedError(
                        "matcher.space.unsupported", f"no way to read `{column.name}` of the space `{column.space}`"
                    )

    def _reader(self, field: Field, *, existing: bool) -> Access:
        """Reads a field; gives None for absent unless some rule tells absent from null."""
        if self._access is not None and field.space is not Space.DATA:
            return self._access(field)
        name, absent = field.name, MISSING if existing else None

        def walk(data: Data) -> object:
            value = lookup(data, name)
            return absent if value is MISSING else value

        return walk


def _merged(found: Sequence[Matches]) -> Matches:
    some = [numbers for numbers in found if numbers]
    if len(some) > 1:
        return tuple(sorted(chain.from_iterable(some)))
    return some[0] if some else ()
