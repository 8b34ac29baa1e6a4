"""Take a shipped rule's last change back."""

from __future__ import annotations

import getpass
from typing import Annotated

import msgspec
import typer

from vedette.cli._settings import settings_of
from vedette.cli.rules import _sets
from vedette.cli.rules.ship import tell
from vedette.core.clock import SystemClock
from vedette.core.render import printable
from vedette.judge.shipments import Standing
from vedette.run.parts import Parts

EXAMPLES = """Examples:

  vedette rules rollback 2f4c9a3b-7c1e-4a57-8d6b-3b8f0c9d1e44 --note "alerts on every deploy"

  vedette rules rollback 2f4c9a3b-7c1e-4a57-8d6b-3b8f0c9d1e44 --off     # nothing of it runs any more

Again, it takes back the change before. All rules of a file go together. The running installation follows in seconds.

Exit codes: 0 done; 2 the rule was never shipped, or all its changes are taken back."""


def register(group: typer.Typer) -> None:
    """Adds the verb."""
    group.command(name="rollback", epilog=EXAMPLES)(run)


def run(
    rule: Annotated[str, typer.Argument(help="Id of the rule.")],
    *,
    home: _sets.Home = None,
    off: Annotated[bool, typer.Option("--off", help="Take the rule out of service instead.")] = False,
    note: Annotated[str, typer.Option(help="Why; kept with the change.")] = "",
    by: Annotated[str, typer.Option(help="Who does it; the system's user by default.")] = "",
    as_json: _sets.AsJson = False,
) -> None:
    """Put a rule back to what stood before its last change."""
    operator = by or getpass.getuser()
    with Parts(settings_of(home), clock=SystemClock()) as parts:
        act = parts.shipments.switch_off if off else parts.shipments.rollback
        standing = act(rule, operator=operator, note=note)
        tell(parts, "rules.off" if off else "rules.rollback", standing, standing.trial or standing.live)
    if as_json:
        typer.echo(msgspec.json.encode({**msgspec.structs.asdict(standing), "stage": standing.stage}).decode())
    else:
        typer.echo(printable(f"{standing.unit}: {what_runs(standing)}, change {standing.seq}"))


def what_runs(standing: Standing) -> str:
    """A standing in words."""
    live = {"": "the pipeline's own folder", "off": "nothing"}.get(standing.live, f"version {standing.live[:12]}")
    if not standing.trial:
        return f"{standing.stage}, {live}"
    share = f"{standing.percent} % of the entities" if standing.percent else "the shadow"
    return f"{standing.stage}, version {standing.trial[:12]} for {share}, else {live}"
