"""Threat intelligence: ATT&CK, indicators, warninglists, other servers' collections, and hunts for what is learned."""

from __future__ import annotations

import typer

from vedette.cli.intel import attack, hunting, indicators

EXAMPLES = f"""{indicators.EXAMPLES}

{hunting.EXAMPLES}

{attack.IMPORT_EXAMPLES}"""


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    verb = typer.Typer(name="intel", no_args_is_help=True, help=__doc__, epilog=EXAMPLES)
    importing = typer.Typer(name="import", no_args_is_help=True, help="Import knowledge into a home.", epilog=EXAMPLES)
    importing.command("attack", epilog=attack.IMPORT_EXAMPLES)(attack.import_attack)
    importing.command("indicators", epilog=indicators.EXAMPLES)(indicators.import_indicators)
    importing.command("warninglists", epilog=indicators.EXAMPLES)(indicators.import_warninglists)
    verb.add_typer(importing)
    verb.command("show", epilog=attack.SHOW_EXAMPLES)(attack.show)
    verb.command("find", epilog=indicators.EXAMPLES)(indicators.find)
    verb.command("export", epilog=indicators.EXAMPLES)(indicators.export)
    verb.command("collections", epilog=indicators.EXAMPLES)(indicators.collections)
    verb.command("follow", epilog=hunting.EXAMPLES)(hunting.follow)
    verb.command("poll", epilog=hunting.EXAMPLES)(hunting.poll)
    verb.command("hunt", epilog=hunting.EXAMPLES)(hunting.hunt)
    verb.command("actor", epilog=hunting.EXAMPLES)(hunting.actor)
    verb.command("refused", epilog=indicators.EXAMPLES)(indicators.refused)
    app.add_typer(verb)
