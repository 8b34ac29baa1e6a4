"""Watch: the indicators that are looked for, laid out to be asked about a million values a second.

Canonical values stand in one table; a name is asked for together with the names above it, an address also for the
networks it lies in. Most answers are no, and two small sets give them before the table is touched: the last two labels
of all names, the upper halves of all addresses. Networks are merged into intervals; which network it was is asked only
after a yes. What matched nothing is remembered, in bounds. A watch knows no time: who asks says when the event
happened, and an indicator that held then, and only then, counts.

Costs about 250 bytes an indicator. One writer; readers in the same thread.
"""

from __future__ import annotations

import ipaddress
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from socket import inet_aton
from typing import Any, NamedTuple

import msgspec

from vedette.core.errors import DataError
from vedette.sense.intel.indicator import FOREVER
from vedette.sense.intel.observables import Observables, texts
from vedette.sense.intel.patterns import Formula
from vedette.sense.intel.values import Kind, address, canonical, host_of, url_keys

REMEMBERED = 1 << 16
"""Most values of a kind that are remembered to match nothing: as many as the caches of a processor hold."""
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
        self._roots: set[str] = set()
        """The last two labels of every name: one that ends otherwise lies under none of them."""
        self._near: set[bytes] = set()
        """The upper halves of every IPv4 address and network."""
        self._clean: dict[Kind, set[str]] = {kind: set() for kind in Kind}
        self._asks = {kind: (self._clean[kind], ask) for kind, ask in _KEYS.items()}

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
            self._mark(value)

    def _mark(self, value: str) -> None:
        """Takes in what tells early that a name or an address is none of the values."""
        if value.startswith("/"):
            return
        if "/" in value:
            self._nets[":" in value].add(value)
        elif "." in value:
            half = _upper(value) if value[-1].isdecimal() else b""
            if half:
                self._near.add(half)
            else:
                self._roots.add(_root(value))

    def _end(self, seq: int) -> None:
        place = bisect_right(self._seq, seq) - 1
        if place >= 0 and self._seq[place] == seq:
            self._until[place] = 0

    def _forget(self) -> None:
        for clean in self._clean.values():
            clean.clear()
        for one in self._nets:
            one.merge()
        self._near |= self._nets[0].uppers()

    # Asking

    def look(self, kind: Kind, text: str) -> tuple[int, ...]:
        """The slots of a value as an event writes it, whatever the time."""
        clean, ask = self._asks[kind]
        if text in clean:
            return NONE
        found = ask(self, text)
        if not found:
            if len(clean) >= REMEMBERED:
                clean.clear()
            clean.add(text)
        return found

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
        name = text.lower()
        root = _root(name)
        if root not in self._roots and root[-1:] not in _ODD and root.isascii():
            return NONE
        if name[-1:] in _ODD:
            name = name.rstrip(".")
            if ":" in name or name.rpartition(".")[2].isdecimal():
                return self._address(name.rpartition(":")[0] if name.count(":") == 1 else name)
        if not name.isascii():
            try:
                name = canonical(Kind.DOMAIN, name)
            except DataError:
                return NONE
        slots = self._slots
        found = self._slots_of(name) if name in slots else NONE
        dot = name.find(".")
        last = name.rfind(".")
        while dot < last:
            name, last = name[dot + 1 :], last - dot - 1
            if name in slots:
                found = (*found, *self._slots_of(name))
            dot = name.find(".")
        return found if last > 0 or not found else NONE

    def _address(self, text: str) -> tuple[int, ...]:
        try:
            whole = inet_aton(text)
        except (OSError, ValueError):  # ValueError: a text with a NUL or half a character
            own = address(text)
            if not own:
                return NONE
            if own != text:
                return self._address(own)
            nets = self._nets[1].of(int(ipaddress.ip_address(own)))
            return tuple(slot for value in (own, *nets) for slot in self._slots_of(value))
        if whole[:2] not in self._near:
            return NONE
        found, four, number = self._slots_of(text), self._nets[0], int.from_bytes(whole)
        # `inet_aton` takes `1.2` too, which is no address here.
        if four.holds(number) and text.count(".") == 3:  # noqa: PLR2004
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
        value = text.lower()
        return self._slots_of(value) if value in self._slots else NONE

    def known(self, kind: Kind, values: Iterable[Any]) -> dict[Any, list[tuple[int, str]]]:
        """Value -> (slot, text) of those that indicators name, of distinct values as events write them."""
        ask, found, missed = _KEYS[kind], dict[Any, list[tuple[int, str]]](), list[str]()
        several = kind is Kind.FILE
        for value in values:
            if type(value) is not str:
                continue
            if several and ("=" in value or "," in value):
                slots = [(slot, text) for text in texts(value, kind) for slot in ask(self, text)]
            elif each := ask(self, value):
                slots = [(slot, value) for slot in each]
            else:
                missed.append(value)
                continue
            if slots:
                found[value] = slots
            else:
                missed.append(value)
        clean = self._clean[kind]
        if len(clean) + len(missed) > REMEMBERED:
            clean.clear()
        clean.update(missed)
        return found

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
            found += self.slots_in(field, kind, value)
        return self.told(found, at) if found else []

    def slots_in(self, field: str, kind: Kind, value: Any) -> list[tuple[int, str, str]]:
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
                    if value is not None and (slots := self.slots_in(field, kind, value)):
                        found.setdefault(place, []).extend(slots)
                continue
            fresh.discard(None)
            if held := self.known(kind, fresh):
                for place, value in enumerate(values):
                    if value in held:
                        found.setdefault(place, []).extend((slot, field, text) for slot, text in held[value])
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


def _root(name: str) -> str:
    """The last two labels of a name; a name of one label itself, which no value is."""
    return name[name.rfind(".", 0, name.rfind(".")) + 1 :]


def _upper(text: str) -> bytes:
    """The upper half of an IPv4 address; empty for anything else."""
    try:
        return inet_aton(text)[:2]
    except OSError:
        return b""


_ODD = frozenset("0123456789.:")
"""How a text ends that may be no name as it stands."""
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

    def add(self, value: str) -> None:
        net = ipaddress.ip_network(value)
        self._by_size.setdefault(net.prefixlen, {})[int(net.network_address)] = value

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

    def uppers(self) -> set[bytes]:
        """Of IPv4: the upper halves of all addresses in them."""
        spans = zip(self.starts, self._ends, strict=True)
        return {upper.to_bytes(2) for start, end in spans for upper in range(start >> 16, (end >> 16) + 1)}

    def holds(self, number: int) -> bool:
        """Whether an address lies in any of them."""
        place = bisect_right(self.starts, number) - 1
        return place >= 0 and number <= self._ends[place]

    def of(self, number: int) -> list[str]:
        """The networks that an address lies in."""
        return [
            nets[start]
            for size, nets in self._by_size.items()
            if (start := number >> (self._wide - size) << (self._wide - size)) in nets
        ]
