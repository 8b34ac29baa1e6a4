"""Watch: the indicators that are looked for, laid out to be asked about a million values a second.

Canonical values stand in one table; a name is asked for together with the names above it, an address also for the
networks it lies in. Networks are merged into intervals that say no fast; which network it was is asked only after a
yes. What was asked before is remembered, in bounds. A watch knows no time: who asks says when the event happened, and
an indicator that held then, and only then, counts.

Costs about 250 bytes an indicator. One writer; readers in the same thread.
"""

from __future__ import annotations

import ipaddress
import struct
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from socket import inet_aton
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from vedette.core.errors import DataError
from vedette.sense.intel.indicator import FOREVER
from vedette.sense.intel.observables import Observables, texts
from vedette.sense.intel.patterns import Formula
from vedette.sense.intel.values import Kind, address, canonical, host_of, parents, url_keys

REMEMBERED = 1 << 18
"""Most values that are remembered to match nothing."""
NONE: tuple[int, ...] = ()

_IPV4 = 32


class Hit(NamedTuple):
    """An indicator that an event matches."""

    seq: int
    """Of the indicator's version."""
    field: str
    """The source's name of the field."""
    value: str
    """The indicator's value."""
    text: str
    """What the event holds."""


class Watch:
    """The indicators of one tenant. Empty at first; `take` adds what the library has."""

    def __init__(self) -> None:
        self.newest = 0
        """`seq` of the last version taken."""
        self._slots: dict[str, int] = {}
        self._values: list[str] = []
        """By slot."""
        self._next = array("i")
        """Slot -> another slot of the same value; -1: none."""
        self._row = array("i")
        """Slot -> row of its indicator."""
        self._seq = array("q")
        """By row: the version, rising."""
        self._from = array("q")
        self._until = array("q")
        self._formulas: dict[int, Formula] = {}
        """Of the rows that look for several values."""
        self._nets = (_Networks(_IPV4), _Networks(128))
        self._clean: dict[Kind, set[str]] = {kind: set() for kind in Kind}
        self._found: dict[tuple[Kind, str], tuple[int, ...]] = {}

    def __len__(self) -> int:
        return len(self._seq)

    def take(self, rows: Iterable[Any]) -> None:
        """Adds versions, in order: rows of `Library.changes`. A version that replaces another ends it."""
        for row in rows:
            if row.replaces:
                self._end(row.replaces)
            self.newest = row.seq
            if row.value and not row.held and row.superseded == FOREVER and row.until > row.valid_from:
                several = msgspec.json.decode(row.formula, type=Formula) if row.formula else ()
                self.add(row.seq, several or ((row.value,),), row.valid_from, row.until)
        self._forget()

    def add(self, seq: int, formula: Formula, valid_from: int, until: int) -> None:
        """Adds one version; `seq` is higher than all before. Call `take` with nothing when all are added."""
        place = len(self._seq)
        self._seq.append(seq)
        self._from.append(valid_from)
        self._until.append(until)
        if len(formula) > 1 or len(formula[0]) > 1:
            self._formulas[place] = formula
            values: Iterable[str] = dict.fromkeys(value for each in formula for value in each)
        else:
            values = formula[0]
        for value in values:
            slot = len(self._row)
            self._row.append(place)
            self._values.append(value)
            self._next.append(self._slots.get(value, -1))
            self._slots[value] = slot
            if "/" in value and value[0] != "/":
                self._nets[":" in value].add(value)

    def _end(self, seq: int) -> None:
        place = bisect_right(self._seq, seq) - 1
        if place >= 0 and self._seq[place] == seq:
            self._until[place] = 0

    def _forget(self) -> None:
        self._clean = {kind: set() for kind in Kind}
        self._found = {}
        for one in self._nets:
            one.merge()

    # Asking

    def look(self, kind: Kind, text: str) -> tuple[int, ...]:
        """The slots of a value as an event writes it, whatever the time."""
        if text in self._clean[kind]:
            return NONE
        found = self._found.get((kind, text))
        return self._ask(kind, text) if found is None else found

    def _ask(self, kind: Kind, text: str) -> tuple[int, ...]:
        found = _KEYS[kind](self, text)
        if found:
            if len(self._found) >= REMEMBERED:
                self._found.clear()
            self._found[kind, text] = found
            return found
        clean = self._clean[kind]
        if len(clean) >= REMEMBERED:
            clean.clear()
        clean.add(text)
        return NONE

    def _slots_of(self, value: str) -> tuple[int, ...]:
        slot = self._slots.get(value, -1)
        if slot < 0:
            return NONE
        found = []
        while slot >= 0:
            found.append(slot)
            slot = self._next[slot]
        return tuple(found)

    def _domain(self, text: str) -> tuple[int, ...]:
        name = text.lower().rstrip(".")
        slots = self._slots
        if _numeric(name):
            return self._address(name.rpartition(":")[0] if name.count(":") == 1 else name)
        if name in slots or name.count(".") > 1 or not name.isascii():
            if not name.isascii():
                try:
                    name = canonical(Kind.DOMAIN, name)
                except DataError:
                    return NONE
            return tuple(slot for each in parents(name) if each in slots for slot in self._slots_of(each))
        return NONE

    def _address(self, text: str) -> tuple[int, ...]:
        found = self._slots_of(text)
        four, six = self._nets
        try:
            number = _number(text)
        except (OSError, ValueError, struct.error):
            own = address(text)
            if not own:
                return NONE
            if own != text:
                return self._address(own)
            return (*found, *(slot for net in six.of(int(ipaddress.ip_address(own))) for slot in self._slots_of(net)))
        if four.starts and four.holds(number):
            found = (*found, *(slot for net in four.of(number) for slot in self._slots_of(net)))
        return found

    def _url(self, text: str) -> tuple[int, ...]:
        try:
            url = canonical(Kind.URL, text)
        except DataError:
            return NONE
        found = tuple(slot for key in url_keys(url) for slot in self._slots_of(key))
        host = host_of(url)
        return found if not host else (*found, *self._domain(host), *(self._address(host) if _numeric(host) else NONE))

    def _plain(self, text: str) -> tuple[int, ...]:
        return self._slots_of(text.lower())

    # Events

    def hits(self, observables: Observables, data: Mapping[str, Any], at: int) -> list[Hit]:
        """What a record matches.

        Args:
            observables: Of its source.
            data: The record.
            at: Its event time, microseconds UTC; negative: whenever the indicators held.
        """
        found: list[tuple[int, str, str]] = []
        clean = self._clean
        for field, kind, read in observables.fields:
            value = read(data)  # type: ignore[arg-type]
            if value is None or (type(value) is str and value in clean[kind]):
                continue
            found += self._slots_in(field, kind, value)
        return self.told(found, at) if found else []

    def _slots_in(self, field: str, kind: Kind, value: Any) -> list[tuple[int, str, str]]:
        """(Slot, field, text) of a field's value."""
        found = [(slot, field, text) for text in texts(value, kind) for slot in self.look(kind, text)]
        if not found and type(value) is str and len(self._clean[kind]) < REMEMBERED:
            self._clean[kind].add(value)
        return found

    def hits_each(
        self, observables: Observables, records: Sequence[Mapping[str, Any]]
    ) -> dict[int, list[tuple[int, str, str]]]:
        """Place of a record -> what `told` takes, of many records at once: each distinct value is asked for once."""
        found: dict[int, list[tuple[int, str, str]]] = {}
        for field, kind, read in observables.fields:
            values = [each.get(field) for each in records] if "." not in field else [read(each) for each in records]  # type: ignore[arg-type]
            try:
                fresh = set(values) - self._clean[kind]
            except TypeError:  # lists are asked item by item
                for place, value in enumerate(values):
                    if value is not None and (slots := self._slots_in(field, kind, value)):
                        found.setdefault(place, []).extend(slots)
                continue
            fresh.discard(None)
            held = {value: slots for value in fresh if (slots := self._slots_in(field, kind, value))}
            if held:
                for place, value in enumerate(values):
                    if value in held:
                        found.setdefault(place, []).extend(held[value])
        return found

    def told(self, found: Sequence[tuple[int, str, str]], at: int) -> list[Hit]:
        """The hits of (slot, field, text) of one event: those whose indicator held, with all that it asks for."""
        by_row: dict[int, dict[str, tuple[str, str]]] = {}
        for slot, field, text in found:
            row = self._row[slot]
            if at < 0 or self._from[row] <= at < self._until[row]:
                by_row.setdefault(row, {}).setdefault(self._values[slot], (field, text))
        hits = []
        for row, values in by_row.items():
            formula = self._formulas.get(row)
            if formula is None:
                value, (field, text) = next(iter(values.items()))
            else:
                whole = next((each for each in formula if values.keys() >= set(each)), None)
                if whole is None:
                    continue
                value, (field, text) = whole[0], values[whole[0]]
            hits.append(Hit(self._seq[row], field, value, text))
        return hits


