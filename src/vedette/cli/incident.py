"""Play a known incident into an installation: raw log records and payments in, alerts and one case out."""

from __future__ import annotations

import textwrap
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console

from vedette.cli._response import AsJson, Config, Home, Tenant, line, show_json
from vedette.cli._settings import environment, settings_of
from vedette.core.clock import SystemClock
from vedette.core.content import shipped
from vedette.core.money import Money
from vedette.run.cases.casefile import open_group, read_case
from vedette.run.cases.incidents import Inside, Played, Story, load_story, play, stories, with_names
from vedette.run.payments.scoring import load_scoring
from vedette.run.pipeline.detection import load_detection
from vedette.run.platform import Platform

EXAMPLES = """Examples:

  vedette incident list

  vedette incident play card_testing --home try

  vedette case list --home try                # the case that it became; `vedette case report` tells it

Its records and payments go in as any others do, with the shipped rules. Play it where no server runs on the same home,
and into a home of its own: what is played is kept like what is real. Exit code 1 of `play`: no alert was raised."""

NOTHING = 1
RULES = shipped("rules/payment") / "charges.yaml"
PLAYER = "incident"
"""Who opens the case."""


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    verb = typer.Typer(name="incident", no_args_is_help=True, help=__doc__, epilog=EXAMPLES)
    verb.command("list", epilog=EXAMPLES)(list_stories)
    verb.command("play", epilog=EXAMPLES)(play_story)
    app.add_typer(verb)


def list_stories(*, as_json: AsJson = False) -> None:
    """The incidents that can be played."""
    known = stories().values()
    if as_json:
        show_json([{"id": story.id, "title": story.title, "told": story.told} for story in known])
        return
    for story in known:
        line(f"{story.id:<24} {story.title}")


def play_story(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    *,
    home: Home = None,
    tenant: Tenant = "",
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Play one now, and open the case that it becomes."""
    story = load_story(name)
    settings = settings_of(home, config)
    owner = tenant or settings.tenant
    told = Console(stderr=True)
    with told.status("loading the shipped rules") as status:
        scoring, detection = load_scoring(None, RULES), load_detection([shipped("rules/sigma")])
        with Platform(
            settings, clock=SystemClock(), scoring=scoring, detection=detection, environ=environment()
        ) as platform:
            status.update(f"playing {story.title.lower()}")
            before = _raised(platform, owner)
            played = play(story, Inside(platform, owner), platform.sources, now=platform.clock.now())
            platform.drain()
            fresh = {alert for alert, _ in _raised(platform, owner) - before}
            shown = _outcome(platform, owner, story, played, fresh)
    if as_json:
        show_json(shown)
    else:
        _show(story, shown)
    if not shown["case"]:
        raise typer.Exit(NOTHING)


def _raised(platform: Platform, tenant: str) -> set[tuple[str, int]]:
    """Alerts with the number of their signals: what is new in a second look is new, or grew."""
    return {(alert.id, alert.signal_count) for alert in platform.alerts.find(tenant, limit=500)}


def _outcome(platform: Platform, tenant: str, story: Story, played: Played, fresh: set[str]) -> dict[str, Any]:
    """What became of it: the case of the first group that holds a fresh alert, and the alert to answer it from."""
    group = next((one for one in platform.merging.groups(tenant) if fresh & set(one.alerts)), None)
    sent = {"story": story.id, "play": played.play, "records": played.records, "payments": len(played.payments)}
    if group is None:
        return {**sent, "case": ""}
    case = open_group(platform, tenant, group.id, operator=PLAYER)
    file = read_case(platform, tenant, case.id)
    lead = next((alert for alert in file.alerts if alert.entity and alert.entity.type == story.answer.about), None)
    return {
        **sent,
        "case": case.id,
        "alerts": [
            {"id": alert.id, "title": alert.title, "about": alert.entity.key if alert.entity else ""}
            for alert in file.alerts
        ],
        "tactics": file.tactics,
        "techniques": file.stages,
        "gaps": file.gaps,
        "money": [msgspec.to_builtins(each) for each in file.money],
        "playbook": story.answer.playbook,
        "alert": lead.id if lead else "",
        "inputs": with_names(story.answer.inputs, played.play, played.keys),
    }


def _show(story: Story, shown: dict[str, Any]) -> None:
    line(story.title)
    for part in textwrap.wrap(" ".join(story.told.split()), 100):
        line(f"  {part}")
    records = ", ".join(f"{count} {source}" for source, count in shown["records"].items()) or "no log records"
    line(f"sent       {records}; {shown['payments']} payments")
    if not shown["case"]:
        line("no alert was raised")
        return
    line(f"case       {shown['case']}")
    for alert in shown["alerts"]:
        line(f"  {alert['title']}  {alert['about']}")
    line(f"course     {', '.join(shown['tactics'])}")
    line(f"           {' '.join(name.removeprefix('attack.').upper() for name in shown['techniques'])}")
    line(f"unseen     {', '.join(shown['gaps']) or 'nothing between'}")
    for money in shown["money"]:
        parts = (f"{_amount(money, name)} {name}" for name in ("attempted", "stopped", "moved", "returned"))
        line(f"money      {', '.join(parts)}, {money['payments']} payments")
    given = " ".join(f"--input {name}={value}" for name, value in shown["inputs"].items())
    line(f"answer     vedette playbook run {shown['playbook']} --alert {shown['alert']} --by NAME {given}")
    line(f"report     vedette case report {shown['case']} --kind brief")


def _amount(money: dict[str, Any], name: str) -> str:
    return str(Money(money[name], money["currency"]))
