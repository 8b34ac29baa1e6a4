"""Evidence of a case: keep a file, show the chain of custody, hand it over, and give it out with its proofs."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from vedette.act.cases.custody import MAX_ITEM
from vedette.cli._response import AsJson, Config, Home, Opened, Tenant, line, show_json
from vedette.core.clock import to_iso
from vedette.core.errors import DataError
from vedette.run.cases.exporting import export_case

COLLECT_EXAMPLES = """Example:

  vedette case collect cs_5f0c... shell.log --how "copied from the host" --by ana"""

CUSTODY_EXAMPLES = """Example:

  vedette case custody cs_5f0c..."""

EXPORT_EXAMPLES = """Examples:

  vedette case export cs_5f0c... --to "the auditor" --by ana --out case.bundle --verifier verifier.py

  python verifier.py case.bundle --key KEY       # on any machine with Python and `cryptography`"""

WAIVE_EXAMPLES = """Example:

  vedette case waive cs_5f0c... --by ana --reason "money leaves every minute" --action freeze_payouts"""

Case = Annotated[str, typer.Argument(metavar="CASE", help="Id of the case.")]
By = Annotated[str, typer.Option("--by", help="Your name: who does it.")]


def register(group: typer.Typer) -> None:
    """Adds the verbs."""
    group.command("collect", epilog=COLLECT_EXAMPLES)(collect)
    group.command("custody", epilog=CUSTODY_EXAMPLES)(custody)
    group.command("export", epilog=EXPORT_EXAMPLES)(export)
    group.command("waive", epilog=WAIVE_EXAMPLES)(waive)


def collect(
    case: Case,
    file: Annotated[Path, typer.Argument(help="What to keep.")],
    *,
    by: By,
    how: Annotated[str, typer.Option(help="By what means it was taken.")],
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Keep a file as evidence: hashed, under the evidence tree, with a link of custody."""
    if not file.is_file() or file.stat().st_size > MAX_ITEM:
        raise DataError("cases.evidence.size", f"this is no file of at most {MAX_ITEM} bytes", at=str(file))
    with Opened(home, tenant, config) as parts:
        made = parts.custody.collect(
            parts.tenant, case, name=file.name, content=file.read_bytes(), how=how, operator=by
        )
    if as_json:
        show_json(made)
    else:
        line(f"link {made.number}: {made.name} sha256:{made.item}")


def custody(
    case: Case, *, tenant: Tenant = "", home: Home = None, config: Config = None, as_json: AsJson = False
) -> None:
    """Show who took, handed over and gave out what, when and how."""
    with Opened(home, tenant, config) as parts:
        links = parts.custody.links(parts.tenant, case)
    if as_json:
        show_json(links)
        return
    for link in links:
        about = f"{link.name} sha256:{link.item}" if link.item else f"to {link.to}"
        line(f"{link.number:>4} {to_iso(link.time)} {link.who}: {link.act} {about} ({link.how})")
    if not links:
        line("no evidence")


def export(
    case: Case,
    *,
    by: By,
    to: Annotated[str, typer.Option(help="Who gets it, or for what.")],
    out: Annotated[Path, typer.Option(help="File to write.")],
    verifier: Annotated[Path | None, typer.Option(help="Also write the program that verifies bundles.")] = None,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
) -> None:
    """Give out the evidence with its chain and proofs, for somebody who has no access here."""
    count = -1
    with Opened(home, tenant, config) as parts, out.open("wb") as file:
        for text in export_case(parts, parts.tenant, case, to=to, operator=by):
            file.write(text)
            count += 1
        key = parts.evidence.key
    if verifier is not None:
        verifier.write_bytes(files("vedette.prove").joinpath("verifier.py").read_bytes())
    line(f"{count} records in {out}")
    line(f"key {key}")


def waive(
    case: Case,
    *,
    by: By,
    reason: Annotated[str, typer.Option(help="Why evidence is given up, in a sentence.")],
    action: Annotated[str, typer.Option(help="One action; empty: all of this case.")] = "",
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
) -> None:
    """Let containment go before evidence, in your name."""
    with Opened(home, tenant, config) as parts:
        parts.preservation.waive(parts.tenant, case, operator=by, reason=reason, action=action)
    line(f"{case}: {action or 'every containment'} may go before evidence, says {by}")
