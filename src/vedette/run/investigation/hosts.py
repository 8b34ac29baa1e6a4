"""The process tree of a host, from stored events, with its alerts on it; kept in a case as evidence.

Starts and ends are read from some time before the span that is asked for, so that what was running then is known; what
processes did is read of the span alone. Both are bounded: of more, the newest are read, and the rest is counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from vedette.act.alerts import Alerts
from vedette.act.cases.custody import Link
from vedette.core.clock import DAY, to_iso
from vedette.core.errors import DataError, NotFoundError
from vedette.core.event import Entity, Event
from vedette.run.parts import Parts
from vedette.sense.history import Span, stored_days
from vedette.sense.processes import KINDS, LIMIT, Doing, Fact, Mark, Tree, cut, read, weave
from vedette.sense.store import ENVELOPE, Store, to_event

SOURCES = ("osquery", "windows")
BACK = 7 * DAY
"""How long before a span the starts of its processes are looked for."""
MAX_EVENTS = 200_000
"""Most events of one host that are read for each of the two."""
MAX_SPAN = 31 * DAY
MAX_DAYS = 400
MAX_ALERTS, MAX_SIGNALS = 200, 100
TYPE = "host"
_BORN = ("1", "5", "4688", "4689")
_MICRO = pa.timestamp("us", tz="UTC")


def read_host(
    store: Store, alerts: Alerts | None, tenant: str, host: str, span: Span | None = None, *, limit: int = LIMIT
) -> Tree:
    """The processes of a host.

    Args:
        store: The event store.
        alerts: Whose marks stand on the tree; None for none.
        tenant: Whose host.
        host: Its name, as its events write it.
        span: Event time, at most 31 days; None for the day up to its newest event.
        limit: Most processes.

    Raises:
        NotFoundError: `hosts.host.unknown`: no stored event tells of a process there.
        DataError: `hosts.span.invalid`.
    """
    if span is None:
        last = newest(store, tenant, host)
        span = Span(last + 1 - DAY, last + 1)
    if not 0 < span.end - span.start <= MAX_SPAN:
        raise DataError("hosts.span.invalid", "a tree is of a time of at most 31 days, its end after its start")
    born, unread = _facts(store, tenant, host, Span(max(0, span.start - BACK), span.start), born=True)
    now, more = _facts(store, tenant, host, span, born=False)
    if not born and not now:
        newest(store, tenant, host)
    marks = _marks(alerts, tenant, host, span) if alerts else ()
    return cut(weave([*born, *now]), host, span, marks=marks, limit=limit, unread=unread + more)


def keep_host(parts: Parts, store: Store, tenant: str, case_id: str, tree: Tree, *, operator: str) -> Link:
    """Keeps a tree in a case as evidence: what was asked, of which versions of the tables, and the tree itself."""
    held = {"v": 1, "tenant": tenant, "taken": parts.clock.now(), "tables": store.versions(SOURCES), "tree": tree}
    content = msgspec.json.encode(held, order="sorted")
    name = f"processes of {tree.host} {to_iso(tree.start)}..{to_iso(tree.end)}"[:200]
    how = "process tree from stored events"
    return parts.custody.collect(tenant, case_id, name=name, content=content, how=how, operator=operator)


def _facts(store: Store, tenant: str, host: str, span: Span, *, born: bool) -> tuple[list[Fact], int]:
    """What is told of a host's processes in a span, and how many events were too many."""
    found: list[Fact] = []
    unread = 0
    for source in SOURCES:
        rows = store.rows(tenant, source, span.start, span.end)
        if rows is None or span.empty:
            continue
        wanted = _wanted(source, born=born)
        rows = rows.filter(wanted) if wanted is not None else rows
        times = np.concatenate([np.zeros(0, np.int64), *(_times(batch) for batch in _of(rows, host, ("event_time",)))])
        if len(times) > MAX_EVENTS:
            floor = int(np.partition(times, len(times) - MAX_EVENTS)[len(times) - MAX_EVENTS])
            unread += int((times < floor).sum())
            rows = rows.filter(pc.field("event_time") >= pa.scalar(floor, _MICRO))
        for event in _events(rows, host):
            facts = read(event)
            found += (one for one in facts if not born or one.what in {Doing.START, Doing.END})
    return found, unread


def _wanted(source: str, *, born: bool) -> pc.Expression | None:
    if source != "windows":
        return None
    return pc.field("EventID").isin(list(_BORN if born else KINDS))


def _of(rows: pads.Dataset, host: str, columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    """The rows that are about a host."""
    key = Entity(TYPE, host).key
    for batch in rows.scanner(columns=[*columns, "entities"], batch_readahead=1).to_batches():
        lists = batch.column(batch.num_columns - 1)
        found = pc.equal(pc.list_flatten(lists), pa.scalar(key))
        hits: npt.NDArray[Any] = found.to_numpy(zero_copy_only=False)
        places = np.unique(pc.list_parent_indices(lists).to_numpy()[hits])
        if len(places):
            yield batch.take(pa.array(places))


def _times(batch: pa.RecordBatch) -> npt.NDArray[np.int64]:
    times: npt.NDArray[np.int64] = batch.column(0).cast(pa.int64()).to_numpy()
    return times


def _events(rows: pads.Dataset, host: str) -> Iterator[Event]:
    names = tuple(name for name in ENVELOPE.names if name != "entities")
    for batch in _of(rows, host, names):
        yield from map(to_event, batch.to_pylist())


def newest(store: Store, tenant: str, host: str) -> int:
    """When the host's newest event that may tell of processes happened.

    Raises:
        NotFoundError: `hosts.host.unknown`.
    """
    days = sorted({day for source in SOURCES for day in stored_days(store, tenant, source)}, reverse=True)
    for day in days[:MAX_DAYS]:
        last = 0
        for source in SOURCES:
            rows, wanted = store.rows(tenant, source, day.start, day.end), _wanted(source, born=False)
            if rows is None:
                continue
            held = rows if wanted is None else rows.filter(wanted)
            last = max([last, *(int(_times(batch).max()) for batch in _of(held, host, ("event_time",)))])
        if last:
            return last
    raise NotFoundError(
        "hosts.host.unknown",
        "no stored event tells of a process of this host",
        at=host[:100],
        hint="names are as Sysmon, the Security log or osquery write them",
    )


def _marks(alerts: Alerts, tenant: str, host: str, span: Span) -> list[Mark]:
    found: dict[tuple[str, str], Mark] = {}
    for alert in alerts.find(tenant, entity=Entity(TYPE, host), limit=MAX_ALERTS):
        for signal in alerts.signals(tenant, alert.id, limit=MAX_SIGNALS):
            if span.start <= signal.event_time < span.end:
                found[alert.id, signal.event_id] = Mark(
                    alert=alert.id,
                    title=signal.title,
                    level=signal.level.value,
                    event_id=signal.event_id,
                    time=signal.event_time,
                )
    return sorted(found.values(), key=lambda mark: (mark.time, mark.alert, mark.event_id))
