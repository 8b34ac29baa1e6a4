"""Which process a fact is about, and which process began which.

A `ProcessGuid` names one process for ever. A process id names whichever process holds it at that time: the last one
that began with it by then, unless that one has ended, or bears another image than the fact says. What neither finds is
a process that was never seen: it stands in the tree as such, with what its children say of it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from vedette.core.clock import MICROS
from vedette.sense.processes.facts import Doing, Fact

MEETING = 10 * MICROS
"""Within this, two sensors that tell of a process of one id, image and command line tell of the same one; and what a
process did is told so much later than its end at most: clocks of sensors differ by the time it takes to write."""


@dataclass(frozen=True, slots=True)
class Done:
    """One thing that a process did."""

    time: int
    what: Doing
    target: str
    event_id: str


@dataclass(slots=True, eq=False)
class Process:
    """One process of the host."""

    id: str
    """`ProcessGuid`, or process id and start."""
    pid: int = -1
    guid: str = ""
    image: str = ""
    command: str = ""
    user: str = ""
    hashes: dict[str, str] = field(default_factory=dict)
    start: int = 0
    """Microseconds UTC; 0 when nobody saw it begin."""
    known: bool = False
    """Whether `start` is when it began, not when it was first seen."""
    end: int = 0
    """0 while nobody saw it end."""
    seen: bool = False
    """False for one that others tell of and no record of its own does."""
    parent: Process | None = None
    torn: bool = False
    """Its parent would have been its own descendant, and is left out."""
    sensors: set[str] = field(default_factory=set)
    events: list[str] = field(default_factory=list)
    done: list[Done] = field(default_factory=list)

    @property
    def counts(self) -> Counter[Doing]:
        """How often it did what."""
        return Counter(each.what for each in self.done)


@dataclass(frozen=True, slots=True)
class Woven:
    """All processes that the facts tell of, those that began first first."""

    processes: tuple[Process, ...]
    lost: int
    """Facts that name no process."""


def weave(facts: Iterable[Fact]) -> Woven:
    """Makes processes of facts; the order in which they come changes nothing."""
    held = sorted(facts, key=lambda one: (one.time, one.event_id, one.what, one.pid, one.guid))
    named = [one for one in held if one.guid or one.pid >= 0]
    loom = _Loom()
    born = [one for one in named if one.what is Doing.START]
    # Those with a name of their own first: others join them, never the other way round.
    begun = [(one, loom.begin(one)) for one in sorted(born, key=lambda one: (not one.guid, not one.known))]
    loom.sort()
    for one in named:
        if one.what is Doing.END:
            loom.finish(one)
    for one, process in sorted(begun, key=lambda pair: (not pair[0].parent_guid, pair[0].time, pair[0].event_id)):
        loom.adopt(one, process)
    for one in named:
        if one.what not in {Doing.START, Doing.END}:
            process = loom.of(one.guid, one.pid, one.image, one.time)
            process.done.append(Done(one.time, one.what, one.target, one.event_id))
            process.events.append(one.event_id)
            _fill(process, one)
    _tear(loom.processes)
    loom.processes.sort(key=lambda process: (process.start or _first(process), process.id))
    return Woven(tuple(loom.processes), len(held) - len(named))


class _Loom:
    """Processes on their way."""

    def __init__(self) -> None:
        self.processes: list[Process] = []
        self._guids: dict[str, Process] = {}
        self._unseen: dict[tuple[int, int, str], Process] = {}
        self._pids: dict[int, list[Process]] = defaultdict(list)
        self._starts: dict[int, list[int]] = {}

    def begin(self, fact: Fact) -> Process:
        process = self._guids.get(fact.guid) if fact.guid else self._met(fact)
        if process is None:
            process = self._make(fact.guid or f"{fact.pid}@{fact.time}", fact.pid, fact.guid)
            process.start, process.known = fact.time, fact.known
            self._pids[fact.pid].append(process)
        process.seen = True
        process.sensors.add(fact.sensor)
        process.events.append(fact.event_id)
        process.command = process.command or fact.command
        process.user = process.user or fact.user
        process.hashes = process.hashes or dict(fact.hashes)
        _fill(process, fact)
        return process

    def _met(self, fact: Fact) -> Process | None:
        """The process that another sensor told of, or this one at another time."""
        near: list[tuple[int, int, str, Process]] = []
        for process in self._pids[fact.pid]:
            if not _agree(process.image, fact.image) or not _agree(process.command, fact.command):
                continue
            apart = abs(process.start - fact.time)
            told = fact.sensor in process.sensors
            if not fact.known:
                fits = process.start <= fact.time and not self._between(process, fact)
            elif told:
                fits = fact.sensor == "osquery" and apart == 0
            else:
                fits = apart <= MEETING
            if fits:
                near.append((apart, process.start, process.id, process))
        return min(near)[3] if near else None

    def _between(self, process: Process, fact: Fact) -> bool:
        """Another process took the id meanwhile."""
        return any(process.start < other.start <= fact.time for other in self._pids[fact.pid])

    def sort(self) -> None:
        for pid, processes in self._pids.items():
            processes.sort(key=lambda process: (process.start, process.id))
            self._starts[pid] = [process.start for process in processes]

    def finish(self, fact: Fact) -> None:
        process = self.of(fact.guid, fact.pid, fact.image, fact.time)
        process.end = process.end or fact.time
        process.seen = True
        process.sensors.add(fact.sensor)
        process.events.append(fact.event_id)
        _fill(process, fact)

    def adopt(self, fact: Fact, child: Process) -> None:
        if child.parent is not None or (not fact.parent_guid and fact.parent_pid <= 0):
            return
        found = self.of(fact.parent_guid, fact.parent_pid, fact.parent_image, child.start, but=child)
        child.parent = found
        found.command = found.command or fact.parent_command
        found.image = found.image or fact.parent_image

    def of(self, guid: str, pid: int, image: str, time: int, but: Process | None = None) -> Process:
        """The process that is meant, made as one never seen when it is none of those that were."""
        found = self._guids.get(guid) if guid else None
        if found is None:
            found = self._living(pid, image, time, but)
            if guid and found is not None:
                # Another sensor saw it begin and did not know its name.
                found = None if found.guid else found
        if found is not None:
            if guid and not found.guid:
                found.guid = guid
                self._guids[guid] = found
            return found
        if guid:
            made = self._make(guid, pid, guid)
        else:
            key = (pid, self._epoch(pid, time), image.casefold())
            made = self._unseen.get(key) or self._make(f"{pid}@-{key[1]}-{key[2]}", pid, "")
            self._unseen[key] = made
        made.image = made.image or image
        return made

    def _living(self, pid: int, image: str, time: int, but: Process | None) -> Process | None:
        """The last that began with this id by then, unless it is over or another image."""
        place = bisect_right(self._starts.get(pid, ()), time)
        while place:
            place -= 1
            process = self._pids[pid][place]
            if process is but:
                continue
            over = process.end and process.end + MEETING < time
            return process if not over and _agree(process.image, image) else None
        return None

    def _epoch(self, pid: int, time: int) -> int:
        """How many processes of this id had begun by then: each stretch between two has an unseen one of its own."""
        return bisect_right(self._starts.get(pid, ()), time)

    def _make(self, name: str, pid: int, guid: str) -> Process:
        taken = {process.id for process in self._pids.get(pid, ())} if not guid else ()
        process = Process(name if name not in taken else f"{name}#{len(self.processes)}", pid, guid)
        self.processes.append(process)
        if guid:
            self._guids[guid] = process
        return process


def _agree(one: str, other: str) -> bool:
    """What is not told agrees with everything."""
    return not one or not other or one.casefold() == other.casefold()


def _fill(process: Process, fact: Fact) -> None:
    process.image = process.image or fact.image
    process.pid = process.pid if process.pid >= 0 else fact.pid


def _first(process: Process) -> int:
    times = [each.time for each in process.done]
    return min([*times, *([process.end] if process.end else [])], default=0)


def _tear(processes: Sequence[Process]) -> None:
    """Cuts circles, which only false records make: the first of a circle loses its parent."""
    safe: set[str] = set()
    for process in processes:
        path: list[Process] = []
        on: set[str] = set()
        here: Process | None = process
        while here is not None and here.id not in safe and here.id not in on:
            path.append(here)
            on.add(here.id)
            here = here.parent
        if here is not None and here.id in on:
            circle = path[path.index(here) :]
            first = min(circle, key=lambda each: (each.start, each.id))
            first.parent, first.torn = None, True
        safe |= on
