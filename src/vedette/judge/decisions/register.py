"""The register: one row for each decision, to be listed, filtered and counted; an index made from the log alone.

Decisions are in event time, newest first; of equal times the later in the log first. Where topic `decision` holds
several records of one event the last one counts, as everywhere. The full record stays in the log (`Recorder.find`).
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from vedette.core.clock import MICROS
from vedette.core.decision import Action, ModelRef, Reason
from vedette.core.errors import DataError
from vedette.core.event import Entity
from vedette.core.log import Log, Record
from vedette.core.money import Money
from vedette.core.projection import Projection
from vedette.judge.decisions.bindings import binding_of
from vedette.judge.decisions.usual import FEATURES, Range, Valued, store_features, usual
from vedette.sense.sightings import entity_hash

NAME = "register"
TOPIC = "decision"
VERSION = 2
BATCH = 2_000
"""Records of the log taken in one transaction."""
COUNTED = 1_000_000
"""Most decisions that a count goes through."""
MINUTE = 60 * MICROS
COUNTED_MINOR = 10**12
"""Most of one amount that a minute's sum counts, so that no sum outgrows 64 bits."""
LATENCY_MS = (1, 2, 5, 10, 20, 30, 40, 50, 100)
"""Upper bounds of the latency histogram's buckets, milliseconds; one more holds what took longer."""

_ACTIONS = tuple(Action)
_COLUMNS = tuple(f"l{place}" for place in range(len(LATENCY_MS) + 1))
# The list's index holds all that a filter reads, so that a page or a count never touches the rows it leaves out.
_SCHEMA = f"""
create table if not exists register_row (
  seq integer primary key, tenant text not null, time integer not null, action integer not null, risk integer,
  amount integer, currency text not null, merchant text not null, fallback integer not null, reasons text not null,
  body blob not null
) strict;
create index if not exists register_list on register_row (
  tenant, time, seq, action, risk, amount, currency, merchant, fallback, reasons
);
create table if not exists register_entity (
  entity integer not null, time integer not null, seq integer not null, primary key (entity, time, seq)
) strict, without rowid;
create table if not exists register_reason (id integer primary key, code text not null unique) strict;
create table if not exists register_minute (
  tenant text not null, time integer not null, action integer not null, currency text not null,
  count integer not null, amount integer not null, {", ".join(f"{name} integer not null" for name in _COLUMNS)},
  primary key (tenant, time, action, currency)
) strict, without rowid;
{FEATURES}
"""

Entities = Callable[[str, dict[str, Any]], tuple[Entity, ...]]
"""Source and data of a decided event -> what it is about."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One decision, as lists show it."""

    event_id: str
    seq: int
    """Place of the event in the log."""
    time: int
    """Event time, microseconds UTC."""
    action: Action
    score: float | None
    risk_score: int | None
    amount_minor: int | None
    """None for an event without an amount."""
    currency: str
    merchant: str
    """Empty for an event that names none."""
    source: str
    entities: tuple[Entity, ...]
    reasons: tuple[Reason, ...]
    """As recorded: the model's largest, then the rules that fired, then the fallback."""
    fallback: str | None
    latency_us: int
    model: ModelRef | None = None


class Place(NamedTuple):
    """Where a page of the list ended."""

    time: int
    seq: int


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """Which decisions; every filter that is given must hold."""

    actions: tuple[Action, ...] = ()
    since: int | None = None
    """Event time from, microseconds UTC, included."""
    until: int | None = None
    """Event time to, not included."""
    entity: Entity | None = None
    reason: str = ""
    """Code of a reason: `rule.<id>`, `model.<feature>`, `fallback.<part>`."""
    fallback: bool | None = None
    """Answered by policy, or not."""
    risk_at_least: int | None = None
    """0..99; a decision without a score has no risk and is left out."""
    amount_at_least: int | None = None
    """Minor units, whatever the currency."""
    currency: str = ""
    merchants: tuple[str, ...] = ()
    """Only of these; empty: of all."""


class Minute(msgspec.Struct, frozen=True):
    """Decisions of one minute of event time with one action and one currency."""

    time: int
    """Start of the minute, microseconds UTC."""
    action: Action
    currency: str
    count: int
    amount_minor: int
    """Sum; of one decision at most `COUNTED_MINOR` is counted."""
    latency: tuple[int, ...]
    """How many took at most each of `LATENCY_MS`, and longer: each decision in one bucket."""


