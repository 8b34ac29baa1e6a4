"""Indicators: import them in four forms, ask for them, export them."""

from __future__ import annotations

import lzma
import sys
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from vedette.cli._progress import progress
from vedette.cli._response import Config, Opened, Tenant
from vedette.cli.intel.attack import fetch, read_file, tell
from vedette.core.clock import to_iso
from vedette.core.errors import DataError
from vedette.core.render import printable
from vedette.sense.intel.asked import Asked
from vedette.sense.intel.collections import USUAL
from vedette.sense.intel.feeds import Form, parse_feed, sniff_form
from vedette.sense.intel.indicator import Tlp
from vedette.sense.intel.library import MAX_PAGE, Library, indicator_of
from vedette.sense.intel.library_tables import NEVER, Kept
from vedette.sense.intel.stix import MAX_BYTES, Default, to_bundle, to_stix
from vedette.sense.intel.warninglists import keep_warninglists, load_warninglists
from vedette.sense.times import TimeFormat, parse_time

EXAMPLES = """Examples:

  vedette intel import indicators bundle.stix.json --collection vendor --tlp green

  vedette intel import indicators bad-names.csv --collection own --confidence 80

  vedette intel import warninglists misp-warninglists.tar.xz --leave 'vpn*'

  vedette intel find login.evil.example          # what would match it now, and why

  vedette intel find 203.0.113.7 --as-of 2026-03-01T12:00:00Z

  vedette intel export --collection own > own.stix.json

STIX 2.1 bundles, CSV with a head line, MISP events and lists of a value a line are told apart by their content. An
indicator that stands on a warninglist, or whose pattern is beyond what is matched, is kept and held back with its
reason; what is none is kept aside: `vedette intel refused`."""

_XZ, _GZIP = b"\xfd7zXZ\x00", b"\x1f\x8b"

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Home = Annotated[Path | None, typer.Option(help="Folder of the product's data; that of the settings by default.")]
Named = Annotated[str, typer.Option("--collection", metavar="NAME", help="Which collection.")]


