"""Back up an installation while it runs, verify a backup, restore it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from vedette.cli._progress import progress
from vedette.cli._settings import settings_of
from vedette.core.clock import SystemClock, to_iso
from vedette.run.backup import Manifest, restore_backup, take_backup, verify_backup

MAKE_EXAMPLES = """Examples:

  vedette backup make /backups/2026-11-22

  vedette backup make /backups/2026-11-22 --home /var/lib/vedette --json

The copy is of one moment, though the server goes on; what VEDETTE_DATABASE_URL names is in it, by `pg_dump`, and so are
the keys/ and secrets/ of VEDETTE_SHARED. It holds signing keys: keep it as safe as the installation."""

VERIFY_EXAMPLES = """Example:

  vedette backup verify /backups/2026-11-22      # every file unchanged, every database whole"""

RESTORE_EXAMPLES = """Examples:

  vedette backup restore /backups/2026-11-22 --home /var/lib/vedette

  VEDETTE_DATABASE_URL=postgresql://127.0.0.1/empty vedette backup restore /backups/2026-11-22 --home /var/lib/vedette

  vedette ledger check --home /var/lib/vedette && vedette audit verify --home /var/lib/vedette     # then serve it

What services shared is in the folder shared of the new home: let VEDETTE_SHARED name it, or copy it to where they all
look."""

Folder = Annotated[Path, typer.Argument(metavar="BACKUP", help="Folder of the backup.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    verb = typer.Typer(name="backup", no_args_is_help=True, help=__doc__, epilog=MAKE_EXAMPLES)
    verb.command("make", epilog=MAKE_EXAMPLES)(make)
    verb.command("verify", epilog=VERIFY_EXAMPLES)(verify)
    verb.command("restore", epilog=RESTORE_EXAMPLES)(restore)
    app.add_typer(verb)


def make(
    target: Folder,
    *,
    home: Annotated[Path, typer.Option(envvar="VEDETTE_HOME", help="Folder of the product's data.")] = Path(".vedette"),
    as_json: AsJson = False,
) -> None:
    """Copy an installation as it is at one moment."""
    with progress() as tell:
        settings = settings_of(home)
        url, shared = settings.database_url, settings.shared
        manifest = take_backup(home, target, SystemClock(), tell, database_url=url, shared=shared)
    _show(manifest, as_json=as_json)


def verify(backup: Folder, *, as_json: AsJson = False) -> None:
    """Check that a backup is whole and unchanged."""
    with progress() as tell:
        manifest = verify_backup(backup, tell)
    _show(manifest, as_json=as_json)


def restore(
    backup: Folder,
    *,
    home: Annotated[Path, typer.Option(help="A new folder for the product's data.")],
    as_json: AsJson = False,
) -> None:
    """Verify a backup and put it into a new home folder."""
    with progress() as tell:
        manifest = restore_backup(backup, home, tell, database_url=settings_of(home).database_url)
    _show(manifest, as_json=as_json)


def _show(manifest: Manifest, *, as_json: bool) -> None:
    size = sum(entry.size for entry in manifest.files)
    if as_json:
        shape = {"taken": to_iso(manifest.taken), "files": len(manifest.files), "bytes": size}
        typer.echo(msgspec.json.encode(shape | {"databases": manifest.databases}).decode())
        return
    typer.echo(
        f"{to_iso(manifest.taken)[:19]}Z  {len(manifest.files)} files, {len(manifest.databases)} databases, "
        f"{size / 1e6:,.1f} MB"
    )
