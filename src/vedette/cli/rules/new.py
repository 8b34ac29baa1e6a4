"""Begin a rule: a file with everything a rule must carry, which loads and passes its tests."""

from __future__ import annotations

import re
import uuid
from pathlib import Path
from typing import Annotated

import typer

from vedette.cli.ingest import find_source
from vedette.cli.rules import _sets
from vedette.core.errors import ConflictError, DataError
from vedette.sense.sources import Source, load_sources

EXAMPLES = """Examples:

  vedette rules new rules/trail_stopped.yml --source cloudtrail --owner cloud-security

  vedette rules new rules/spray.yml --source identity --title "Many accounts fail from one address"

Then write what the rule asks for, and run `vedette rules test` on the file.

Exit codes: 0 written; 2 the file is there already, or no source has that name."""

_TEMPLATE = """title: {title}
id: {id}
status: test
description: CHANGE ME. What somebody does that this is a sign of, and why it is one.
author: {owner}
logsource: {{{logsource}}}
detection:
  selection: {{{field}: CHANGE-ME}}
  condition: selection
falsepositives: [CHANGE ME. What is harmless and looks the same]
level: medium
tags: [attack.t1078]  # CHANGE ME
vedette:
  owner: {owner}
  goal: CHANGE ME. One sentence, the behaviour that it is after.
  budget: 5  # alerts a day it may cost
  runbook: |-
    CHANGE ME. What to look at first, and what to do when it is true.
  tests:
    - name: it fires
      source: {source}
      event: {{{field}: CHANGE-ME}}
      expect: {{level: medium}}
    - name: something near it does not
      source: {source}
      fires: false
      event: {{{field}: SOMETHING-ELSE}}
"""


def register(group: typer.Typer) -> None:
    """Adds the verb."""
    group.command(name="new", epilog=EXAMPLES)(run)


def run(
    path: Annotated[Path, typer.Argument(help="File to write; named for what the rule finds.")],
    *,
    source: Annotated[str, typer.Option(help="Source that it reads; `vedette sources` lists them.")],
    title: Annotated[str, typer.Option(help="What an alert says; made from the file's name by default.")] = "",
    owner: Annotated[str, typer.Option(help="Team that answers for it.")] = "my-team",
    sources: _sets.Sources = None,
) -> None:
    """Write the beginning of a rule."""
    if path.suffix not in {".yml", ".yaml"}:
        raise DataError("rules.new.name", "a rule file ends in .yml", at=str(path))
    found = find_source(load_sources(sources), source)
    said = title or path.stem.replace("_", " ").capitalize()
    text = _TEMPLATE.format(
        title=_plain(said),
        id=uuid.uuid4(),
        owner=_plain(owner),
        source=source,
        field=_field(found),
        logsource=_where(found),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x") as file:
            file.write(text)
    except FileExistsError as error:
        raise ConflictError("rules.new.exists", "the file is there already", at=str(path)) from error
    typer.echo(f"{path}: write what it asks for, then `vedette rules test {path}`")


def _plain(text: str) -> str:
    """Text that YAML reads as text."""
    return (
        text if re.fullmatch(r"[A-Za-z][\w ,.()/-]*", text) else f'"{text.replace(chr(92), "").replace(chr(34), "")}"'
    )


def _where(source: Source) -> str:
    words = {name: getattr(source.logsource, name) for name in ("product", "category", "service")}
    return ", ".join(f"{name}: {word}" for name, word in words.items() if word)


def _field(source: Source) -> str:
    """A field to begin with: one that is kept in a column, else one by which its records are recognised."""
    taken = {source.definition.id, *source.definition.time}
    known = [*source.definition.promote, *(name for names in source.definition.detect for name in names)]
    return next((name for name in known if name not in taken), "field")