def import_indicators(
    origin: Annotated[str, typer.Argument(metavar="FILE|URL", help="Plain, gzip or xz.")],
    *,
    form: Annotated[Form | None, typer.Option(help="Form of the file; else told by its content.")] = None,
    collection: Annotated[str, typer.Option(metavar="NAME", help="Collection to put them in.")] = USUAL,
    tlp: Annotated[Tlp | None, typer.Option(help="Marking of what comes without one.")] = None,
    confidence: Annotated[
        int | None, typer.Option(min=0, max=100, help="Confidence of what comes without one.")
    ] = None,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Import indicators; again changes only what has changed."""
    content = fetch(origin) if urlsplit(origin).scheme in {"http", "https"} else read_file(Path(origin))
    content = unpacked(content)
    told: dict[str, Any] = {} if tlp is None else {"tlp": tlp}
    told |= {} if confidence is None else {"confidence": confidence}
    with Opened(home, tenant, config) as here, progress() as bar:
        own = here.library.collection(here.tenant, collection, **told)
        default = Default(own.tlp, own.confidence, here.clock.now(), collection)
        objects, bad = parse_feed(content, form or sniff_form(content), default)
        put = here.library.put(
            here.tenant,
            collection,
            objects,
            bad,
            progress=lambda done: bar("importing", done, max(1, len(objects))),
        )
    tell({"collection": collection, **msgspec.to_builtins(put)}, as_json=as_json)


def import_warninglists(
    path: Annotated[Path, typer.Argument(help="Folder or archive of MISP's lists, or one `list.json`.")],
    *,
    only: Annotated[str, typer.Option(metavar="GLOB", help="Only lists whose folder is named so.")] = "*",
    leave: Annotated[str, typer.Option(metavar="GLOB", help="But not those.")] = "",
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Import warninglists in place of those there were, and ask them about every indicator again."""
    lists = load_warninglists(path, only=only, leave=leave)
    with Opened(home, tenant, config) as here:
        keep_warninglists(here.settings.home, lists)
        put = here.library.recheck(here.tenant)
    counts = {"lists": len(lists), "entries": sum(len(one.entries) for one in lists)}
    tell({**counts, "changed": put.changed, "held": put.held}, as_json=as_json)


def find(
    value: Annotated[str, typer.Argument(help="An address, name, URL, e-mail address or hash; none: all.")] = "",
    *,
    as_of: Annotated[str, typer.Option(metavar="TIME", help="What was known then.")] = "",
    valid_at: Annotated[str, typer.Option(metavar="TIME", help="Only what would match an event of this time.")] = "",
    kind: Annotated[str, typer.Option(help="Such as `domain-name`.")] = "",
    collection: Named = "",
    held: Annotated[bool | None, typer.Option("--held/--matching", help="Only what is held back, or only not.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_PAGE)] = 50,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Indicators: what would match a value, as it is known now or was known at a time."""
    asked = Asked(
        value=value,
        kind=kind,
        collection=collection,
        as_of=moment(as_of),
        valid_at=moment(valid_at),
        held=held,
    )
    with Opened(home, tenant, config) as here:
        found = here.library.indicators(here.tenant, asked, limit=limit)
        shown = [shape(one, here.clock.now()) for one in found]
    if as_json:
        for each in shown:
            typer.echo(msgspec.json.encode(each).decode())
        return
    table = Table("value", "name", "collection", "confidence", "valid from", "until", "held back")
    for each in shown:
        cells = [each[key] for key in ("value", "name", "collection", "score", "valid_from", "until", "held")]
        table.add_row(*(printable(str(cell)) for cell in cells))
    if shown:
        Console(markup=False, highlight=False, emoji=False).print(table)
    typer.echo(f"{len(shown):,} indicators")


def export(
    *,
    collection: Named = "",
    as_of: Annotated[str, typer.Option(metavar="TIME", help="What was known then.")] = "",
    tlp: Annotated[Tlp, typer.Option(help="Only what may go where this may go.")] = Tlp.AMBER,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
) -> None:
    """Print indicators as a STIX 2.1 bundle."""
    asked = Asked(collection=collection, as_of=moment(as_of), within=tlp)
    with Opened(home, tenant, config) as here:
        found = (to_stix(one.object, created=one.added) for one in every(here.library, here.tenant, asked))
        sys.stdout.buffer.write(to_bundle(found, str(uuid.uuid4())) + b"\n")


def collections(*, tenant: Tenant = "", home: Home = None, config: Config = None, as_json: AsJson = False) -> None:
    """The collections, what they follow, and how that goes."""
    with Opened(home, tenant, config) as here:
        shown = [msgspec.to_builtins(one) for one in here.library.collections(here.tenant)]
        counted = here.library.count(here.tenant)
    if as_json:
        typer.echo(msgspec.json.encode({"collections": shown, **counted}).decode())
        return
    table = Table("name", "id", "tlp", "follows", "looked", "problem")
    for each in shown:
        looked = to_iso(each["polled"]) if each["polled"] else ""
        table.add_row(
            *(printable(text) for text in (each["name"], each["id"], each["tlp"], each["url"], looked, each["problem"]))
        )
    Console(markup=False, highlight=False, emoji=False).print(table)
    typer.echo(", ".join(f"{count:,} {what}" for what, count in counted.items()))


def refused(
    *,
    limit: Annotated[int, typer.Option(min=1, max=MAX_PAGE)] = 50,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """What could not be imported, and why; newest first."""
    with Opened(home, tenant, config) as here:
        for each in here.library.refused(here.tenant, limit):
            shown = {**each, "time": to_iso(each["time"])}
            plain = f"{shown['time']}  {each['collection']}  {each['at']}: {each['reason']} [{each['code']}]"
            typer.echo(msgspec.json.encode(shown).decode() if as_json else printable(plain))


def every(library: Library, tenant: str, asked: Asked) -> Iterator[Kept]:
    """All indicators that are asked for."""
    after = 0
    while page := library.indicators(tenant, asked, after=after, limit=MAX_PAGE):
        yield from page
        after = page[-1].seq


def shape(kept: Kept, now: int) -> dict[str, Any]:
    """What is shown of an indicator."""
    own = indicator_of(kept)
    return {
        "id": own.id,
        "value": own.value,
        "kind": own.kind or "",
        "name": own.name,
        "collection": kept.collection,
        "tlp": own.tlp,
        "confidence": own.confidence,
        "score": round(own.score(now), 1),
        "valid_from": to_iso(own.valid_from),
        "until": to_iso(own.until) if own.until < NEVER else "",
        "labels": list(own.labels),
        "held": own.held,
        "known": to_iso(kept.added),
    }


def moment(text: str) -> int:
    """Microseconds of a time that a person wrote; 0 for none."""
    return parse_time(text, TimeFormat.ISO) if text else 0


def unpacked(content: bytes) -> bytes:
    """What is inside of a gzip or xz file; anything else as it is.

    Raises:
        DataError: `intel.file.damaged`, `intel.file.too_large`.
    """
    try:
        if content.startswith(_XZ):
            raw = lzma.LZMADecompressor().decompress(content, MAX_BYTES + 1)
        elif content.startswith(_GZIP):
            raw = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(content, MAX_BYTES + 1)
        else:
            return content
    except (lzma.LZMAError, zlib.error) as error:
        raise DataError("intel.file.damaged", "cannot be unpacked") from error
    if len(raw) > MAX_BYTES:
        raise DataError("intel.file.too_large", f"larger than {MAX_BYTES} bytes once unpacked")
    return raw
