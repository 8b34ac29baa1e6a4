"""Partitions as the flat arrays that the kernel of `skim` runs on; routes are added as lines take them.

Atoms and slots of all partitions are numbered on from each other. A rule becomes jumps from atom to atom; an ask is
answered by its literals where they say no, and is taken to be true elsewhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, chain
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from vedette.expr.matcher import block, scan, skim
from vedette.expr.matcher.needles import utf8_exactly
from vedette.expr.matcher.partition import Partition, watches
from vedette.expr.matcher.plan import NONE, Ask, Group, Watch
from vedette.expr.matcher.probe import Found, own_atoms
from vedette.expr.nodes import Space
from vedette.expr.values import MISSING

GRAM = 4
"""Bytes of a literal by which it is found."""
CROWD = 16
"""Bits of the table of grams for each literal."""
SMALLEST, LARGEST = 8, 17
"""Logarithm of the bits of a table of grams."""

Array = npt.NDArray[Any]


class Step(Protocol):
    """A step of how records are shaped before they are matched, taken when they have a field named `when`."""

    @property
    def when(self) -> str:
        """Name of the field."""

    @property
    def decode(self) -> Sequence[str]:
        """Texts that are decoded."""

    @property
    def lift(self) -> Sequence[str]:
        """Objects whose members become the record's own, unless it has them."""

    @property
    def rename(self) -> Mapping[str, str]:
        """Fields that get other names, after that."""


class Meanings(Protocol):
    """What values of a field mean: `Probe`, and what is asked beside the rules."""

    def __getitem__(self, value: object, /) -> Found:
        """Of one value."""


