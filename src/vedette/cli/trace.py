"""Follow one request through every room: charge, decision, ledger, webhooks, signals, alert, case, runs, audit."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from vedette.cli._response import AsJson, Config, Home, Opened, Tenant, line, show_json
from vedette.core.clock import MICROS, to_iso
from vedette.core.decision import Decision
from vedette.core.errors import NotFoundError
from vedette.core.render import printable
from vedette.judge.decisions.recorded import find_recorded
from vedette.run.investigation.tracing import Trace, follow

EXAMPLES = """Examples:

  vedette trace ch_5f0c...                     # a charge: what it was decided by, what moved, who was told

  vedette trace al_41bc... --json | jq .hops   # an alert, and what people did about it"""


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(name="trace", epilog=EXAMPLES)(trace)


def trace(
    name: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="Of a charge, refund, dispute, transfer, webhook, decided event, alert or case."
        ),
    ],
    *,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Follow one request through every room: charge, decision, ledger, webhooks, signals, alert, case, runs, audit."""
    with Opened(home, tenant, config) as parts:
        folder = parts.settings.home / "decisions"
        if not parts.settings.log_folder.is_dir():
            raise NotFoundError("trace.home.missing", f"`{parts.settings.home}` holds no log")

        def find(whose: str, event_id: str) -> Decision | None:
            return find_recorded(parts.log, folder / whose / "seen.db", whose, event_id)

        found = follow(parts, find, parts.tenant, name)
    if as_json:
        show_json(found)
    else:
        _show(found)


def _show(found: Trace) -> None:
    line(f"trace {found.trace_id}" if found.trace_id else f"{found.asked}: several events; trace one of them for more")
    table = Table(Column("after", justify="right", no_wrap=True), "what", Column("id"), "how", box=None, pad_edge=False)
    start = found.hops[0].time if found.hops else 0
    if found.hops:
        line(f"from {to_iso(start)}")
    for hop in found.hops:
        table.add_row(_after(hop.time - start), hop.kind, escape(printable(hop.id)), escape(printable(hop.text)))
    Console().print(table)


def _after(micros: int) -> str:
    return f"+{micros / 1000:.1f} ms" if micros < MICROS else f"+{micros / MICROS:.1f} s"
