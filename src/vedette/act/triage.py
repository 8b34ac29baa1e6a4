"""People's part of alerts: who works on one, what they found it to be, and how to take that back.

A change covers one alert or many, all or none, and is kept with what was before: for the alert's history and for undo.
A verdict on an alert that concerns decisions becomes their label, once the time to undo is over; a kill in between
only makes it later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from vedette.act.alert_tables import ALERT, SIGNAL, to_row
from vedette.act.alerts import load_alert
from vedette.act.grouping import Alert, AlertState, Verdict
from vedette.core.clock import MICROS, Clock
from vedette.core.db import LONG, Connection, Database, Migration, create, insert_new, sa
from vedette.core.errors import ConflictError, DataError, NotFoundError
from vedette.core.ids import Ids
from vedette.core.label import Label
from vedette.prove.audit import Audit

MAX_CHANGE = 500
"""Most alerts of one change."""
UNDO_S = 30
"""How long a change can be taken back; verdicts become labels after that."""
MAX_LABELS = 1_000
"""Most labels that one alert gives: its newest signals."""
MAX_HISTORY = 100
BATCH = 100

_METADATA = sa.MetaData()
CHANGE = sa.Table(
    "alert_change",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("alert_id", sa.Text, primary_key=True),
    sa.Column("time", LONG, nullable=False),
    sa.Column("operator", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Index("alert_change_alert", "tenant", "alert_id", "time"),
    sqlite_strict=True,
)
_VERDICT = sa.Table(
    "alert_verdict",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("alert_id", sa.Text, primary_key=True),
    sa.Column("due", LONG, nullable=False),
    sa.Index("alert_verdict_due", "due"),
    sqlite_strict=True,
)
MIGRATIONS = (Migration(1, "changes and verdicts", create(_METADATA)),)


class Standing(msgspec.Struct, frozen=True):
    """People's part of an alert at one moment."""

    state: AlertState
    assignee: str = ""
    verdict: Verdict | None = None
    state_time: int = 0


class Turn(msgspec.Struct, frozen=True):
    """One line of an alert's history."""

    id: str
    """Of the change, which may cover more alerts."""
    alert_id: str
    time: int
    operator: str
    before: Standing
    after: Standing


class Changed(msgspec.Struct, frozen=True):
    """A change that was made."""

    id: str
    """What undo is asked with; empty when nothing was to change."""
    turns: tuple[Turn, ...]


class _Body(msgspec.Struct):
    before: Standing
    after: Standing


