"""Questions to the event store: SQL, a value, an entity, its neighbours, the processes of a host.

All are answered from the tables of stored events, so each answer can be pinned: to the versions of the tables that were
read, and to a hash of its rows. Whoever asks again at those versions gets the same rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec

from vedette.core.clock import DAY
from vedette.core.errors import DataError
from vedette.run.investigation.hosts import newest, read_host
from vedette.sense.history import Span
from vedette.sense.query import Budget, run_query
from vedette.sense.store import Store

MAX_ROWS = 5_000
MAX_TEXT = 20_000
DAYS = 7
"""How far back a question looks when it does not say."""
MAX_DAYS = 400
BUDGET = Budget(seconds=10.0, memory_mb=512, rows=MAX_ROWS)
_LATEST = 253_402_300_799_999_999
Scalar = str | int | float | bool | None


class Kind(StrEnum):
    """What is asked."""

    SQL = "sql"
    """One SELECT over the tenant's tables."""
    VALUE = "value"
    """Events whose record holds a text anywhere, whatever its case."""
    ENTITY = "entity"
    """Events about an entity, `type:id`."""
    GRAPH = "graph"
    """Entities in the same events as an entity, and how often."""
    HOST = "host"
    """Processes of a host."""


class Question(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One question, exactly."""

    kind: Kind
    text: str
    """The SELECT, the value, `type:id`, or the host."""
    parameters: Mapping[str, Scalar] = {}
    """Of a SELECT: values for its `$name`."""
    days: int = 0
    """Back from now, when no time is given; 0: seven. SQL bounds its own time."""
    since: int = 0
    """Event time, microseconds UTC."""
    until: int = 0
    """Not included."""
    limit: int = 1_000
    """Most rows."""


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """An answer, pinned."""

    question: Question
    """With its time filled in."""
    tables: Mapping[str, int]
    """Table -> the version of it that was read."""
    columns: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    cut: bool
    """There were more than are given."""
    digest: str
    """SHA-256 over the rows' JSON, sorted; equal for the same rows in any order."""


def check(question: Question) -> None:
    """Lets a question pass that can be asked.

    Raises:
        DataError: `questions.question.invalid`.
    """
    bad = ""
    if not question.text.strip() or len(question.text) > MAX_TEXT:
        bad = f"the text has 1 to {MAX_TEXT} characters"
    elif not 1 <= question.limit <= MAX_ROWS:
        bad = f"`limit` is 1 to {MAX_ROWS}"
    elif not 0 <= question.days <= MAX_DAYS:
        bad = f"`days` is at most {MAX_DAYS}"
    elif not 0 <= question.since <= question.until <= _LATEST:
        bad = "`until` is after `since`, both microseconds UTC"
    elif question.parameters and question.kind is not Kind.SQL:
        bad = "only SQL takes parameters"
    elif question.kind in {Kind.ENTITY, Kind.GRAPH} and not all(question.text.partition(":")[::2]):
        bad = "an entity is written `type:id`"
    if bad:
        raise DataError("questions.question.invalid", bad)


def ask(store: Store, tenant: str, question: Question, *, now: int) -> Rows:
    """Asks the newest versions of the tables.

    Args:
        store: The event store.
        tenant: Whose events.
        question: What.
        now: Our time, microseconds UTC.

    Raises:
        DataError: `questions.question.invalid`; as `run_query` and `read_host`.
        NotFoundError: `hosts.host.unknown`.
        TransientError: `query.deadline.exceeded`.
    """
    check(question)
    return ask_at(store, tenant, timed(store, tenant, question, now), store.versions())


def ask_at(store: Store, tenant: str, question: Question, tables: Mapping[str, int]) -> Rows:
    """Asks certain versions of the tables, a question whose time is filled in.

    Raises:
        NotFoundError: `store.version.erased`; else as `ask`.
    """
    columns, rows, cut = _answer(store.at(tables), tenant, question)
    # What JSON cannot hold, such as a date, is text from here on: shown, hashed and kept alike.
    plain = msgspec.json.decode(msgspec.json.encode(rows, enc_hook=str))
    return Rows(question=question, tables=tables, columns=columns, rows=plain, cut=cut, digest=digest(hashes(plain)))


def timed(store: Store, tenant: str, question: Question, now: int) -> Question:
    """The question with its time filled in."""
    if question.until or question.kind is Kind.SQL:
        return question
    if question.kind is Kind.HOST and not question.days:
        last = newest(store, tenant, question.text)
        return msgspec.structs.replace(question, since=max(0, last + 1 - DAY), until=last + 1)
    until = now + 1
    return msgspec.structs.replace(question, since=max(0, until - (question.days or DAYS) * DAY), until=until)


def hashes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """One hash a row, sorted: SHA-256 of its JSON with sorted keys, the first 16 bytes in hex."""
    return sorted(hashlib.sha256(msgspec.json.encode(row, order="sorted")).hexdigest()[:32] for row in rows)


def digest(of: Sequence[str]) -> str:
    """SHA-256 over sorted hashes of rows."""
    return hashlib.sha256("\n".join(of).encode()).hexdigest()


def _answer(store: Store, tenant: str, question: Question) -> tuple[Sequence[str], list[dict[str, Any]], bool]:
    if question.kind is Kind.HOST:
        span = Span(question.since, question.until)
        tree = read_host(store, None, tenant, question.text, span, limit=question.limit)
        nodes: list[dict[str, Any]] = msgspec.to_builtins(tree.nodes)
        return list(nodes[0]) if nodes else [], nodes, tree.left_out + tree.unread > 0
    text, bound = _select(store, question)
    if not text:
        return [], [], False
    budget = Budget(seconds=BUDGET.seconds, memory_mb=BUDGET.memory_mb, rows=question.limit)
    answer = run_query(store, tenant, text, parameters=bound, budget=budget)
    if answer.cut and question.kind is Kind.SQL:
        # Which rows are cut off must not be left to chance.
        answer = run_query(store, tenant, f"select * from ({text}) order by all", parameters=bound, budget=budget)
    return answer.table.column_names, answer.table.to_pylist(), answer.cut


def _select(store: Store, question: Question) -> tuple[str, Mapping[str, Any]]:
    """The SELECT of a question, and its bound values; no text when there is no table."""
    if question.kind is Kind.SQL:
        return question.text.strip().rstrip(";"), dict(question.parameters)
    value = question.text.strip()
    bound: dict[str, Any] = {"since": question.since, "until": question.until, "value": value}
    where = "list_contains(entities, $value)"
    if question.kind is Kind.VALUE:
        where = "contains(lower(data), lower($value))"
        bound["value"] = msgspec.json.encode(value).decode()[1:-1]
    span = "event_time >= make_timestamptz($since) and event_time < make_timestamptz($until)"
    shown = "source, id, epoch_us(event_time) as event_time, entities, data"
    names = [name for name in store.names() if name != "quarantine"]
    tables = " union all ".join(f'select {shown} from "{name}" where {span} and {where}' for name in names)
    if not tables or question.kind is not Kind.GRAPH:
        return (f"select * from ({tables}) order by event_time desc, id, source" if tables else ""), bound
    counted = "select entity, count(*) as events, min(event_time) as first_time, max(event_time) as last_time"
    each = f"select event_time, unnest(list_distinct(entities)) as entity from ({tables})"
    last = "where entity <> $value group by entity order by events desc, entity"
    return f"{counted} from ({each}) {last}", bound