class _Record(msgspec.Struct):
    """What of a decision the register needs."""

    event_id: str
    tenant: str
    action: Action
    score: float | None
    risk_score: int | None
    reasons: tuple[Reason, ...] = ()
    model: ModelRef | None = None
    fallback: str | None = None
    seq: int = 0
    time: int = 0
    latency_us: int = 0
    source: str = ""
    event: dict[str, Any] = {}
    features: dict[str, float | None] = {}
    features_version: str = ""


_decode = msgspec.json.Decoder(_Record).decode
_to_row = msgspec.json.Decoder(Row).decode
_encode = msgspec.json.Encoder().encode


class Register:
    """The index. Reads from any thread.

    Args:
        projection: The file.
        entities: Says what a decided event is about.
    """

    def __init__(self, projection: Projection, entities: Entities) -> None:
        self._projection = projection
        self._entities = entities
        projection.prepare(NAME, VERSION, _SCHEMA)

    # Following the log

    def consume(self, log: Log, *, limit: int = BATCH) -> int:
        """Takes what is new in the log; gives how many records that was. Raises as `Projection.follow`."""
        if self._projection.ahead(NAME, log, TOPIC):
            self._projection.restart(NAME, VERSION, _SCHEMA)
        return self._projection.follow(NAME, log, TOPIC, limit, self._apply)

    def place(self, partition: int) -> int:
        """Offset of the next record to take from a partition of the log."""
        return self._projection.place(NAME, partition)

    def _apply(self, connection: sqlite3.Connection, _shard: int, records: Sequence[Record]) -> None:
        # An event's decisions share its place in the log; the last one is what the caller got.
        rows: dict[int, tuple[str, Row]] = {}
        features: dict[int, Valued] = {}
        for record in records:
            try:
                line = _decode(record.value)
            except msgspec.MsgspecError:
                continue  # the decision service refuses such a log with its place
            rows[line.seq] = line.tenant, self._row(line)
            features[line.seq] = line.features_version, line.features
        minutes: dict[tuple[str, int, int, str], list[int]] = defaultdict(lambda: [0] * (2 + len(_COLUMNS)))
        self._take_out(connection, list(rows), minutes)
        reasons = _Reasons(connection)
        connection.executemany(
            "insert into register_row values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [_values(tenant, row, reasons) for tenant, row in rows.values()],
        )
        connection.executemany(
            "insert or ignore into register_entity values (?, ?, ?)",
            sorted(
                (_key(tenant, entity), row.time, row.seq) for tenant, row in rows.values() for entity in row.entities
            ),
        )
        store_features(connection, features)
        for tenant, row in rows.values():
            _count(minutes, tenant, row, 1)
        _store_minutes(connection, minutes)

    def _take_out(
        self, connection: sqlite3.Connection, seqs: list[int], minutes: dict[tuple[str, int, int, str], list[int]]
    ) -> None:
        """Forgets earlier records of the same events."""
        held = connection.execute(
            "select tenant, body from register_row where seq in (select value from json_each(?))",
            (_encode(seqs).decode(),),
        ).fetchall()
        for tenant, body in held:
            row = _to_row(body)
            connection.execute("delete from register_row where seq = ?", (row.seq,))
            connection.execute("delete from register_features where seq = ?", (row.seq,))
            connection.executemany(
                "delete from register_entity where entity = ? and time = ? and seq = ?",
                [(_key(tenant, entity), row.time, row.seq) for entity in row.entities],
            )
            _count(minutes, tenant, row, -1)

    def _row(self, line: _Record) -> Row:
        amount, currency = to_amount(line.source, line.event)
        entities = self._entities(line.source, line.event)
        merchant = next((entity.id for entity in entities if entity.type == "merchant"), "")
        return Row(
            event_id=line.event_id,
            seq=line.seq,
            time=line.time,
            action=line.action,
            score=line.score,
            risk_score=line.risk_score,
            amount_minor=amount,
            currency=currency,
            merchant=merchant,
            source=line.source,
            entities=entities,
            reasons=line.reasons,
            fallback=line.fallback,
            latency_us=line.latency_us,
            model=line.model,
        )

    # Reading

    def find(
        self,
        tenant: str,
        filters: Filters = Filters(),  # noqa: B008 - a frozen value
        *,
        after: Place | None = None,
        limit: int = 50,
    ) -> list[Row]:
        """Decisions, newest event time first.

        Args:
            tenant: Whose.
            filters: Which.
            after: The last entry of the page before.
            limit: Most entries.
        """
        with self._projection.read() as connection:
            where = _where(connection, tenant, filters, after)
            if where is None:
                return []
            text, values = where
            # The page is cut before any row is read whole.
            order = "e.time desc, e.seq desc" if filters.entity else "r.time desc, r.seq desc"
            rows = connection.execute(
                f"select body from register_row where seq in (select r.seq from {text} order by {order} limit ?)"
                " order by time desc, seq desc",
                (*values, limit),
            ).fetchall()
        return [_to_row(body) for (body,) in rows]

    def count(self, tenant: str, filters: Filters = Filters(), *, most: int = COUNTED) -> int:  # noqa: B008 - a frozen value
        """How many decisions; `most` when there are more."""
        with self._projection.read() as connection:
            where = _where(connection, tenant, filters, None)
            if where is None:
                return 0
            text, values = where
            row = connection.execute(f"select count(*) from (select 1 from {text} limit ?)", (*values, most))
            return int(row.fetchone()[0])

    def minutes(self, tenant: str, since: int, until: int) -> list[Minute]:
        """Minutes of event time that begin in [since, until), oldest first; one entry per action and currency."""
        with self._projection.read() as connection:
            rows = connection.execute(
                f"select time, action, currency, count, amount, {', '.join(_COLUMNS)} from register_minute"
                " where tenant = ? and time >= ? and time < ? and count != 0 order by time, action, currency",
                (tenant, since, until),
            ).fetchall()
        return [
            Minute(time, _ACTIONS[action], currency, count, amount, tuple(latency))
            for time, action, currency, count, amount, *latency in rows
        ]

    def top_reasons(
        self, tenant: str, since: int, until: int, *, actions: Sequence[Action], limit: int = 10
    ) -> list[tuple[str, dict[Action, int]]]:
        """Codes given most often for these actions, with how many decisions of each action gave them.

        Args:
            tenant: Whose.
            since: Event time from, microseconds UTC, included.
            until: Event time to, not included.
            actions: Which decisions count.
            limit: Most codes.
        """
        marks = ", ".join("?" * len(actions))
        found: dict[str, dict[Action, int]] = {}
        with self._projection.read() as connection:
            codes = dict(connection.execute("select id, code from register_reason").fetchall())
            rows = connection.execute(
                "select reasons, action, count(*) from register_row indexed by register_list"
                f" where tenant = ? and time >= ? and time < ? and action in ({marks}) group by reasons, action",
                (tenant, since, until, *(_ACTIONS.index(action) for action in actions)),
            ).fetchall()
        for reasons, action, count in rows:
            for number in set(filter(None, reasons.split(","))):
                counts = found.setdefault(codes[int(number)], {})
                counts[_ACTIONS[action]] = counts.get(_ACTIONS[action], 0) + count
        return sorted(found.items(), key=lambda item: (-sum(item[1].values()), item[0]))[:limit]

    def usual(
        self, tenant: str, before: Place, version: str, *, entity: Entity | None = None, limit: int = 200
    ) -> dict[str, Range]:
        """Where features lay in the newest decisions before a place of the list, kept to about seven digits.

        Args:
            tenant: Whose.
            before: Only decisions that come after this in the list are looked at.
            version: SHA-256 of the feature definitions; decisions with others are left out.
            entity: Only decisions about it.
            limit: Most decisions that are looked at.

        Returns:
            Feature -> range; a feature that no such decision had is left out.
        """
        filters = Filters(entity=entity)
        order = "e.time desc, e.seq desc" if entity else "r.time desc, r.seq desc"
        with self._projection.read() as connection:
            text, values = _where(connection, tenant, filters, before) or ("", [])
            return usual(connection, version, f"select r.seq from {text} order by {order} limit ?", (*values, limit))

    def span(self, tenant: str) -> tuple[int, int] | None:
        """Event times of the tenant's first and last decision; None without one."""
        with self._projection.read() as connection:
            first, last = connection.execute(
                "select (select min(time) from register_row where tenant = :t),"
                " (select max(time) from register_row where tenant = :t)",
                {"t": tenant},
            ).fetchone()
        return None if first is None else (first, last)

    def reasons(self) -> list[str]:
        """Codes of all reasons that were ever given, in order."""
        with self._projection.read() as connection:
            return [code for (code,) in connection.execute("select code from register_reason order by code")]