def _numeric(host: str) -> bool:
    return ":" in host or host[-1:].isdecimal()


def _number(text: str) -> int:
    if text.count(".") != 3:  # noqa: PLR2004 - inet_aton takes `1.2` too
        raise ValueError
    return int(struct.unpack("!I", inet_aton(text))[0])


_KEYS: Mapping[Kind, Callable[[Watch, str], tuple[int, ...]]] = {
    Kind.IPV4: Watch._address,  # noqa: SLF001 - how each kind is asked for, in one table
    Kind.IPV6: Watch._address,  # noqa: SLF001
    Kind.DOMAIN: Watch._domain,  # noqa: SLF001
    Kind.URL: Watch._url,  # noqa: SLF001
    Kind.EMAIL: Watch._plain,  # noqa: SLF001
    Kind.FILE: Watch._plain,  # noqa: SLF001
}


class _Networks:
    """Networks of one kind of addresses: merged intervals for a quick no, the networks by size for which it was."""

    def __init__(self, wide: int) -> None:
        self._wide = wide
        self._by_size: dict[int, dict[int, str]] = {}
        self.starts: list[int] = []
        self._ends: list[int] = []
        self._merged: tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]] | None = None

    def add(self, value: str) -> None:
        net = ipaddress.ip_network(value)
        self._by_size.setdefault(net.prefixlen, {})[int(net.network_address)] = value
        self._merged = None

    def merge(self) -> None:
        """Joins what overlaps; called after the last `add`."""
        spans = sorted(
            (start, start + (1 << (self._wide - size)) - 1) for size, nets in self._by_size.items() for start in nets
        )
        self.starts, self._ends = [], []
        for start, end in spans:
            if self._ends and start <= self._ends[-1] + 1:
                self._ends[-1] = max(self._ends[-1], end)
            else:
                self.starts.append(start)
                self._ends.append(end)
        if self._wide == _IPV4:
            self._merged = np.array(self.starts, np.uint64), np.array(self._ends, np.uint64)

    def holds(self, number: int) -> bool:
        """Whether an address lies in any of them."""
        place = bisect_right(self.starts, number) - 1
        return place >= 0 and number <= self._ends[place]

    def holds_each(self, numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        """`holds` of many IPv4 addresses at once."""
        if self._merged is None or not len(self._merged[0]):
            return np.zeros(len(numbers), np.bool_)
        starts, ends = self._merged
        place = np.searchsorted(starts, numbers, "right").astype(np.int64) - 1
        return (place >= 0) & (numbers <= ends[np.maximum(place, 0)])

    def of(self, number: int) -> list[str]:
        """The networks that an address lies in."""
        return [
            nets[start]
            for size, nets in self._by_size.items()
            if (start := number >> (self._wide - size) << (self._wide - size)) in nets
        ]
