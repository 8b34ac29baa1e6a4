"""What a key, an app or a person could reach and did reach, and what breaks when it is ended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from vedette.cli._response import AsJson, Config, Home, Opened, Tenant, line, show_json
from vedette.core.clock import to_iso
from vedette.core.event import Entity
from vedette.core.money import Money
from vedette.run.cases.playbooks import load_playbooks
from vedette.run.investigation.reaching import Reach, read_reach
from vedette.serve.policy import policies
from vedette.serve.routes import ROUTERS
from vedette.serve.routes.entities import routes_in

EXAMPLES = """Examples:

  vedette reach key_01jd...                  # what it could, what it did, what breaks when it is revoked

  vedette reach AKIA2X...                    # a key of a cloud: what its events say it did

  vedette reach app:app_01jd... --json"""


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command("reach", epilog=EXAMPLES)(reach)


def reach(
    entity: Annotated[str, typer.Argument(metavar="KEY", help="Its id, or `type:id`. Never a secret.")],
    *,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Show what a key, an app or a person could reach, did reach, and would break. Changes nothing."""
    kind, named, name = entity.partition(":")
    about = Entity(kind, name) if named else Entity("key", entity)
    with Opened(home, tenant, config) as parts:
        books = load_playbooks(parts.settings.home / "playbooks", parts.signatures)
        table = {place: policy for router in ROUTERS for place, policy in policies(router.routes).items()}
        found = read_reach(parts, parts.tenant, about, routes_in(table), books)
    if as_json:
        show_json(found)
        return
    for text in _told(found):
        line(text)


def _told(found: Reach) -> Iterator[str]:
    could, did = found.could, found.did
    if could:
        where = ", ".join(could.merchants) or "every merchant"
        yield f"{found.entity}  {could.state}  {could.mode}  {could.name}".rstrip()
        yield f"could  {', '.join(could.holds) or 'nothing'}: {len(could.routes)} routes, of {where}"
        for lent in could.accounts:
            yield f"  acts for {lent.account} until {to_iso(lent.expires)}: {lent.scopes}"
        yield f"did    {did.requests} requests" + (f" since {to_iso(did.since)}" if did.since else "")
    else:
        yield f"{found.entity}  what it could do is known to its own system"
        yield f"did    {did.events} events"
    for each in (*did.actions, *did.operations):
        refused = f", {each.refused} refused" if each.refused else ""
        yield f"  {each.name}  {each.count}{refused}, last {to_iso(each.last)}"
    for paid in did.payments:
        yield f"  {paid.payments} payments of {paid.merchant or 'nobody'}, {Money(paid.amount_minor, paid.currency)}"
    yield f"breaks {len(found.breaks)} of the last seven days" + (":" if found.breaks else "")
    for broken in found.breaks:
        yield f"  {broken.what}  {broken.count}, last {to_iso(broken.last)}"
    for other in found.instead:
        yield f"  {other} may do the same"
    yield f"end it {' or '.join([*filter(None, [found.ends.route]), *found.ends.playbooks]) or 'where it belongs'}"
