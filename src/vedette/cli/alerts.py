"""List alerts: what is wrong, about whom, how bad, since when."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from vedette.act.grouping import Alert, AlertState
from vedette.cli._response import AsJson, Config, Home, Opened, Tenant, line, show_json, span
from vedette.core.clock import to_iso
from vedette.core.errors import DataError
from vedette.core.event import Entity
from vedette.core.render import printable

EXAMPLES = """Examples:

  vedette alerts

  vedette alerts --state new --entity key:vk_17

  vedette alerts al_5f0c... --json           # one alert with its signals

  vedette alerts al_5f0c... --set resolved"""


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(name="alerts", epilog=EXAMPLES)(alerts)


def alerts(
    alert: Annotated[str, typer.Argument(metavar="[ALERT]", help="Id of one alert.")] = "",
    *,
    state: Annotated[list[AlertState] | None, typer.Option(help="Only these states; repeat it.")] = None,
    entity: Annotated[str, typer.Option(help="Only about this entity, TYPE:ID.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="At most so many.")] = 50,
    verdict: Annotated[AlertState | None, typer.Option("--set", help="Give one alert this state.")] = None,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List alerts: what is wrong, about whom, how bad, since when."""
    with Opened(home, tenant, config) as parts:
        if alert:
            _one(parts, alert, verdict, as_json=as_json)
            return
        if verdict:
            raise DataError("alerts.alert.missing", "name the alert whose state is to be set")
        found = parts.alerts.find(parts.tenant, states=state or (), entity=_entity(entity), limit=limit)
        now = parts.clock.now()
        risks = {e.key: parts.alerts.risk(parts.tenant, e, now) for e in {a.entity for a in found} if e is not None}
        shapes = [_shape(each, risks, now) for each in found]
    if as_json:
        show_json(shapes)
    else:
        _table(shapes)


def _entity(text: str) -> Entity | None:
    kind, colon, name = text.partition(":")
    if text and not (kind and colon and name):
        raise DataError("alerts.entity.invalid", "an entity is written TYPE:ID", hint="such as key:vk_17")
    return Entity(kind, name) if text else None


def _shape(alert: Alert, risks: dict[str, float], now: int) -> dict[str, object]:
    return {
        "id": alert.id,
        "state": alert.state,
        "level": alert.level,
        "severity_id": alert.severity_id,
        "title": alert.title,
        "entity": alert.entity.key if alert.entity else None,
        "risk": risks.get(alert.entity.key, 0.0) if alert.entity else None,
        "signals": alert.signal_count,
        "rule_id": alert.rule_id,
        "first_time": to_iso(alert.first_time),
        "last_time": to_iso(alert.last_time),
        "age_s": alert.age(now) // 1_000_000,
        "fallbacks": list(alert.fallbacks),
    }


def _table(shapes: list[dict[str, object]]) -> None:
    table = Table(
        Column("alert", no_wrap=True, min_width=29),
        "level",
        "state",
        "title",
        "entity",
        "risk",
        "signals",
        "age",
        box=None,
        pad_edge=False,
    )
    for shape in shapes:
        age = span(int(str(shape["age_s"])) * 1_000_000)
        names = ("id", "level", "state", "title", "entity", "risk", "signals")
        table.add_row(*(escape(printable(str("-" if shape[name] is None else shape[name]))) for name in names), age)
    Console().print(table if shapes else "no alerts")


def _set(parts: Opened, alert_id: str, state: AlertState) -> Alert:
    parts.triage.change(parts.tenant, [alert_id], operator="cli", state=state)
    return parts.alerts.get(parts.tenant, alert_id)


def _one(parts: Opened, alert_id: str, verdict: AlertState | None, *, as_json: bool) -> None:
    alert = parts.alerts.get(parts.tenant, alert_id)
    if verdict:
        alert = _set(parts, alert_id, verdict)
    now = parts.clock.now()
    risks = {entity.key: parts.alerts.risk(parts.tenant, entity, now) for entity in alert.entities}
    signals = parts.alerts.signals(parts.tenant, alert_id)
    case = parts.cases.of_alert(parts.tenant, alert_id)
    if as_json:
        show_json({**_shape(alert, risks, now), "case": case, "risks": risks, "why": alert.why, "members": signals})
        return
    line(f"{alert.id}  {alert.level}  {alert.state}  {alert.title}")
    line(f"rule {alert.rule_id}, {alert.signal_count} signals, {to_iso(alert.first_time)} to {to_iso(alert.last_time)}")
    for entity in alert.entities:
        line(f"  {entity.key}  risk {risks[entity.key]}")
    for name, value in alert.why.items():
        line(f"  because {name} = {value}")
    for code in alert.fallbacks:
        line(f"  fallback {code}")
    if case:
        line(f"case {case}")
