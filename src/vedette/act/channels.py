"""Telling people of alerts: each new one by its route, and each that waits too long, over a chat, a pager or by mail.

What is to be told is a row, made once for each alert and occasion, in the transaction that finds it to be due; a beat
sends the rows that are due through the same actions that playbooks use. The key of a message is its alert and occasion:
a process that was killed between sending and writing that down sends it again under that key, and the receiver, or our
own record of it, tells the repeat. A storm does not page a thousand times: beyond a channel's number an hour, alerts
are told together in one message when the hour is over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from vedette.act.actions import ActionCall, ActionResult
from vedette.act.alert_tables import ALERT
from vedette.act.attention import Attention, recipient
from vedette.act.grouping import Alert, AlertState
from vedette.core.clock import MICROS, Clock
from vedette.core.db import LONG, Connection, Database, Migration, create, insert_all_new, sa
from vedette.core.errors import TransientError, VedetteError
from vedette.prove.audit import Audit

NEW, OVERDUE, FOLDED = "new", "overdue", "folded"
"""Occasions: an alert came, it waited too long, and many were told together."""
HOUR = 3_600 * MICROS
LOOK_BACK = HOUR
"""New alerts that are older when they are first seen are told of only once they wait too long."""
LEASE = 120 * MICROS
"""A message whose sender was killed is sent again after this time, under its key."""
FIRST_WAIT, LAST_WAIT = 5 * MICROS, HOUR
MAX_ATTEMPTS = 12
MAX_ROWS = 200
MAX_TITLE = 300

_METADATA = sa.MetaData()
_MESSAGE = sa.Table(
    "alert_message",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("alert_id", sa.Text, nullable=False),
    sa.Column("level", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("next_time", LONG, nullable=False),
    sa.Column("time", LONG, nullable=False),
    sa.Column("code", sa.Text, nullable=False, server_default=""),
    sa.Index("alert_message_due", "state", "next_time"),
    sa.Index("alert_message_hour", "tenant", "channel", "time"),
    sqlite_strict=True,
)
MIGRATIONS = (Migration(1, "messages of alerts", create(_METADATA)),)

Perform = Callable[[str, ActionCall], ActionResult]
"""(Name of an action, call) -> its result; once for each key."""


class Message(msgspec.Struct, frozen=True):
    """One message, and what became of it."""

    key: str
    channel: str
    alert_id: str
    text: str
    state: str
    """`waiting`, `sent`, `folded` into another, or `dead`."""
    attempts: int
    time: int
    code: str
    """Why the last attempt failed; empty when none did."""


class Channels:
    """Messages of all tenants.

    Args:
        database: Where the alerts are.
        clock: When messages are due.
        audit: Told of what could not be sent.
        attention: Routes and channels.
        perform: Performs an action.
    """

    def __init__(self, database: Database, clock: Clock, audit: Audit, attention: Attention, perform: Perform) -> None:
        self._database = database
        self._clock = clock
        self._audit = audit
        self._attention = attention
        self._perform = perform
        database.migrate("channels", MIGRATIONS)

    def gather(self, tenant: str) -> int:
        """Makes the messages of alerts that came since the last turn; gives how many."""
        if not self._attention.channels:
            return 0  # who sets a channel up later is not told the past
        now = self._clock.now()
        told = sa.exists().where(
            _MESSAGE.c.tenant == ALERT.c.tenant, _MESSAGE.c.key == sa.literal(f"{NEW}:").concat(ALERT.c.id)
        )
        query = (
            sa.select(ALERT.c.body)
            .where(ALERT.c.tenant == tenant, ALERT.c.created_time > now - LOOK_BACK, ~told)
            .where(ALERT.c.state == str(AlertState.NEW))
            .order_by(ALERT.c.created_time)
            .limit(MAX_ROWS)
        )
        with self._database.begin() as connection:
            alerts = [msgspec.json.decode(body, type=Alert) for body in connection.execute(query).scalars()]
            return self.add(connection, tenant, NEW, alerts)

    def add(self, connection: Connection, tenant: str, occasion: str, alerts: Sequence[Alert]) -> int:
        """Makes the messages of some alerts in the caller's transaction, each once; gives how many were made."""
        now, rows = self._clock.now(), list[dict[str, Any]]()
        sent = {name: self._sent(connection, tenant, name, now) for name in self._attention.channels if alerts}
        for alert in alerts:
            to = recipient(alert, self._attention, now)
            channel = self._attention.channels.get(to.channel)
            if channel is None:
                continue
            many = sent[to.channel] >= channel.per_hour
            sent[to.channel] += 1
            row = _row(tenant, to.channel, f"{occasion}:{alert.id}", now)
            told = {"alert_id": alert.id, "level": str(alert.level), "text": _text(alert, occasion, to.team, now)}
            rows.append(row | told | ({"state": "folded"} if many else {}))
            if many:
                # The one message that tells of the hour's others, when it is over.
                hour = now - now % HOUR
                rows.append(_row(tenant, to.channel, f"{FOLDED}:{to.channel}:{hour // HOUR}", hour + HOUR))
        return len(insert_all_new(connection, _MESSAGE, rows, "key"))

    @staticmethod
    def _sent(connection: Connection, tenant: str, channel: str, now: int) -> int:
        """Messages of this hour that were not folded."""
        mine = (_MESSAGE.c.tenant == tenant) & (_MESSAGE.c.channel == channel)
        hour = (_MESSAGE.c.time >= now - now % HOUR) & (_MESSAGE.c.state != "folded")
        return connection.execute(sa.select(sa.func.count()).select_from(_MESSAGE).where(mine, hour)).scalar_one()

    def send(self) -> int:
        """Sends what is due, of all tenants; gives how many messages were sent."""
        now = self._clock.now()
        due = (_MESSAGE.c.state == "waiting") & (_MESSAGE.c.next_time <= now)
        with self._database.read() as connection:
            rows = connection.execute(_MESSAGE.select().where(due).order_by(_MESSAGE.c.next_time).limit(MAX_ROWS)).all()
        return sum(self._send(row, now) for row in rows)

    def _send(self, row: Any, now: int) -> bool:
        here = (_MESSAGE.c.tenant == row.tenant) & (_MESSAGE.c.key == row.key)
        mine = here & (_MESSAGE.c.state == "waiting") & (_MESSAGE.c.next_time == row.next_time)
        with self._database.begin() as connection:
            lease = _MESSAGE.update().where(mine).values(next_time=now + LEASE, attempts=row.attempts + 1)
            if connection.execute(lease.returning(_MESSAGE.c.key)).first() is None:
                return False  # another process has it
            text = row.text or self._told_together(connection, row)
        values: dict[str, Any] = {"state": "sent", "code": ""}
        try:
            self._act(row, text)
        except VedetteError as error:
            values = self._failed(row, error, now)
        with self._database.begin() as connection:
            connection.execute(_MESSAGE.update().where(here).values(**values))
        return bool(values["state"] == "sent")

    def _failed(self, row: Any, error: VedetteError, now: int) -> dict[str, Any]:
        if isinstance(error, TransientError) and row.attempts + 1 < MAX_ATTEMPTS:
            wait = max(min(FIRST_WAIT << row.attempts, LAST_WAIT), round((error.retry_after or 0) * MICROS))
            return {"next_time": now + wait, "code": error.code, "state": "waiting"}
        detail = {"channel": row.channel, "code": error.code, "key": row.key[:200]}
        self._audit.record(
            row.tenant, "alerts.unsent", actor="system", target=row.alert_id, origin=row.channel, detail=detail
        )
        return {"state": "dead", "code": error.code}

    def _act(self, row: Any, text: str) -> None:
        channel = self._attention.channels.get(row.channel)
        if channel is None:
            return  # it was taken out of the file meanwhile
        call = ActionCall(
            tenant=row.tenant,
            run_id=row.channel,
            step=row.key,
            key=f"alert:{row.tenant}:{row.key}",
            arguments=channel.arguments(text, row.level),
            operator="system",
            alert_id=row.alert_id,
        )
        self._perform(channel.by, call)

    @staticmethod
    def _told_together(connection: Connection, row: Any) -> str:
        start = row.time - HOUR
        mine = (_MESSAGE.c.tenant == row.tenant) & (_MESSAGE.c.channel == row.channel) & (_MESSAGE.c.state == "folded")
        within = (_MESSAGE.c.time >= start) & (_MESSAGE.c.time < row.time)
        query = sa.select(_MESSAGE.c.level, sa.func.count()).where(mine, within).group_by(_MESSAGE.c.level)
        counts = {row.level: row[1] for row in connection.execute(query)}
        told = ", ".join(f"{count} {level}" for level, count in sorted(counts.items()))
        return f"{sum(counts.values())} more alerts in the last hour: {told}"

    def find(self, tenant: str, *, state: str = "", limit: int = 100) -> list[Message]:
        """Messages, newest first."""
        query = _MESSAGE.select().where(_MESSAGE.c.tenant == tenant)
        if state:
            query = query.where(_MESSAGE.c.state == state)
        query = query.order_by(_MESSAGE.c.time.desc(), _MESSAGE.c.key).limit(min(limit, MAX_ROWS))
        names = Message.__struct_fields__
        with self._database.read() as connection:
            return [Message(*(getattr(row, name) for name in names)) for row in connection.execute(query)]


def _row(tenant: str, channel: str, key: str, time: int) -> dict[str, Any]:
    empty = {"alert_id": "", "level": "", "text": ""}
    return {
        "tenant": tenant,
        "key": key,
        "channel": channel,
        "state": "waiting",
        "next_time": time,
        "time": time,
    } | empty


def _text(alert: Alert, occasion: str, team: str, now: int) -> str:
    about = f" about {alert.entity.key}"[:MAX_TITLE] if alert.entity else ""
    waits = f" has waited for {alert.age(now) // (60 * MICROS)} min" if occasion == OVERDUE else ""
    title = alert.title[:MAX_TITLE].replace("\x00", " ")
    return f"{team}: {alert.level} alert{about}{waits}: {title} ({alert.id})".replace("\x00", " ")
