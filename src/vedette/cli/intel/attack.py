"""MITRE ATT&CK: import it, and look up techniques."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from vedette.cli._settings import settings_of
from vedette.core.clock import SystemClock, to_iso
from vedette.core.egress import Egress
from vedette.core.errors import NotFoundError, PermanentError
from vedette.core.render import printable
from vedette.sense.intel.attack import Attack, Technique, parent
from vedette.sense.intel.bundle import (
    MAX_BYTES,
    Imported,
    keep_attack,
    kept_attack,
    load_attack,
    need_attack,
    parse_attack,
    parse_crosswalk,
)

FETCH_S = 300.0
"""Longest time a download may take."""
_OK = 200

IMPORT_EXAMPLES = """Examples:

  vedette intel import attack enterprise-attack-18.1.json.gz --home .vedette

  vedette intel import attack https://example.com/enterprise-attack.json --crosswalk newer-ids.tsv

A crosswalk names ids that changed after the bundle was made, one line each: old id, tab, new id."""

SHOW_EXAMPLES = """Examples:

  vedette intel show                        # which version is here

  vedette intel show T1562.008 --json       # what an id, old or new, stands for"""

Home = Annotated[Path, typer.Option(envvar="VEDETTE_HOME", help="Folder of the product's data.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def import_attack(
    origin: Annotated[str, typer.Argument(metavar="FILE|URL", help="STIX 2.1 bundle: JSON, or that in gzip.")],
    *,
    crosswalk: Annotated[Path | None, typer.Option(help="Ids that changed since the bundle was made.")] = None,
    home: Home = Path(".vedette"),
    as_json: AsJson = False,
) -> None:
    """Import MITRE ATT&CK in place of what was imported before."""
    changed = parse_crosswalk(read_file(crosswalk)) if crosswalk else {}
    if urlsplit(origin).scheme in {"http", "https"}:
        attack = parse_attack(fetch(origin), changed, name=Path(urlsplit(origin).path).name)
    else:
        attack = load_attack(Path(origin), crosswalk)
    keep_attack(home, Imported(attack, origin, SystemClock().now(), changed))
    tell(_summary(attack), as_json=as_json)


def show(
    name: Annotated[str, typer.Argument(metavar="[ID]", help="Technique id, old or new.")] = "",
    *,
    home: Home = Path(".vedette"),
    as_json: AsJson = False,
) -> None:
    """Show what is imported, or what a technique's id stands for."""
    attack = need_attack(home)
    if name:
        tell(_technique(attack, name), as_json=as_json)
        return
    imported = kept_attack(home)
    held = {"origin": imported.origin, "imported": to_iso(imported.time)} if imported else {}
    tell({**_summary(attack), **held}, as_json=as_json)


def _technique(attack: Attack, name: str) -> dict[str, Any]:
    found: Technique | None = attack.technique(name)
    if found is None:
        raise NotFoundError("intel.technique.unknown", f"ATT&CK {attack.version} knows no technique `{name}`")
    names = {tactic.short: tactic.name for tactic in attack.tactics}
    above = attack.techniques.get(parent(found.id))
    return {
        "asked": name.upper(),
        "id": found.id,
        "name": found.name,
        "parent": f"{above.id} {above.name}" if above else "",
        "tactics": [names.get(short, short) for short in found.tactics],
        "platforms": list(found.platforms),
        "deprecated": found.deprecated,
        "groups": sorted(one.name for one in attack.groups.values() if found.id in map(attack.current, one.techniques)),
    }


def _summary(attack: Attack) -> dict[str, Any]:
    standing = [one for one in attack.techniques.values() if not one.revoked_by and not one.deprecated]
    return {
        "version": attack.version,
        "sha256": attack.sha256,
        "techniques": len(standing),
        "revoked": sum(bool(one.revoked_by) for one in attack.techniques.values()),
        "deprecated": sum(one.deprecated for one in attack.techniques.values()),
        "tactics": [tactic.name for tactic in attack.tactics],
        "groups": len(attack.groups),
    }


def tell(shown: dict[str, Any], *, as_json: bool) -> None:
    """Prints what is known of one thing."""
    if as_json:
        typer.echo(msgspec.json.encode(shown).decode())
        return
    table = Table(show_header=False)
    for what, value in shown.items():
        table.add_row(what, printable(", ".join(map(str, value)) if isinstance(value, list) else str(value)))
    Console(markup=False, highlight=False, emoji=False).print(table)


def fetch(url: str) -> bytes:
    """What stands at an address.

    Raises:
        PermanentError: `intel.attack.refused`.
    """
    egress = Egress(settings_of().egress_allow)
    try:
        answer = egress.request("GET", url, timeout=FETCH_S, max_bytes=MAX_BYTES)
    finally:
        egress.close()
    if answer.status != _OK:
        raise PermanentError("intel.attack.refused", f"the server answered {answer.status}", at=urlsplit(url).netloc)
    return answer.body


def read_file(path: Path) -> bytes:
    """A file's content.

    Raises:
        NotFoundError: `intel.attack.unreadable`.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise NotFoundError("intel.attack.unreadable", f"cannot be read: {error.strerror}", at=str(path)) from error
