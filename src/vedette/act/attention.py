"""What an alert deserves: its severity, who gets it, and how long it may wait before that itself is an alarm.

Severity is the rule's level, one step up for an asset that matters or an entity whose risk is high already, one step
down for an asset that does not matter. It is computed when it is asked for, with its reasons, and stored nowhere: the
stored level stays the rule's own. That no alert is left lying unseen is watched by the product: each open alert has an
age, and one that is older than its level allows is told once, in the audit trail.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec

from vedette.act.alert_tables import ALERT
from vedette.act.grouping import Alert, AlertState
from vedette.core.clock import MICROS, Clock, seconds_of, to_datetime
from vedette.core.db import LONG, Connection, Database, Migration, create, insert_all_new, sa
from vedette.core.documents import load_yaml
from vedette.core.errors import DefinitionError
from vedette.core.signal import Level
from vedette.prove.audit import Audit

RISKY = 80
"""Risk of an entity, 0 to 99, from which on its alerts are a step graver."""
MAX_TOLD = 200
"""Most alerts that one turn tells of."""
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


MAX_SUBJECT = 150


class Way(StrEnum):
    """The action that tells a channel."""

    CHAT = "chat_post"
    PAGE = "page_trigger"
    MAIL = "send_mail"
    TICKET = "ticket_open"
    SPLUNK = "splunk_export"


class Criticality(StrEnum):
    """What an asset is worth."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


class Asset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Entities, and what they are worth."""

    entity: str
    """`type:id`, with `*` for any text."""
    criticality: Criticality


class When(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Conditions of a route; each that is given must hold, its values are alternatives."""

    level: tuple[Level, ...] = ()
    rule: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    entity_type: tuple[str, ...] = ()
    tag: tuple[str, ...] = ()