class Flat:
    """The arrays.

    Args:
        partitions: All.
        fields: Of the routing fields, how many classes there are.
        names: Of every field that a rule reads, and of the routing fields first.
        steps: How records are shaped.
        asked: Fields of all lines, whatever rules they meet, whose values are asked for something else too.
    """

    def __init__(
        self,
        partitions: Iterable[Partition],
        fields: Sequence[int],
        names: Sequence[str],
        steps: Sequence[Step],
        asked: Mapping[str, Meanings],
    ) -> None:
        self._numbers = {name: number for number, name in enumerate(names)}
        self.names = _names(names, steps)
        self._keys = np.arange(len(fields), dtype=np.int64)
        self._width = np.array(fields, np.int64)
        self._of = np.full(int(np.prod(self._width)), NONE, np.int32)
        self._watch_rows: list[Array] = []
        self._opaque: list[bool] = []
        self._free: list[list[int]] = []
        self.watches: list[tuple[int, ...]] = [() for _ in fields]
        """Watch -> its probes; those of the routing fields have none."""
        self._known: dict[tuple[int, ...], int] = {}
        self.probes: list[tuple[Meanings, int, int]] = []
        """Probe, and the first numbers of its partition's atoms and slots."""
        self._routes: dict[tuple[int, ...], int] = {}
        self.parts: list[tuple[int, int, Partition | None]] = []
        """The first numbers of the atoms and slots of each partition, rising; None: of what is asked beside them."""
        self._literals = _Literals()
        self._native: list[bool] = []
        self._brings = _Grown(np.int32)
        self._brings_at = _Grown(np.int32, [0])
        self._code_at = _Grown(np.int32)
        self._jumps = _Grown(np.int32, width=3)
        self._atoms = 0
        self._placed = {id(each): self._place(each) for each in partitions}
        self._asked = self._beside(asked)
        stamps = np.zeros(self._atoms, np.int64), np.zeros(len(self._code_at), np.int64)
        self.code = skim.Code(self._code_at.array(), self._jumps.array(), *stamps)
        self._texts = *self._literals.arrays(), *self._literals.placed()

    def add(self, classes: int, partitions: Sequence[Partition]) -> bool:
        """Sends lines of these classes to these partitions; whether none went to just these before."""
        key = tuple(map(id, partitions))
        known = self._of[classes] = self._routes.setdefault(key, len(self._opaque))
        if known < len(self._opaque):
            return False
        placed = [self._placed[each] for each in key]
        row = np.full(len(self._numbers), NONE, np.int32)
        probes: dict[str, list[int]] = defaultdict(list)
        for each in placed:
            for name, probe in each.probes.items():
                probes[name].append(probe)
        for name, probe in self._asked.items():
            probes[name].append(probe)
        for name, some in probes.items():
            row[self._numbers[name]] = self._watch(tuple(some))
        self._watch_rows.append(row)
        self._opaque.append(any(each.opaque for each in placed))
        self._free.append([slot for each in placed for slot in each.free])
        return True

    def routes(self) -> tuple[skim.Routes, skim.Probes]:
        """The arrays of the routes as of now."""
        width = len(self._numbers)
        watch = np.array(self._watch_rows, np.int32).reshape(len(self._watch_rows), width)
        opaque = np.array(self._opaque, np.bool_)
        routes = skim.Routes(self._keys, self._width, self._of, watch, opaque, *_rows(self._free))
        flags = [0] * len(self._keys) + [
            skim.NATIVE * all(self._native[probe] for probe in some) for some in self.watches[len(self._keys) :]
        ]
        at, probe = _rows(self.watches)
        brings = self._brings_at.array(), self._brings.array()
        probes = skim.Probes(np.array(flags, np.int32), at, probe, *self._texts, *brings)
        return routes, probes

    def _watch(self, probes: tuple[int, ...]) -> int:
        if probes not in self._known:
            self._known[probes] = len(self.watches)
            self.watches.append(probes)
        return self._known[probes]

    def _beside(self, asked: Mapping[str, Meanings]) -> dict[str, int]:
        """Field -> its probe; all bring up one slot, which is always true."""
        slot = len(self._code_at)
        self.parts.append((self._atoms, slot, None))
        self._code_at.add([skim.TRUE])
        found = {}
        for name, one in asked.items():
            found[name] = len(self.probes)
            self.probes.append((one, self._atoms, slot))
            self._native.append(False)
            self._literals.add(_NO_LITERALS, self._atoms)
        return found

    def _place(self, partition: Partition) -> _Placed:
        part, first, slots = partition.part, self._atoms, len(self._code_at)
        spoken = own_atoms(part.keywords) if part.keywords else frozenset()
        every = [*(own_atoms(one.watch) for one in part.columns), spoken]
        self._atoms += max(chain.from_iterable(every), default=NONE) + 1
        self.parts.append((first, slots, partition))
        brings: list[list[int]] = [[] for _ in range(self._atoms - first)]
        found = _Placed(opaque=bool(part.fixed) or (part.keywords is not None and not part.swept))
        for column, probe in zip(part.columns, partition.probes, strict=True):
            absent = probe.find(MISSING if column.existing else None)
            if column.space != Space.DATA or absent or absent.atoms:
                found.opaque = True
            if watches(column.watch) or own_atoms(column.watch):
                found.probes[column.name] = len(self.probes)
                self.probes.append((probe, first, slots))
                self._native.append(not column.watch.tests)
                self._literals.add(column.watch, first)
                for atom, some in column.watch.brings.items():
                    brings[atom] = [slots + slot for slot in some]
        self._brings_at.add(len(self._brings) + at for at in accumulate(map(len, brings)))
        self._brings.add(chain.from_iterable(brings))
        jumps = _Jumps(len(self._jumps), first, spoken)
        self._code_at.add([jumps.group(group, skim.TRUE, skim.FALSE) for group in part.groups])
        self._jumps.add(jumps.made)
        found.free = [slots + slot for slot in part.free]
        return found


_NO_LITERALS = Watch({}, [], NONE, NONE, {}, [])


class _Placed:
    """Where a partition stands in the arrays."""

    def __init__(self, *, opaque: bool) -> None:
        self.opaque = opaque
        self.free: list[int] = []
        self.probes: dict[str, int] = {}