class _Reasons:
    """Reason codes as small numbers: a row names its codes in a few bytes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._held = dict(connection.execute("select code, id from register_reason").fetchall())

    def __call__(self, reasons: Sequence[Reason]) -> str:
        for reason in reasons:
            if reason.code not in self._held:
                found = self._connection.execute("insert into register_reason (code) values (?)", (reason.code,))
                self._held[reason.code] = found.lastrowid or 0
        return "".join(f",{self._held[reason.code]}" for reason in reasons) + ","


def to_amount(source: str, data: Mapping[str, Any]) -> tuple[int | None, str]:
    """Minor units and currency of a decided event: its own, else the major units that the source's binding names."""
    if "amount_minor" in data:
        amount, currency = data["amount_minor"], data.get("currency", "")
        whole = isinstance(amount, int) and not isinstance(amount, bool) and abs(amount) < 1 << 63
        return (amount if whole else None), str(currency)
    for name, path in binding_of(source).attributes.items():
        value = data.get(path)
        if name.startswith("amount_in_") and isinstance(value, int | float):
            currency = name.removeprefix("amount_in_").upper()
            try:
                return round(value * 10 ** Money(0, currency).exponent), currency
            except (DataError, OverflowError, ValueError):
                break
    return None, ""


def quantile(latency: Sequence[int], share: float) -> float | None:
    """Latency in milliseconds that at least `share` of the decisions kept to, by the histogram's bounds.

    Args:
        latency: Counts as in `Minute.latency`, of one minute or added up.
        share: 0..1.

    Returns:
        An upper bound of `LATENCY_MS`; infinity beyond the last; None without decisions.
    """
    total, run = sum(latency), 0
    for bound, count in zip((*LATENCY_MS, float("inf")), latency, strict=True):
        run += count
        if total and run >= share * total:
            return float(bound)
    return None