class Hours(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a team is there, UTC."""

    days: tuple[str, ...]
    start: int = msgspec.field(name="from")
    to: int = 24


class Route(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who gets an alert."""

    name: str
    when: When
    team: str
    channel: str
    hours: Hours | None = None
    otherwise: str = ""
    """Who gets it outside of the hours."""


class Channel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How people of a channel are told."""

    by: Way
    connection: str
    """Name of the secret that holds destination and credential."""
    to: tuple[str, ...] = ()
    """Addresses of a mail."""
    per_hour: int = 60
    """Messages an hour; what is beyond them is told in one message when the hour is over."""

    def arguments(self, text: str, level: str) -> dict[str, Any]:
        """What the action is called with."""
        told: dict[str, Any] = {"connection": self.connection, "text": text}
        match self.by:
            case Way.PAGE:
                return told | ({"level": level} if level else {})
            case Way.MAIL:
                return told | {"to": list(self.to), "subject": text[:MAX_SUBJECT]}
            case Way.TICKET:
                return told | {"title": text[:MAX_SUBJECT]}
            case _:
                return told


class Attention(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    ages: dict[Level, str]
    routes: tuple[Route, ...]
    assets: tuple[Asset, ...] = ()
    channels: dict[str, Channel] = {}
    """Channel of a route -> how it is told; one that is not named here is told in the audit trail alone."""

    def limit(self, level: Level) -> int:
        """How long an alert of a level may be new, microseconds."""
        return (seconds_of(self.ages[level]) or 0) * MICROS


class Severity(msgspec.Struct, frozen=True):
    """How bad an alert is, and why."""

    level: Level
    reasons: tuple[str, ...]


class Recipient(msgspec.Struct, frozen=True):
    """Who gets an alert now."""

    route: str
    team: str
    channel: str


def load_attention(path: Path) -> Attention:
    """Reads the file.

    Raises:
        DefinitionError: `attention.file.invalid`, `attention.ages.missing`, `attention.route.last`,
            `attention.channel.invalid`.
    """
    document = load_yaml(path.read_text(encoding="utf-8"), path=str(path))
    try:
        found = msgspec.convert(document.data, Attention)
    except msgspec.ValidationError as error:
        raise DefinitionError("attention.file.invalid", str(error), span=document.span()) from error
    if any(level not in found.ages or not found.limit(level) for level in Level):
        hint = "give a time such as `8h` for each of informational, low, medium, high, critical"
        raise DefinitionError("attention.ages.missing", "a level has no age", span=document.span("$.ages"), hint=hint)
    if not found.routes or found.routes[-1].when != When():
        said = "the last route takes what no other took: its `when` is empty"
        raise DefinitionError("attention.route.last", said, span=document.span("$.routes"))
    for name, channel in found.channels.items():
        if channel.per_hour < 1 or (channel.by is Way.MAIL) != bool(channel.to):
            said = f"`{name}` needs at least one message an hour, and addresses exactly if it is mail"
            raise DefinitionError("attention.channel.invalid", said, span=document.span("$.channels"))
    return found


def severity(alert: Alert, attention: Attention, risks: Mapping[str, float]) -> Severity:
    """How bad an alert is.

    Args:
        alert: Which.
        attention: What assets are worth.
        risks: Entity key -> its risk now, without this alert where that is known.
    """
    reasons = [f"rule: {alert.level}"]
    worth = [(entity, worth_of(entity.key, attention.assets)) for entity in alert.entities]
    if grave := next((entity for entity, found in worth if found is Criticality.HIGH), None):
        reasons.append(f"asset: {grave.key} matters")
    elif worth and all(found is Criticality.LOW for _, found in worth):
        reasons.append("asset: nothing that matters")
    risk = max((risks.get(entity.key, 0.0) for entity in alert.entities), default=0.0)
    if risk >= RISKY:
        reasons.append(f"risk: {risk:.0f} of what it names")
    return Severity(graver(alert.level, [found for _, found in worth], risk), tuple(reasons))


def graver(level: Level, worth: Sequence[Criticality], risk: float) -> Level:
    """A rule's level, a step up for an asset that matters, one down where none does, one up for a high risk.

    Args:
        level: The rule's.
        worth: Of each thing that the alert names.
        risk: Of the riskiest of them, 0 to 99.9.
    """
    levels = list(Level)
    place = levels.index(level)
    if Criticality.HIGH in worth:
        place += 1
    elif worth and set(worth) == {Criticality.LOW}:
        place -= 1
    place += risk >= RISKY
    return levels[max(0, min(place, len(levels) - 1))]


def recipient(alert: Alert, attention: Attention, now: int) -> Recipient:
    """Who gets an alert at a time."""
    route = next(each for each in attention.routes if _fits(alert, each.when))
    there = route.hours is None or _within(route.hours, now)
    return Recipient(route.name, route.team if there else route.otherwise or route.team, route.channel)


def worth_of(entity: str, assets: Sequence[Asset]) -> Criticality:
    """What an entity, written `type:id`, is worth: the first that fits counts."""
    found = (asset.criticality for asset in assets if fnmatchcase(entity, asset.entity))
    return next(found, Criticality.NORMAL)


def _fits(alert: Alert, when: When) -> bool:
    kind = alert.entity.type if alert.entity else ""
    return (
        (not when.level or alert.level in when.level)
        and (not when.rule or alert.rule_id in when.rule)
        and (not when.source or alert.source in when.source)
        and (not when.entity_type or kind in when.entity_type)
        and (not when.tag or not set(when.tag).isdisjoint(alert.tags))
    )


def _within(hours: Hours, now: int) -> bool:
    moment = to_datetime(now)
    return _DAYS[moment.weekday()] in hours.days and hours.start <= moment.hour < hours.to


# The alarm

_METADATA = sa.MetaData()
_ALARM = sa.Table(
    "alert_alarm",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("alert_id", sa.Text, primary_key=True),
    sa.Column("time", LONG, nullable=False),
    sqlite_strict=True,
)
MIGRATIONS = (Migration(1, "age alarms", create(_METADATA)),)


class Ages:
    """Tells of alerts that nobody took in hand in time.

    Args:
        database: Where the alerts are.
        clock: Decides what is too old.
        audit: Told of each, once.
        attention: How long a level may wait, and who gets it.
        message: Makes messages of alerts in the transaction that finds them to be late.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        audit: Audit,
        attention: Attention,
        message: Callable[[Connection, str, Sequence[Alert]], object] = lambda *_: None,
    ) -> None:
        self._message = message
        self._database = database
        self._clock = clock
        self._audit = audit
        self._attention = attention
        database.migrate("ages", MIGRATIONS)

    def overdue(self, tenant: str) -> dict[Level, int]:
        """Level -> new alerts that are older than it allows."""
        found: dict[Level, int] = {}
        with self._database.read() as connection:
            for level in Level:
                query = sa.select(sa.func.count()).select_from(ALERT).where(*self._late(tenant, level))
                if count := connection.execute(query).scalar_one():
                    found[level] = count
        return found

    def tell(self, tenant: str) -> int:
        """Tells of those that were not told of yet; gives how many."""
        now, fresh = self._clock.now(), list[Alert]()
        told = sa.exists().where(_ALARM.c.tenant == ALERT.c.tenant, _ALARM.c.alert_id == ALERT.c.id)
        with self._database.begin() as connection:
            for level in reversed(Level):
                query = sa.select(ALERT.c.body).where(*self._late(tenant, level), ~told)
                bodies = connection.execute(query.order_by(ALERT.c.created_time).limit(MAX_TOLD)).scalars().all()
                fresh += [msgspec.json.decode(body, type=Alert) for body in bodies]
            rows = [{"tenant": tenant, "alert_id": alert.id, "time": now} for alert in fresh]
            insert_all_new(connection, _ALARM, rows, "alert_id")
            self._message(connection, tenant, fresh)
        for alert in fresh:
            to = recipient(alert, self._attention, now)
            detail = {"level": str(alert.level), "age_s": str((now - alert.created_time) // MICROS), "team": to.team}
            self._audit.record(
                tenant, "alerts.overdue", actor="system", target=alert.id, origin=to.channel, detail=detail
            )
        return len(fresh)

    def _late(self, tenant: str, level: Level) -> list[sa.ColumnElement[bool]]:
        before = self._clock.now() - self._attention.limit(level)
        return [
            ALERT.c.tenant == tenant,
            ALERT.c.state == str(AlertState.NEW),
            ALERT.c.created_time < before,
            ALERT.c.severity_id == level.severity_id,
        ]