class _Jumps:
    """Compiles rules, the last question first.

    Args:
        begin: How many there are of other partitions.
        first: Number of the partition's first atom.
        unknown: Atoms that are never told.
    """

    def __init__(self, begin: int, first: int, unknown: frozenset[int]) -> None:
        self._begin = begin
        self.made: list[tuple[int, int, int]] = []
        self._first = first
        self._unknown = unknown

    def group(self, group: Group, yes: int, no: int) -> int:
        """Where to begin so as to end at `yes` if a group may be true, else at `no`."""
        begin = yes if group.every else no
        # Whatever part comes last goes on to both ends; those before it go on to what comes after them.
        for ask in reversed(group.asks):
            begin = self._ask(ask, *((begin, no) if group.every else (yes, begin)))
        for below in reversed(group.groups):
            begin = self.group(below, *((begin, no) if group.every else (yes, begin)))
        for atom in reversed(group.false):
            begin = self._atom(
                atom, *((no, begin) if group.every else (begin, yes)), maybe=begin if group.every else yes
            )
        for atom in reversed(group.true):
            begin = self._atom(
                atom, *((begin, no) if group.every else (yes, begin)), maybe=begin if group.every else yes
            )
        return begin

    def _ask(self, ask: Ask, yes: int, no: int) -> int:
        if not ask.guard or not ask.positive:
            return yes
        begin = no
        for atom in ask.guard:
            begin = self._atom(atom, yes, begin, maybe=yes)
        return begin

    def _atom(self, atom: int, yes: int, no: int, maybe: int) -> int:
        if atom in self._unknown:
            return maybe
        self.made.append((self._first + atom, yes, no))
        return self._begin + len(self.made) - 1


class _Literals:
    """The literals of probes in tables by their grams."""

    def __init__(self) -> None:
        self._marks: list[tuple[int, int, int]] = []
        self._group_at = [0]
        self._groups: list[tuple[int, int, int, int, int]] = []
        self._bits = _Grown(np.uint8)
        self._heads = _Grown(np.int32)
        self._needles = _Grown(np.int64, width=9)
        self._text = _Grown(np.uint8)

    def add(self, watch: Watch, first: int) -> None:
        """The literals of the next probe."""
        found: dict[bytes, list[int]] = defaultdict(lambda: [NONE] * 4)
        for one in watch.needles:
            for place, atom in enumerate((one.anywhere, one.starts, one.ends)):
                if atom != NONE:
                    found[utf8_exactly(one.text)][place] = first + atom
        for text, atom in watch.equal.items():
            found[utf8_exactly(text)][3] = first + atom
        empty = found.pop(b"", [NONE] * 4)
        marks = (first + one if one != NONE else NONE for one in (watch.present, watch.exists))
        self._marks.append((*marks, empty[3]))  # type: ignore[arg-type]
        by_size: dict[int, dict[bytes, list[int]]] = defaultdict(dict)
        for literal, atoms in found.items():
            by_size[min(GRAM, len(literal))][literal] = atoms
        for size, some in sorted(by_size.items()):
            self._group(size, some)
        self._group_at.append(len(self._groups))

    def arrays(self) -> tuple[Array, Array, Array]:
        """Marks of probes, where the groups of each begin, groups."""
        marks = np.array(self._marks, np.int32).reshape(-1, 3)
        return marks, np.array(self._group_at, np.int32), np.array(self._groups, np.int64).reshape(-1, 5)

    def placed(self) -> tuple[Array, Array, Array, Array]:
        """Bits, heads, literals, their text."""
        text = np.concatenate([self._text.array(), np.zeros(block.PAD, np.uint8)])
        return self._bits.array(), self._heads.array(), self._needles.array(), text

    def _group(self, size: int, literals: Mapping[bytes, list[int]]) -> None:
        power = min(max((CROWD * len(literals) - 1).bit_length(), SMALLEST), LARGEST)
        bits, heads = np.zeros((1 << power) >> 3, np.uint8), np.full((1 << power) >> 3, NONE, np.int32)
        shift = 32 - power
        at, text = len(self._text), b"".join(literals)
        needles = np.zeros((len(literals), 9), np.int64)
        needles[:, skim.N_SIZE] = [*map(len, literals)]
        needles[:, skim.N_AT] = np.cumsum(needles[:, skim.N_SIZE]) - needles[:, skim.N_SIZE]
        needles[:, skim.N_ANY :] = [*literals.values()]
        raw = np.frombuffer(text + bytes(block.PAD), np.uint8)
        skim.enter(raw, needles, bits, heads, len(self._needles), size, shift, np.zeros(1 << power, np.int32))
        needles[:, skim.N_AT] += at
        self._needles.add(needles)
        self._text.add(text)
        self._groups.append(((1 << 8 * size) - 1, shift, len(self._bits), len(self._heads), size))
        self._bits.add(bits)
        self._heads.add(heads)


