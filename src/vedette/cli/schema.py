"""Show the JSON Schema of what other programs read from here, and whether a change would break them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from vedette.core.documents import load_json
from vedette.core.errors import DataError
from vedette.core.render import printable
from vedette.run.schemas import SHAPES, breaks, published, schema_of

EXAMPLES = """Examples:

  vedette schema                                  # the shapes there are

  vedette schema alert > alert.schema.json        # to write a program against

  vedette schema alert --against alert.schema.json  # after an update: can that program still read alerts?"""


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(name="schema", epilog=EXAMPLES)(schema)


def schema(
    name: Annotated[str, typer.Argument(metavar="[SHAPE]", help=f"One of {', '.join(SHAPES)}.")] = "",
    *,
    against: Annotated[Path | None, typer.Option(help="A schema that a program was written against.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the JSON Schema of what other programs read from here, and whether a change would break them."""
    if not name:
        rows = [{"shape": each, "versions": len(published(each))} for each in SHAPES]
        typer.echo(msgspec.json.encode(rows).decode() if as_json else "\n".join(SHAPES))
        return
    now = schema_of(name)
    if against is None:
        typer.echo(msgspec.json.format(msgspec.json.encode(now), indent=2).decode())
        return
    found = breaks(_read(against), now)
    if as_json:
        typer.echo(msgspec.json.encode({"shape": name, "breaks": found}).decode())
    else:
        typer.echo(printable("\n".join(found) or f"a program written against it can read every {name}", lines=True))
    raise typer.Exit(1 if found else 0)


def _read(path: Path) -> dict[str, object]:
    try:
        held = load_json(path.read_bytes())
    except OSError as error:
        raise DataError("schema.file.unreadable", f"cannot read `{path}`") from error
    if not isinstance(held, dict) or "$defs" not in held:
        raise DataError("schema.file.shape", "that is no schema of ours", hint="save one with `vedette schema SHAPE`")
    return held
