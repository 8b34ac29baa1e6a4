"""Rules out lines of JSON without decoding them: most lines of a log bring no rule up, and their values are known."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product

import msgspec
import numpy as np

from vedette.expr.matcher import block, route, skim
from vedette.expr.matcher.flat import Flat, Step
from vedette.expr.matcher.partition import Data, Matches, Partition
from vedette.expr.matcher.probe import NOTHING, Found
from vedette.expr.matcher.sweep import Sweep

VALUES = 1 << 16
"""Most values remembered."""
VALUE_BYTES = 8 << 20
"""Most bytes of them."""
MEANINGS = 1 << 22
"""Most atoms and slots of them; what is not used takes no memory."""
TOLD = 1 << 20
"""Most atoms and slots told of the lines of a chunk."""
LINES = 1 << 16
"""Most lines of a chunk."""
FOLDED = 1 << 16
"""Longest value, in bytes, whose literals the kernel looks for."""


class _Asked:
    """Whether a value is to be looked at, in the form of what it means to rules.

    Args:
        ask: Says so.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def __getitem__(self, value: object) -> Found:
        return _LOOK if self._ask(value) else NOTHING


Ask = Callable[[object], bool]
_LOOK = Found([0])


class Skimmed:
    """What was found in a chunk.

    Args:
        lines: How many there are.
        places: Of those to look at, rising. All others are JSON objects of which no rule is true, and nothing that is
            asked beside rules.
        suspects: Those of them that a rule on keywords has to look at.
        ends: Where each line ends.
        told: Of those lines to look at of which it is known: the slots of the rules that may be true, and all atoms
            that are, as the skimmer numbers them.
    """

    __slots__ = ("ends", "lines", "places", "suspects", "told")

    def __init__(
        self,
        lines: int,
        places: list[int],
        suspects: frozenset[int],
        ends: Sequence[int],
        told: Mapping[int, tuple[list[int], list[int]]],
    ) -> None:
        self.lines = lines
        self.places = places
        self.suspects = suspects
        self.ends = ends
        self.told = told

    def spans(self) -> list[tuple[int, int]]:
        """Where each line to look at begins and ends."""
        ends = self.ends
        return [(ends[place - 1] + 1 if place else 0, ends[place]) for place in self.places]


