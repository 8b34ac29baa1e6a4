"""The part of a host's processes that people can look at: bounded, with a count of all that is left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from vedette.sense.history import Span
from vedette.sense.processes.facts import Doing
from vedette.sense.processes.tree import Done, Process, Woven

LIMIT = 400
"""Processes of a tree when nobody says."""
MAX_LIMIT = 5_000
FAN = 40
"""Children of one process; those with an alert below them come beyond that too."""
DOINGS = 20
"""Things of a process that are told one by one; the kinds that people ask for first come first."""
_TOLD = (Doing.INJECT, Doing.NETWORK, Doing.DNS, Doing.FILE, Doing.ACCESS, Doing.PIPE, Doing.REGISTRY, Doing.IMAGE)


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """An alert about something that a process did."""

    alert: str
    title: str
    level: str
    event_id: str
    time: int


class Deed(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a process did."""

    time: int
    what: Doing
    target: str
    event_id: str


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One process in its tree."""

    id: str
    parent: str
    """Id of the process that began it; empty when no record names one."""
    depth: int
    pid: int
    image: str
    command: str
    user: str
    hashes: Mapping[str, str]
    start: int
    """Microseconds UTC; 0 when nobody saw it begin."""
    known: bool
    """False when `start` is only when it was first seen."""
    end: int
    """0 when nobody saw it end."""
    seen: bool
    """False for one that others name and no record of its own tells of."""
    before: bool
    """It began before the time that is asked for."""
    torn: bool
    """The records make it its own ancestor."""
    sensors: tuple[str, ...]
    counts: Mapping[str, int]
    """Kind -> how often, in the time that is asked for."""
    deeds: tuple[Deed, ...]
    deeds_left_out: int
    children: int
    """In the time that is asked for."""
    children_left_out: int
    alerts: tuple[Mark, ...]
    events: tuple[str, ...]
    """Ids of the events of its start and end."""


class Tree(msgspec.Struct, frozen=True, kw_only=True):
    """The processes of one host in a time."""

    host: str
    start: int
    """Event time, microseconds UTC."""
    end: int
    """Not included."""
    nodes: tuple[Node, ...]
    """Each after its parent, siblings in order of time."""
    processes: int
    """All of that time, with those that they come from."""
    left_out: int
    """Of them not in `nodes`."""
    unseen: int
    """Of all, those that no record of their own tells of."""
    orphans: int
    """Of all, those whose parent is named and was never seen."""
    facts: int
    """Things that were told of processes."""
    nameless: int
    """Of them those that name no process."""
    unread: int
    """Events that were more than is read, the oldest ones."""
    unplaced: tuple[Mark, ...] = ()
    """Alerts about the host whose event tells of no process."""


def cut(
    woven: Woven,
    host: str,
    span: Span,
    *,
    marks: Sequence[Mark] = (),
    limit: int = LIMIT,
    fan: int = FAN,
    unread: int = 0,
) -> Tree:
    """The tree of a time: what lived in it as far as it is told, and where that came from.

    Args:
        woven: All processes, those from before the time too.
        host: Whose.
        span: Event time.
        marks: Alerts to place.
        limit: Most processes; those with alerts, and where they come from, are kept first.
        fan: Most children of one process.
        unread: Events that were not read.
    """
    there = _there(woven.processes, span)
    children: dict[str, list[Process]] = defaultdict(list)
    for process in there:
        if process.parent is not None:
            children[process.parent.id].append(process)
    where = {event: process.id for process in there for event in process.events}
    marked: dict[str, list[Mark]] = defaultdict(list)
    for mark in marks:
        if mark.event_id in where:
            marked[where[mark.event_id]].append(mark)
    shown = _chosen(there, set(marked), limit, fan)
    nodes = tuple(_node(process, depth, span, children, shown, marked) for process, depth in _walk(there, shown))
    return Tree(
        host=host,
        start=span.start,
        end=span.end,
        nodes=nodes,
        processes=len(there),
        left_out=len(there) - len(nodes),
        unseen=sum(not process.seen for process in there),
        orphans=sum(process.parent is not None and not process.parent.seen for process in there),
        facts=sum(len(process.events) for process in there) + woven.lost,
        nameless=woven.lost,
        unread=unread,
        unplaced=tuple(mark for mark in marks if mark.event_id not in where),
    )


def timeline(tree: Tree) -> list[tuple[int, str, Node, Deed | Mark | None]]:
    """What the processes of a tree did, in order of time: (time, kind, process, what)."""
    found: list[tuple[int, str, Node, Deed | Mark | None]] = []
    for node in tree.nodes:
        if node.start and tree.start <= node.start < tree.end:
            found.append((node.start, Doing.START, node, None))
        if node.end and tree.start <= node.end < tree.end:
            found.append((node.end, Doing.END, node, None))
        found += [(deed.time, deed.what, node, deed) for deed in node.deeds]
        found += [(mark.time, "alert", node, mark) for mark in node.alerts]
    # A process begins before it does anything, and ends after, at one time too.
    return sorted(found, key=lambda one: (one[0], one[1] == Doing.END, one[1] != Doing.START))


def _there(processes: Iterable[Process], span: Span) -> list[Process]:
    """What the span tells of, and its ancestors."""
    wanted: dict[str, Process] = {}
    for process in processes:
        times = [process.start, process.end, *(each.time for each in process.done)]
        if not any(span.start <= time < span.end for time in times if time):
            continue
        here: Process | None = process
        while here is not None and here.id not in wanted:
            wanted[here.id] = here
            here = here.parent
    return sorted(wanted.values(), key=_moment)


def _moment(process: Process) -> tuple[int, str]:
    return process.start or min((each.time for each in process.done), default=process.end), process.id


def _chosen(there: Sequence[Process], marked: set[str], limit: int, fan: int) -> set[str]:
    """Processes that are shown, each with all it comes from."""
    chosen: set[str] = set()
    fans: dict[str, int] = defaultdict(int)
    for process in sorted(there, key=lambda one: (one.id not in marked, *_moment(one))):
        path: list[Process] = []
        here: Process | None = process
        while here is not None and here.id not in chosen:
            path.append(here)
            here = here.parent
        full = process.id not in marked and any(one.parent is not None and fans[one.parent.id] >= fan for one in path)
        if full or len(chosen) + len(path) > limit:
            continue
        for one in path:
            chosen.add(one.id)
            if one.parent is not None:
                fans[one.parent.id] += 1
    return chosen


def _walk(there: Sequence[Process], shown: set[str]) -> Iterable[tuple[Process, int]]:
    below: dict[str, list[Process]] = defaultdict(list)
    roots: list[Process] = []
    for process in there:
        if process.id in shown:
            (below[process.parent.id] if process.parent is not None else roots).append(process)
    todo = [(process, 0) for process in reversed(roots)]
    while todo:
        process, depth = todo.pop()
        yield process, depth
        todo += [(child, depth + 1) for child in reversed(below[process.id])]


def _node(  # noqa: PLR0917 - what a node is made of
    process: Process,
    depth: int,
    span: Span,
    children: Mapping[str, Sequence[Process]],
    shown: set[str],
    marked: Mapping[str, Sequence[Mark]],
) -> Node:
    own = children.get(process.id, ())
    within = [each for each in process.done if span.start <= each.time < span.end]
    told = sorted(within, key=lambda each: (_TOLD.index(each.what), each.time, each.event_id))[:DOINGS]
    counts: dict[str, int] = defaultdict(int)
    for each in within:
        counts[each.what.value] += 1
    return Node(
        id=process.id,
        parent=process.parent.id if process.parent else "",
        depth=depth,
        pid=process.pid,
        image=process.image,
        command=process.command,
        user=process.user,
        hashes=process.hashes,
        start=process.start,
        known=process.known,
        end=process.end,
        seen=process.seen,
        before=bool(process.start) and process.start < span.start,
        torn=process.torn,
        sensors=tuple(sorted(process.sensors)),
        counts=dict(sorted(counts.items())),
        deeds=tuple(map(_deed, sorted(told, key=lambda each: (each.time, each.event_id)))),
        deeds_left_out=len(within) - len(told),
        children=len(own),
        children_left_out=sum(child.id not in shown for child in own),
        alerts=tuple(marked.get(process.id, ())),
        events=tuple(event for event in process.events if event not in {each.event_id for each in process.done})[:8],
    )


def _deed(done: Done) -> Deed:
    return Deed(time=done.time, what=done.what, target=done.target, event_id=done.event_id)