class Triage:
    """Changes of alerts of all tenants.

    Args:
        database: Where the alerts are.
        clock: Times of changes.
        ids: Ids of changes.
        audit: Told of every alert of a change, after it is durable.
    """

    def __init__(self, database: Database, clock: Clock, ids: Ids, audit: Audit) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._audit = audit
        database.migrate("triage", MIGRATIONS)

    def change(
        self,
        tenant: str,
        alert_ids: Sequence[str],
        *,
        operator: str,
        state: AlertState | None = None,
        verdict: Verdict | None = None,
        assignee: str | None = None,
        origin: str = "",
    ) -> Changed:
        """Changes alerts, all or none; what stands already is left out of the answer.

        Args:
            tenant: Whose alerts.
            alert_ids: 1 to `MAX_CHANGE`; repeated ones count once.
            operator: Who does it.
            state: New state; a later event opens a resolved alert again.
            verdict: What they were found to be; only with `resolved`.
            assignee: Who works on them; empty: nobody. None leaves it.
            origin: Where the request came from.

        Raises:
            DataError: `alerts.change.size`, `alerts.change.empty`, `alerts.verdict.state`.
            NotFoundError: `alerts.alert.unknown`.
        """
        # In id order, so that two changes never wait for each other in a circle.
        wanted = sorted(set(alert_ids))
        _check(wanted, state, verdict, assignee)
        change, now = self._ids.new("ch"), self._clock.now()
        turns: list[Turn] = []
        with self._database.begin() as connection:
            for alert_id in wanted:
                alert = load_alert(connection, tenant, alert_id, lock=True)
                after = _changed(alert, state, verdict, assignee)
                if after != standing(alert):
                    turns.append(Turn(change, alert_id, now, operator, standing(alert), after))
                    self._store(connection, alert, turns[-1])
        self._tell(tenant, "alerts.change", turns, origin)
        return Changed(change if turns else "", tuple(turns))

    def undo(self, tenant: str, change_id: str, *, operator: str, origin: str = "") -> Changed:
        """Takes back a change, where nobody and no event came after it.

        Raises:
            NotFoundError: `alerts.change.unknown`, also for another tenant's.
            ConflictError: `alerts.undo.late`, `alerts.undo.overtaken`.
        """
        change, now = self._ids.new("ch"), self._clock.now()
        turns: list[Turn] = []
        with self._database.begin() as connection:
            rows = connection.execute(
                CHANGE.select().where(CHANGE.c.tenant == tenant, CHANGE.c.id == change_id).order_by(CHANGE.c.alert_id)
            ).all()
            if not rows:
                raise NotFoundError("alerts.change.unknown", "no such change", at=change_id[:64])
            if now > rows[0].time + UNDO_S * MICROS:
                raise ConflictError("alerts.undo.late", f"a change can be taken back for {UNDO_S} s", at=change_id)
            for made in map(_turn, rows):
                alert = load_alert(connection, tenant, made.alert_id, lock=True)
                if standing(alert) == made.after:
                    turns.append(Turn(change, made.alert_id, now, operator, made.after, made.before))
                    self._store(connection, alert, turns[-1])
            if not turns:
                raise ConflictError("alerts.undo.overtaken", "something came after it", at=change_id)
        self._tell(tenant, "alerts.undo", turns, origin)
        return Changed(change, tuple(turns))

    def history(self, tenant: str, alert_id: str) -> list[Turn]:
        """The alert's changes, newest first, at most `MAX_HISTORY`."""
        query = CHANGE.select().where(CHANGE.c.tenant == tenant, CHANGE.c.alert_id == alert_id)
        query = query.order_by(CHANGE.c.time.desc(), CHANGE.c.id.desc()).limit(MAX_HISTORY)
        with self._database.read() as connection:
            return [_turn(row) for row in connection.execute(query).all()]

    def teach(self, decided: Callable[[str, str], bool], learn: Callable[[Label], bool | None]) -> int:
        """Hands verdicts that stand as labels of the decisions their alerts are about; gives how many alerts were due.

        A label is owed until it is in the log: a kill on the way loses none.

        Args:
            decided: (tenant, event id) -> whether there is a decision on it.
            learn: Takes a label; False: it is not in the log yet, and is asked for again.
        """
        query = _VERDICT.select().where(_VERDICT.c.due <= self._clock.now()).order_by(_VERDICT.c.due).limit(BATCH)
        with self._database.read() as connection:
            due = connection.execute(query).all()
        for row in due:
            labels = self._labels(row.tenant, row.alert_id, row.due)
            taken = [learn(label) for label in labels if decided(label.tenant, label.event_id)]
            if False in taken:
                continue
            mine = (_VERDICT.c.tenant == row.tenant) & (_VERDICT.c.alert_id == row.alert_id)
            with self._database.begin() as connection:
                connection.execute(_VERDICT.delete().where(mine, _VERDICT.c.due == row.due))
        return len(due)

    def _labels(self, tenant: str, alert_id: str, due: int) -> list[Label]:
        query = sa.select(SIGNAL.c.body).where(SIGNAL.c.tenant == tenant, SIGNAL.c.alert_id == alert_id)
        query = query.order_by(SIGNAL.c.event_time.desc(), SIGNAL.c.id).limit(MAX_LABELS)
        with self._database.read() as connection:
            alert = load_alert(connection, tenant, alert_id)
            bodies = connection.execute(query).scalars().all()
        if alert.verdict is None:
            return []
        fraud, learned = alert.verdict is Verdict.TRUE_POSITIVE, due - UNDO_S * MICROS
        signals = [msgspec.json.decode(body, type=_Signal) for body in bodies]
        events = dict.fromkeys(event for signal in signals for event in signal.events)
        return [
            Label(event_id=event_id, tenant=tenant, fraud=fraud, observed_time=learned, kind="verdict")
            for event_id in events
        ]

    def _store(self, connection: Connection, alert: Alert, turn: Turn) -> None:
        tenant, after = alert.tenant, turn.after
        changed = msgspec.structs.replace(
            alert, state=after.state, assignee=after.assignee, verdict=after.verdict, state_time=after.state_time
        )
        here = (ALERT.c.tenant == tenant) & (ALERT.c.id == alert.id)
        connection.execute(ALERT.update().where(here).values(**to_row(changed)))
        body = msgspec.json.encode(_Body(turn.before, after)).decode()
        row = {"id": turn.id, "time": turn.time, "operator": turn.operator, "body": body}
        connection.execute(CHANGE.insert().values(tenant=tenant, alert_id=alert.id, **row))
        mine = (_VERDICT.c.tenant == tenant) & (_VERDICT.c.alert_id == alert.id)
        connection.execute(_VERDICT.delete().where(mine))
        if after.verdict is not None:
            insert_new(connection, _VERDICT, tenant=tenant, alert_id=alert.id, due=turn.time + UNDO_S * MICROS)

    def _tell(self, tenant: str, action: str, turns: Sequence[Turn], origin: str) -> None:
        for turn in turns:
            detail = {"change": turn.id, "from": _text(turn.before), "to": _text(turn.after)}
            self._audit.record(tenant, action, actor=turn.operator, target=turn.alert_id, origin=origin, detail=detail)