class Skimmer:
    """Skims chunks of lines for one matcher; belongs to its thread.

    Args:
        fields: Names of the routing fields, with the folded values that rules demand of each.
        names: Of every field that some rule reads.
        steps: How records are shaped between decoding and matching. A record with a space in a name is looked at.
        partitions: All, by the classes of events that rules demand.
        find: Gives those of some classes.
        rest: Matches events of which nothing is told, of those places in which a keyword may stand.
        sweep: Of keywords.
        asked: Field -> what else is asked of its values, each once: a line is looked at where it says yes.
    """

    def __init__(
        self,
        fields: Sequence[tuple[str, frozenset[str]]],
        names: Iterable[str],
        steps: Sequence[Step],
        *,
        partitions: Mapping[tuple[str, ...], Partition],
        find: Callable[[tuple[str, ...]], tuple[Partition, ...]],
        rest: Callable[[Sequence[Data], frozenset[int]], list[Matches]],
        sweep: Sweep | None,
        asked: Mapping[str, Ask],
    ) -> None:
        self._classes = [[route.REST, *sorted(pinned)] for _, pinned in fields]
        self._numbers = [{one: number for number, one in enumerate(each)} for each in self._classes]
        self._pinned = [pinned for _, pinned in fields]
        self._find = find
        self._rest = rest
        self._sweep = sweep
        named = [*dict.fromkeys([*(name for name, _ in fields), *names, *asked])]
        beside = {name: _Asked(ask) for name, ask in asked.items()}
        self._flat = Flat(partitions.values(), [len(each) for each in self._classes], named, steps, beside)
        self._starts = [slots for _, slots, _ in self._flat.parts]
        self._seen = skim.Seen(
            np.full(VALUES * 2, -1, np.int32),
            np.zeros(VALUES, np.uint64),
            np.zeros((VALUES, 8), np.int32),
            np.zeros(VALUE_BYTES, np.uint8),
            np.zeros(MEANINGS, np.int32),
        )
        self._out = skim.Out(
            np.zeros(skim.COUNTERS, np.int64),
            np.zeros(LINES, np.int32),
            np.zeros(LINES, np.int64),
            np.zeros(VALUES, np.int32),
            np.zeros(64, np.int64),
            np.zeros((len(self._flat.names.at), 4), np.int64),
            np.zeros(FOLDED + block.PAD, np.uint8),
            np.zeros(len(steps) + 2, np.int64),
            np.zeros(LINES, np.int64),
            np.zeros(TOLD, np.int32),
        )
        self._extend(
            {self._number(one) for classes in partitions for one in product(*({each, route.REST} for each in classes))}
        )
        self._refresh()
        self.skim(b"{}")  # loads the compiled code, so that no event waits for it

    def forget(self) -> None:
        """Asks of every value again: an answer may have changed."""
        self._out.counters[skim.FULL] = 1

    def skim(self, text: bytes) -> Skimmed | None:
        """Tells which lines have to be looked at; None when a line is blank or the text is no UTF-8.

        Args:
            text: Lines with the newlines between them.
        """
        if not (text.isascii() or _is_utf8(text)):
            return None
        raw = np.frombuffer(text + b"\n" * block.PAD, np.uint8)
        lines = skim.skim(raw, len(text), self._flat.names, *self._arrays, self._seen, self._out)
        if lines < 0:
            return None
        counters = self._out.counters
        found = self._out.slow[: counters[skim.SLOW]].tolist()
        ends = self._out.ends[:lines].tolist()
        suspects = self._sweep.lines(text, ends) if self._sweep else frozenset()
        for number in self._out.waiting[: counters[skim.WAITING]].tolist():
            self._explain(number)
        if counters[skim.WANTED]:
            self._extend({*self._out.wanted[: counters[skim.WANTED]].tolist()})
        told = self._told(found, suspects)
        places = sorted(suspects.union(found)) if suspects else found
        return Skimmed(lines, places, suspects, ends, told)

    def match(self, places: Sequence[int], events: Sequence[Data], skimmed: Skimmed) -> list[Matches]:
        """What `Matcher.match_many` gives.

        Args:
            places: Lines to look at.
            events: Decoded from them.
            skimmed: What `skim` gave for them.
        """
        told, suspects = skimmed.told, skimmed.suspects
        rest = [number for number, place in enumerate(places) if place not in told]
        doubtful = frozenset(number for number, one in enumerate(rest) if places[one] in suspects)
        found: list[Matches] = [()] * len(places)
        for number, numbers in zip(rest, self._rest([events[one] for one in rest], doubtful), strict=True):
            found[number] = numbers
        for number, place in enumerate(places):
            if place in told:
                found[number] = self._asked(events[number], told[place])
        return found

    def _asked(self, data: Data, told: tuple[list[int], list[int]]) -> Matches:
        slots, atoms = told
        slots.sort()
        starts, parts = self._starts, self._flat.parts
        found: list[int] = []
        done = 0
        while done < len(slots):
            number = bisect_right(starts, slots[done]) - 1
            first, begin, partition = parts[number]
            until, end = parts[number + 1][:2] if number + 1 < len(parts) else (1 << 62, 1 << 62)
            stop = bisect_left(slots, end, done)
            mine = frozenset([atom - first for atom in atoms if first <= atom < until])
            if partition is not None:
                found += partition.ask(data, [slot - begin for slot in slots[done:stop]], mine)
            done = stop
        return tuple(sorted(found))

    def _told(self, places: list[int], suspects: frozenset[int]) -> dict[int, tuple[list[int], list[int]]]:
        about = self._out.about[: len(places)].tolist()
        raw = self._out.told[: self._out.counters[skim.TOLD]].tolist()
        found = {}
        for place, begin in zip(places, about, strict=True):
            if begin >= 0 and place not in suspects:
                middle = begin + 2 + raw[begin]
                found[place] = raw[begin + 2 : middle], raw[middle : middle + raw[begin + 1]]
        return found

    def _explain(self, number: int) -> None:
        """Finds out what a value means that the kernel leaves to Python."""
        entry = self._seen.entry[number]
        at, size, watch = int(entry[skim.E_AT]), int(entry[skim.E_SIZE]), int(entry[skim.E_WATCH])
        value = msgspec.json.decode(self._seen.bytes[at : at + size].tobytes())
        if watch < len(self._classes):
            chosen = route.classify(value, self._pinned[watch])
            entry[skim.E_ATOMS] = self._numbers[watch][chosen]
            entry[skim.E_STATE] = skim.READY
            return
        atoms: set[int] = set()
        slots: set[int] = set()
        for place in self._flat.watches[watch]:
            probe, first, base = self._flat.probes[place]
            found = probe[value]
            atoms.update(first + atom for atom in found.atoms)
            slots.update(base + slot for slot in found)
        counters, pool = self._out.counters, self._seen.pool
        begin = int(counters[skim.POOL])
        if begin + len(atoms) + len(slots) > len(pool):
            counters[skim.FULL] = 1
            return
        meaning = [*atoms, *slots]
        pool[begin : begin + len(meaning)] = meaning
        middle, end = begin + len(atoms), begin + len(meaning)
        entry[skim.E_ATOMS : skim.E_SLOTS_END + 1] = begin, middle, middle, end
        entry[skim.E_STATE] = skim.READY
        counters[skim.POOL] = end

    def _extend(self, wanted: set[int]) -> None:
        grown = False
        for classes in sorted(wanted):
            rest, chosen = classes, []
            for each in reversed(self._classes):
                rest, number = divmod(rest, len(each))
                chosen.append(each[number])
            grown |= self._flat.add(classes, self._find(tuple(reversed(chosen))))
        if grown:
            self._refresh()

    def _number(self, classes: Sequence[str]) -> int:
        found = 0
        for one, each in zip(classes, self._numbers, strict=True):
            found = found * len(each) + each[one]
        return found

    def _refresh(self) -> None:
        # Numbers of atoms, slots and watches stay as they are, and so does what is remembered.
        self._arrays = *self._flat.routes(), self._flat.code


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
