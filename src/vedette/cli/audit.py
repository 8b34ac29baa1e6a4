"""Verify the evidence, anchor it, and export it with its proofs."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress

from vedette.cli._settings import environment
from vedette.core.clock import SystemClock
from vedette.core.db import Database, open_database
from vedette.core.errors import DefinitionError
from vedette.core.log import SqliteLog
from vedette.core.render import printable
from vedette.core.settings import load_settings
from vedette.prove.evidence import ORIGIN, Collector, Evidence, FileAnchor, Finding, Report, verify
from vedette.prove.evidence.bundle import Choice, to_bundle
from vedette.prove.evidence.collect import from_log
from vedette.prove.keys import KeyRing
from vedette.prove.verifier import Invalid, VerifierKey, parse_key

VERIFY_EXAMPLES = """Examples:

  vedette audit verify

  vedette audit verify --home /srv/vedette --anchor /mnt/witness/vedette --json

Exit codes: 0 nothing was found; 1 something was changed; 2 it could not be read."""

CHECKPOINT_EXAMPLES = """Example:

  vedette audit checkpoint --anchor /mnt/witness/vedette"""

BUNDLE_EXAMPLES = """Examples:

  vedette audit bundle --out april.bundle --tenant acme

  vedette audit bundle --out one.bundle --id decision/0/17 --verifier verifier.py

  python verifier.py one.bundle --key KEY       # on any machine with Python and `cryptography`"""

Home = Annotated[Path, typer.Option(envvar="VEDETTE_HOME", help="Folder of the product's data.")]
Anchor = Annotated[Path | None, typer.Option(help="Folder of the anchor; `anchor` under home by default.")]
Url = Annotated[str, typer.Option("--database", envvar="VEDETTE_DATABASE_URL", help="PostgreSQL instead of state.db.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    verb = typer.Typer(name="audit", no_args_is_help=True, help=__doc__, epilog=VERIFY_EXAMPLES)
    verb.command("verify", epilog=VERIFY_EXAMPLES)(verify_evidence)
    verb.command("checkpoint", epilog=CHECKPOINT_EXAMPLES)(checkpoint)
    verb.command("bundle", epilog=BUNDLE_EXAMPLES)(bundle)
    app.add_typer(verb)


def verify_evidence(
    *,
    home: Home = Path(".vedette"),
    url: Url = "",
    anchor: Anchor = None,
    key: Annotated[
        list[str] | None, typer.Option(help="Trust only this verifier key (the anchor's by default).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find and place what was edited, deleted, reordered, inserted or cut off."""
    folder = anchor or home / "anchor"
    if anchor is not None and not anchor.is_dir():
        raise DefinitionError(
            "audit.anchor.missing", "no such anchor", hint="leave --anchor out if there is none", at=str(anchor)
        )
    database = _open(home, url)
    with _log(home) as log, Progress(console=Console(stderr=True), transient=True, disable=as_json) as bar:
        task = bar.add_task("records", total=None)
        report = verify(
            database,
            FileAnchor(folder) if folder.is_dir() else None,
            trusted=_keys(key) if key else None,
            content=from_log(log),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    database.close()
    typer.echo(msgspec.json.encode(report.to_json()).decode() if as_json else to_text(report))
    if report.findings:
        raise typer.Exit(1)


def checkpoint(*, home: Home = Path(".vedette"), url: Url = "", anchor: Anchor = None, as_json: AsJson = False) -> None:
    """Take what is new in the log into the tree, sign its head and give it to the anchor."""
    database, clock = open_database(url or home / "state.db", schema=_schema()), SystemClock()
    signer = KeyRing(home / "keys", "evidence", ORIGIN).signer()
    evidence = Evidence(database, signer, FileAnchor(anchor or home / "anchor"), clock)
    with _log(home) as log:
        collector = Collector(evidence, log, clock)
        taken = 0
        while found := collector.collect():
            taken += found
    head = evidence.checkpoint()
    database.close()
    shape = {"taken": taken, "size": head.size, "root": head.root.hex(), "key": str(signer.verifier)}
    text = f"{taken} new records; {head.size} in the tree, root {head.root.hex()}\nkey {signer.verifier}"
    typer.echo(msgspec.json.encode(shape).decode() if as_json else text)


def bundle(
    *,
    out: Annotated[Path, typer.Option(help="File to write.")],
    home: Home = Path(".vedette"),
    url: Url = "",
    anchor: Anchor = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's records.")] = None,
    first: Annotated[int, typer.Option(min=0, help="Lowest index.")] = 0,
    last: Annotated[int | None, typer.Option(min=0, help="Highest index.")] = None,
    record: Annotated[str | None, typer.Option("--id", help="One record.")] = None,
    content: Annotated[bool, typer.Option(help="Put the content of records in.")] = True,
    verifier: Annotated[Path | None, typer.Option(help="Also write the program that verifies bundles.")] = None,
) -> None:
    """Export records with their proofs, for somebody who has no access here."""
    database, lines = _open(home, url), 0
    with _log(home) as log:
        find = from_log(log) if content else None
        choice = Choice(tenant=tenant, first=first, last=last, id=record)
        parts = to_bundle(database, FileAnchor(anchor or home / "anchor"), choice, content=find)
        header = next(parts)
        with out.open("wb") as file:
            file.write(header)
            for line in parts:
                file.write(line)
                lines += 1
    database.close()
    if verifier is not None:
        verifier.write_bytes(files("vedette.prove").joinpath("verifier.py").read_bytes())
    typer.echo(f"{lines} records in {printable(str(out))}")


def to_text(report: Report) -> str:
    """The report for people."""
    lines = [f"{report.state}: {report.size} records, {report.contents} contents compared, {report.erased} erased"]
    if report.anchor:
        lines.append(f"anchor: {report.checkpoints} checkpoints, the newest over {report.anchored} records")
    else:
        lines.append("no anchor: a rewrite of the whole database cannot be found out")
    if report.unanchored:
        lines.append(f"unanchored tail: {report.unanchored} records from index {report.anchored}")
    lines += [_line(finding) for finding in report.findings]
    if report.more_findings:
        lines.append(f"and {report.more_findings} more")
    return "\n".join(lines)


def _line(finding: Finding) -> str:
    place = f"{finding.first}" if finding.end == finding.first else f"{finding.first} to {finding.end}"
    parts = [f"{finding.damage} at {place}", finding.id, finding.detail]
    return "  " + printable(": ".join(part for part in parts if part))


def _open(home: Path, url: str) -> Database:
    path = home / "state.db"
    if url:
        return open_database(url, schema=_schema())
    if not path.is_file():
        raise DefinitionError("audit.home.empty", "no state.db here", hint="name the folder with --home", at=str(path))
    return open_database(path)


def _schema() -> str:
    """Where the evidence of this service is, if it is one of several."""
    return load_settings(None, environment()).following_schema


def _log(home: Path) -> SqliteLog:
    return SqliteLog(home / "log", SystemClock())


def _keys(texts: list[str]) -> list[VerifierKey]:
    try:
        return [parse_key(text) for text in texts]
    except Invalid as error:
        raise DefinitionError(
            "audit.key.invalid", str(error), hint="paste the line that `checkpoint` prints"
        ) from error