class _Grown:
    """An array that pieces are added to."""

    def __init__(self, kind: type[np.integer[Any]], begin: Sequence[int] = (), width: int = 0) -> None:
        self._kind = kind
        self._shape = (-1, width) if width else (-1,)
        self._pieces = [np.array(begin, kind).reshape(self._shape)]
        self._size = len(begin)

    def __len__(self) -> int:
        return self._size

    def add(self, piece: bytes | Array | Iterable[Any]) -> None:
        """Adds at the end."""
        if isinstance(piece, bytes):
            piece = np.frombuffer(piece, np.uint8)
        raw = piece if isinstance(piece, np.ndarray) else np.array([*piece], self._kind)
        self._pieces.append(raw.reshape(self._shape))
        self._size += len(self._pieces[-1])

    def array(self) -> Array:
        """All of it."""
        if len(self._pieces) > 1:
            self._pieces = [np.concatenate(self._pieces)]
        return self._pieces[0]


def _rows(lists: Iterable[Iterable[int]]) -> tuple[Array, Array]:
    """Lists one after another: where each begins, and all of them."""
    held = [list(each) for each in lists]
    at = np.array([*accumulate(map(len, held), initial=0)], np.int32)
    return at, np.array([*chain.from_iterable(held)], np.int32)


def _names(fields: Sequence[str], steps: Sequence[Step]) -> scan.Names:
    special = {name for step in steps for name in (step.when, *step.decode, *step.lift, *step.rename)}
    heads = {name[:at] for name in fields for at, sign in enumerate(name) if sign == "."}
    every = [*dict.fromkeys([*fields, *sorted(special | heads)])]
    numbers = {name: number for number, name in enumerate(every)}
    kind = np.full((len(every), 5), NONE, np.int32)
    kind[: len(fields), scan.K_FIELD] = np.arange(len(fields))
    kind[:, scan.K_FLAGS] = [scan.HEAD * (name in heads) for name in every]
    for number, step in enumerate(steps):
        for name in step.decode:
            kind[numbers[name], scan.K_FLAGS] |= scan.BEWARE
        for column, some in ((scan.K_WHEN, [step.when]), (scan.K_ALIAS, step.rename), (scan.K_LIFT, step.lift)):
            for name in some:
                if kind[numbers[name], column] != NONE:  # two steps ask for it
                    kind[numbers[name], scan.K_FLAGS] |= scan.BEWARE
                kind[numbers[name], column] = number
        for old, new in step.rename.items():
            kind[numbers[old], scan.K_FIELD] = numbers[new] if new in fields else NONE
            if new in special:
                kind[numbers[old], scan.K_FLAGS] |= scan.BEWARE
    raw = [utf8_exactly(name) for name in every]
    text = np.frombuffer(b"".join(raw) + bytes(block.PAD), np.uint8)
    at = np.array([*accumulate(map(len, raw), initial=0)], np.int64)
    table = np.full(1 << (4 * len(every)).bit_length(), NONE, np.int32)
    hashes = np.zeros(len(every), np.uint64)
    for number in range(len(every)):
        hashes[number] = block.hash_of(text, int(at[number]), int(at[number + 1]), 0)
        place = int(hashes[number]) & (len(table) - 1)
        while table[place] >= 0:
            place = (place + 1) & (len(table) - 1)
        table[place] = number
    return scan.Names(table, hashes, at, text, kind, np.zeros(len(every), np.int64))
