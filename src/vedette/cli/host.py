"""The process tree and timeline of a host, from stored Sysmon, Security and osquery events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vedette.cli._response import AsJson, Config, Home, Opened, Tenant, line, show_json
from vedette.core.clock import to_iso
from vedette.core.render import printable
from vedette.sense.times import TimeFormat, parse_time

if TYPE_CHECKING:
    from vedette.sense.processes import Node, Tree

EXAMPLES = """Examples:

  vedette host WORKSTATION5.example              # the last day that it told of

  vedette host WORKSTATION5.example --from 2026-03-02T10:00 --to 2026-03-02T11:00 --timeline

  vedette host WORKSTATION5.example --case ca_17 --by ana     # keeps it in the case as evidence

`?` stands before a process that others name and no record of its own tells of, `!` before one with an alert."""

_SHORT = 160
_TOLD = ("network", "dns", "file", "inject")
_MORE = 6
"""What a process did, line by line under it."""


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(name="host", epilog=EXAMPLES)(host)


def host(
    name: Annotated[str, typer.Argument(metavar="HOST", help="As its events write it.")],
    *,
    start: Annotated[str, typer.Option("--from", metavar="TIME", help="First event time, ISO 8601.")] = "",
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="Event time to stop before.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=5_000, help="Most processes.")] = 400,
    timeline: Annotated[bool, typer.Option("--timeline", help="In order of time, not as a tree.")] = False,
    case: Annotated[str, typer.Option(help="Keep it in this case as evidence.")] = "",
    by: Annotated[str, typer.Option(help="Who keeps it.")] = "cli",
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Show the processes of a host: parents, command lines, connections, files, alerts, and what was never seen."""
    from vedette.run.investigation.hosts import keep_host, read_host
    from vedette.sense.history import Span
    from vedette.sense.store import Store

    if bool(start) != bool(end):
        raise typer.BadParameter("give `--from` and `--to` together")
    span = Span(*(parse_time(text, TimeFormat.ISO) for text in (start, end))) if start else None
    with Opened(home, tenant, config) as parts:
        store = Store(parts.settings.store_folder)
        tree = read_host(store, parts.alerts, parts.tenant, name, span, limit=limit)
        link = keep_host(parts, store, parts.tenant, case, tree, operator=by) if case else None
    if as_json:
        show_json({"tree": tree, "evidence": link})
        return
    _show_timeline(tree) if timeline else _show_tree(tree)
    if link:
        line(f"kept in {case}: sha256:{link.item}")


def _show_tree(tree: Tree) -> None:
    for node in tree.nodes:
        pad = "  " * node.depth
        mark = "!" if node.alerts else " " if node.seen else "?"
        when = to_iso(node.start)[:19] if node.start else "before" if node.seen else "never seen"
        ended = f" to {to_iso(node.end)[11:19]}" if node.end else ""
        line(f"{mark} {pad}{_name(node)} ({node.pid}) {when}{ended} {_short(node.command)}".rstrip())
        for alert in node.alerts:
            line(f"  {pad}  alert {alert.level}: {printable(alert.title)}")
        told = [deed for deed in node.deeds if deed.what in _TOLD][:_MORE]
        for deed in told:
            line(f"  {pad}  {deed.what} {_short(deed.target)}")
        if sum(node.counts.values()) > len(told):
            line(f"  {pad}  in all {', '.join(f'{count:,} {what}' for what, count in node.counts.items())}")
        if node.children_left_out:
            line(f"  {pad}  {node.children_left_out:,} of {node.children:,} children left out")
    _show_sums(tree)


def _show_timeline(tree: Tree) -> None:
    from vedette.sense.processes import Deed, timeline

    for time, kind, node, what in timeline(tree):
        told = node.command if what is None else what.target if isinstance(what, Deed) else what.title
        line(f"{to_iso(time)} {kind:<8} {_name(node)} ({node.pid}) {_short(told)}".rstrip())
    _show_sums(tree)


def _show_sums(tree: Tree) -> None:
    line(
        f"{tree.processes:,} processes from {to_iso(tree.start)} to {to_iso(tree.end)}; {tree.unseen:,} never seen, "
        f"{tree.orphans:,} orphans; left out {tree.left_out:,} processes, {tree.unread:,} events; "
        f"{len(tree.unplaced):,} alerts on no process"
    )


def _name(node: Node) -> str:
    return printable(node.image.replace("\\", "/").rpartition("/")[2] or "unknown")


def _short(text: str) -> str:
    clean = printable(text)
    return clean if len(clean) <= _SHORT else f"{clean[:_SHORT]}…"