def _values(tenant: str, row: Row, reasons: _Reasons) -> tuple[Any, ...]:
    return (
        row.seq,
        tenant,
        row.time,
        _ACTIONS.index(row.action),
        row.risk_score,
        row.amount_minor,
        row.currency,
        row.merchant,
        int(row.fallback is not None),
        reasons(row.reasons),
        _encode(row),
    )


def _key(tenant: str, entity: Entity) -> int:
    """The entity's hash as SQLite's signed number."""
    return entity_hash(tenant, entity.type, entity.id) - (1 << 63)


def _count(minutes: dict[tuple[str, int, int, str], list[int]], tenant: str, row: Row, sign: int) -> None:
    found = minutes[tenant, row.time // MINUTE * MINUTE, _ACTIONS.index(row.action), row.currency]
    found[0] += sign
    found[1] += sign * min(row.amount_minor or 0, COUNTED_MINOR)
    found[2 + bisect_left(LATENCY_MS, row.latency_us / 1_000)] += sign


def _store_minutes(connection: sqlite3.Connection, minutes: Mapping[tuple[str, int, int, str], list[int]]) -> None:
    names = ("count", "amount", *_COLUMNS)
    marks = ", ".join("?" * (4 + len(names)))
    added = ", ".join(f"{name} = {name} + excluded.{name}" for name in names)
    connection.executemany(
        f"insert into register_minute values ({marks}) on conflict do update set {added}",
        [(*key, *counts) for key, counts in minutes.items()],
    )


def _where(
    connection: sqlite3.Connection, tenant: str, filters: Filters, after: Place | None
) -> tuple[str, list[Any]] | None:
    """Tables and conditions, with their values; None when nothing can be found."""
    place = "e" if filters.entity else "r"
    parts: list[str] = ["r.tenant = ?"]
    values: list[Any] = [tenant]
    table = "register_row r"
    if filters.entity:
        table = "register_entity e join register_row r on r.seq = e.seq"
        parts, values = ["e.entity = ?", *parts], [_key(tenant, filters.entity), *values]
    if filters.reason:
        found = connection.execute("select id from register_reason where code = ?", (filters.reason,)).fetchone()
        if found is None:
            return None
        parts.append("instr(r.reasons, ?)")
        values.append(f",{found[0]},")
    if after is not None:
        parts.append(f"({place}.time, {place}.seq) < (?, ?)")
        values += after
    for text, value in (
        (f"{place}.time >= ?", filters.since),
        (f"{place}.time < ?", filters.until),
        ("r.fallback = ?", filters.fallback),
        ("r.risk >= ?", filters.risk_at_least),
        ("r.amount >= ?", filters.amount_at_least),
        ("r.currency = ?", filters.currency or None),
    ):
        if value is not None:
            parts.append(text)
            values.append(value)
    for name, among in (
        ("r.action", [_ACTIONS.index(action) for action in filters.actions]),
        ("r.merchant", filters.merchants),
    ):
        if among:
            parts.append(f"{name} in ({', '.join('?' * len(among))})")
            values += among
    return f"{table} where {' and '.join(parts)}", values
