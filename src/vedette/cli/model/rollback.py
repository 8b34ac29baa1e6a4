"""Take the last change of the model, the payment rules or the features back."""

from __future__ import annotations

import getpass
from typing import Annotated

import msgspec
import typer

from vedette.cli._settings import settings_of
from vedette.cli.model import _options
from vedette.cli.model.ship import tell
from vedette.core.clock import SystemClock
from vedette.core.render import printable
from vedette.run.parts import Parts
from vedette.run.payments.trials import Part

EXAMPLES = """Examples:

  vedette model rollback --note "blocks a merchant's regulars"

  vedette model rollback rules

Again, it takes back the change before. The running installation follows within seconds, without a restart.

Exit codes: 0 done; 2 nothing of it was ever shipped, or all its changes are taken back."""


def register(group: typer.Typer) -> None:
    """Adds the verb."""
    group.command(name="rollback", epilog=EXAMPLES)(run)


def run(
    part: Annotated[Part, typer.Argument(help="What goes back.")] = Part.MODEL,
    *,
    note: Annotated[str, typer.Option(help="Why; kept with the change.")] = "",
    by: Annotated[str, typer.Option(help="Who does it; the system's user by default.")] = "",
    home: _options.Home = None,
    as_json: _options.Json = False,
) -> None:
    """Take a part's last change back."""
    with Parts(settings_of(home), clock=SystemClock()) as parts:
        standing = parts.scoring_shipments.rollback(part, operator=by or getpass.getuser(), note=note)
        tell(parts, "model.rollback", standing, standing.live)
    if as_json:
        typer.echo(msgspec.json.encode(standing).decode())
    else:
        version = standing.live[:12] or "what the installation began with"
        typer.echo(printable(f"{part}: change {standing.seq}, {standing.stage}, live is {version}"))