class _Signal(msgspec.Struct):
    event_id: str
    why: dict[str, Any] = {}

    @property
    def events(self) -> list[str]:
        """Ids of the events that it is about: of a correlation, all that it counted."""
        noted = self.why.get("events")
        found = [each.get("id") for each in noted if isinstance(each, dict)] if isinstance(noted, list) else []
        return [self.event_id, *(event for event in found if isinstance(event, str))]


def standing(alert: Alert) -> Standing:
    """People's part of an alert."""
    return Standing(alert.state, alert.assignee, alert.verdict, alert.state_time)


def _check(alert_ids: Sequence[str], state: AlertState | None, verdict: Verdict | None, assignee: str | None) -> None:
    if not 1 <= len(alert_ids) <= MAX_CHANGE:
        raise DataError("alerts.change.size", f"a change covers 1 to {MAX_CHANGE} alerts, not {len(alert_ids)}")
    if state is None and assignee is None:
        raise DataError("alerts.change.empty", "nothing is to change", hint="give a state or an assignee")
    if verdict is not None and state is not AlertState.RESOLVED:
        raise DataError("alerts.verdict.state", "a verdict is given with the state `resolved`", at="$.verdict")


def _changed(alert: Alert, state: AlertState | None, verdict: Verdict | None, assignee: str | None) -> Standing:
    now = standing(alert)
    if state is not None and (state, verdict) != (now.state, now.verdict):
        now = Standing(state, now.assignee, verdict, alert.last_time)
    return now if assignee is None else msgspec.structs.replace(now, assignee=assignee)


def _turn(row: Any) -> Turn:
    body = msgspec.json.decode(row.body, type=_Body)
    return Turn(row.id, row.alert_id, row.time, row.operator, body.before, body.after)


def _text(one: Standing) -> str:
    said = f" ({one.verdict})" if one.verdict else ""
    return f"{one.state}{said}{f', {one.assignee}' if one.assignee else ''}"
