"""Follow other servers' collections; hunt in the past for what is known now; how we stand against an actor."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from vedette.cli._progress import progress
from vedette.cli._response import Config, Opened, Tenant
from vedette.cli.intel.attack import tell
from vedette.cli.intel.indicators import AsJson, Home, every
from vedette.core.clock import DAY, seconds_of
from vedette.core.errors import DataError, NotFoundError
from vedette.core.render import printable
from vedette.judge.sigma.load import RuleSet
from vedette.run.intel.actors import find_actor, make_profile
from vedette.run.intel.hunting import DAYS, Hunt, shape_of
from vedette.run.intel.indicators import make_lookout
from vedette.run.intel.taxii import Polls
from vedette.run.pipeline.rollout import Rollout
from vedette.run.rules.coverage import TESTS, make_coverage
from vedette.run.rules.rule_tests import Tested
from vedette.run.rules.trend import Trend
from vedette.sense.history import Span
from vedette.sense.intel.asked import Asked
from vedette.sense.intel.bundle import need_attack
from vedette.sense.intel.indicator import Tlp
from vedette.sense.store import Store

EXAMPLES = """Examples:

  vedette intel follow partner https://taxii.example/api/collections/6c1a.../ --secret partner --every 1h

  vedette intel poll partner

  vedette intel hunt --value evil.example --days 90     # was it here before we knew?

  vedette intel hunt --collection partner --json

  vedette intel actor APT29

A hunt opens one case with all that it finds; the same hunt again finds the same case. A running server hunts by itself
for each indicator that arrives. The secret is `user:password`, or a token."""

HIT = 1
"""Exit code of a hunt that found something."""


def follow(
    name: Annotated[str, typer.Argument(help="Collection to put it in.")],
    url: Annotated[str, typer.Argument(help="Of a collection of a TAXII 2.1 server.")],
    *,
    secret: Annotated[str, typer.Option(metavar="NAME", help="Secret to log in with.")] = "",
    every_: Annotated[
        str, typer.Option("--every", metavar="SPAN", help="How often, such as `1h`; empty: by hand.")
    ] = "1h",
    tlp: Annotated[Tlp, typer.Option(help="Marking of what comes without one.")] = Tlp.AMBER,
    confidence: Annotated[int, typer.Option(min=0, max=100)] = 50,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Follow a collection of another server."""
    seconds = seconds_of(every_) if every_ else 0
    if seconds is None:
        raise DataError("intel.follow.every", f"no span of time: `{every_[:20]}`", hint="such as 10m, 1h, 1d")
    told = {"url": url, "secret": secret, "every": seconds, "tlp": tlp, "confidence": confidence}
    with Opened(home, tenant, config) as here:
        own = here.library.collection(here.tenant, name, **told)
    tell(msgspec.to_builtins(own), as_json=as_json)


def poll(
    name: Annotated[str, typer.Argument(help="Collection that follows another.")],
    *,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Take what is new in a collection that is followed, from where the last look ended."""
    with Opened(home, tenant, config) as here:
        own = here.library.find_collection(here.tenant, name)
        if not own.url:
            raise DataError("intel.follow.none", "this collection follows no other", at=name[:64])
        polls = Polls(here.library, here.egress, lambda each: here.secrets.resolve(each).reveal(), here.clock)
        turn = polls.poll(here.tenant, own)
    tell({"collection": name, "pages": turn.pages, **msgspec.to_builtins(turn.put)}, as_json=as_json)


def hunt(
    *,
    value: Annotated[str, typer.Option(help="Indicators that match this value.")] = "",
    collection: Annotated[str, typer.Option(metavar="NAME", help="Indicators of this collection.")] = "",
    days: Annotated[int, typer.Option(min=1, max=3_650, help="How far back.")] = DAYS,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Look for indicators in stored events; one case for all that is found. Exit code 1 when anything was."""
    with Opened(home, tenant, config) as here, progress() as bar:
        found = list(every(here.library, here.tenant, Asked(value=value, collection=collection, held=False)))
        if not found:
            raise NotFoundError(
                "intel.indicator.none", "no indicator that matches is known", at=(value or collection)[:80]
            )
        lookout = make_lookout(here.library, here.clock, here.sources)
        day = here.clock.now() // DAY
        done = Hunt(here, Store(here.settings.store_folder), lookout, bar).run(
            here.tenant, found, Span((day - days) * DAY, (day + 1) * DAY)
        )
    tell(shape_of(done), as_json=as_json)
    raise typer.Exit(HIT if done.hits else 0)


def actor(
    name: Annotated[str, typer.Argument(help="Id, name or alias of a group of ATT&CK.")],
    *,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """An actor's techniques, whether a rule that runs would tell of each, and the alerts there were; its indicators."""
    with Opened(home, tenant, config) as here:
        attack = need_attack(here.settings.home)
        group = find_actor(attack, name)
        edition = Rollout(None, here.shipments, here.clock, here.sources, here.cards).newest()
        rules = RuleSet(tuple(edition.rules.values()), (), tuple(edition.correlated.values()))
        held = Trend(here.state).of(here.tenant, TESTS)
        tested = msgspec.convert(held[-1][1]["tests"], list[Tested]) if held else []
        arriving = set(Store(here.settings.store_folder).names())
        coverage = make_coverage(rules, attack, arriving=arriving, tested=tested, degraded={}, untested=not tested)
        found = make_profile(
            attack,
            group,
            coverage,
            hits=lambda rule: here.alerts.count_of(here.tenant, rule),
            library=here.library,
            tenant=here.tenant,
        )
    shown = {**msgspec.to_builtins(found), "indicators": len(found.indicators)}
    if as_json:
        typer.echo(msgspec.json.encode(shown).decode())
        return
    table = Table("technique", "name", "state", "rules", "alerts")
    for row in found.techniques:
        table.add_row(row.technique, printable(row.name), str(row.state), str(len(row.rules)), str(row.hits))
    Console(markup=False, highlight=False, emoji=False).print(table)
    typer.echo(
        f"{found.id} {printable(found.name)}: {found.covered} of {len(found.techniques)} techniques covered, "
        f"{len(found.indicators)} indicators"
    )
