"""Add, rotate and disable webhook endpoints; look at deliveries and dead letters; send them again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, get_args

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from vedette.cli._settings import settings_of
from vedette.cli.keys import parse_duration
from vedette.core.clock import SystemClock, to_iso
from vedette.core.errors import DefinitionError
from vedette.core.render import printable
from vedette.move.outbox import DeliveryStatus
from vedette.move.webhooks import Scheme
from vedette.run.parts import Parts
from vedette.run.webhooks import SigningSecrets

EXAMPLES = """Examples:

  vedette webhooks add https://shop.example/hook           # prints the signing secret, this once

  vedette webhooks list --json                             # endpoints and their health

  vedette webhooks rotate we_01jd... --overlap 24h         # both secrets sign for a day

  vedette webhooks disable we_01jd...

  vedette webhooks dead                                    # deliveries that were given up

  vedette webhooks replay evt_01jd... we_01jd...           # once more: same id, same body

A running server sends what is due; deliveries that are replayed go out with its next turn."""

Home = Annotated[Path | None, typer.Option(envvar="VEDETTE_HOME", help="Folder of the product's data.")]
Tenant = Annotated[str, typer.Option(envvar="VEDETTE_TENANT", help="Whose endpoints.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
EndpointId = Annotated[str, typer.Argument(metavar="ENDPOINT", help="Its id, from `vedette webhooks list`.")]
ENDPOINT = ("id", "url", "scheme", "health", "enabled", "waiting", "dead", "last_error")
DELIVERY = ("event_id", "endpoint", "status", "attempts", "error")


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    verb = typer.Typer(name="webhooks", no_args_is_help=True, help=__doc__, epilog=EXAMPLES)
    verbs: dict[str, Callable[..., None]] = {"list": list_endpoints, "add": add, "rotate": rotate, "enable": enable}
    verbs |= {"disable": disable, "deliveries": deliveries, "dead": dead, "replay": replay}
    for name, command in verbs.items():
        verb.command(name, epilog=EXAMPLES)(command)
    app.add_typer(verb)


@contextmanager
def _parts(home: Path | None) -> Iterator[tuple[Parts, SigningSecrets]]:
    with Parts(settings_of(home), clock=SystemClock()) as parts:
        yield parts, SigningSecrets(parts.settings.secrets_folder, parts.secrets, parts.clock)


def list_endpoints(*, home: Home = None, tenant: Tenant = "default", as_json: AsJson = False) -> None:
    """List the endpoints with their health, oldest first."""
    with _parts(home) as (parts, _):
        found = [{name: getattr(each, name) for name in ENDPOINT} for each in parts.outbox.endpoints(tenant)]
    _print(found, ENDPOINT, as_json=as_json)


def add(
    url: Annotated[str, typer.Argument(help="Where webhooks go.")],
    *,
    scheme: Annotated[str, typer.Option(help=f"How they are signed: {', '.join(get_args(Scheme))}.")] = "standard",
    ordered: Annotated[bool, typer.Option("--ordered", help="One object's events in order.")] = False,
    home: Home = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Add an endpoint and show its signing secret this once."""
    if scheme not in get_args(Scheme):
        hint = f"one of {', '.join(get_args(Scheme))}"
        raise DefinitionError("webhooks.scheme.unknown", "no such way to sign", hint=hint, at=scheme[:64])
    with _parts(home) as (parts, signing):
        made = parts.outbox.add_endpoint(tenant, url, scheme=scheme, ordered=ordered)  # type: ignore[arg-type]
        secret = signing.make(made)
    _show({"id": made, "url": url, "scheme": scheme, "secret": secret}, as_json=as_json)


def rotate(
    endpoint: EndpointId,
    *,
    overlap: Annotated[str, typer.Option(help="How long both secrets sign: 0s to 7d.")] = "24h",
    home: Home = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Make a new signing secret, shown this once."""
    seconds = parse_duration(overlap)
    with _parts(home) as (parts, signing):
        parts.outbox.endpoint(tenant, endpoint)
        secret = signing.rotate(endpoint, overlap_s=seconds)
    _show({"id": endpoint, "overlap_s": seconds, "secret": secret}, as_json=as_json)


def enable(endpoint: EndpointId, *, home: Home = None, tenant: Tenant = "default", as_json: AsJson = False) -> None:
    """Send to an endpoint again, and forget its failures."""
    _switch(endpoint, home, tenant, enabled=True, as_json=as_json)


def disable(endpoint: EndpointId, *, home: Home = None, tenant: Tenant = "default", as_json: AsJson = False) -> None:
    """Send nothing to an endpoint. Again changes nothing."""
    _switch(endpoint, home, tenant, enabled=False, as_json=as_json)


def deliveries(
    *,
    status: Annotated[DeliveryStatus | None, typer.Option(help="Only these.")] = None,
    home: Home = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """List deliveries and where each stands, oldest first."""
    with _parts(home) as (parts, _):
        found = parts.outbox.deliveries(tenant, status=status)
    rows = [
        {"event_id": each.event_id, "endpoint": each.endpoint_id, "status": each.status}
        | {"attempts": each.attempts, "error": each.error}
        for each in found
    ]
    _print(rows, DELIVERY, as_json=as_json)


def dead(*, home: Home = None, tenant: Tenant = "default", as_json: AsJson = False) -> None:
    """List the dead letters: deliveries that were given up."""
    deliveries(status=DeliveryStatus.DEAD, home=home, tenant=tenant, as_json=as_json)


def replay(
    event: Annotated[str, typer.Argument(metavar="EVENT", help="Id of the webhook's event.")],
    endpoint: EndpointId,
    *,
    home: Home = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Send a dead letter again: the same id and body, the schedule from its start."""
    with _parts(home) as (parts, _):
        parts.outbox.replay(tenant, event, endpoint)
    _show({"event_id": event, "endpoint": endpoint, "status": DeliveryStatus.WAITING.value}, as_json=as_json)


def _switch(endpoint: str, home: Path | None, tenant: str, *, enabled: bool, as_json: bool) -> None:
    with _parts(home) as (parts, _):
        parts.outbox.enable(tenant, endpoint, enabled=enabled)
    _show({"id": endpoint, "enabled": enabled}, as_json=as_json)


def _show(shape: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(shape).decode())
        return
    for name, value in shape.items():
        typer.echo(printable(f"{name:<9} {value}"))
    if "secret" in shape:
        typer.echo("The secret is shown this once.", err=True)


def _print(rows: Sequence[Mapping[str, Any]], columns: tuple[str, ...], *, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(rows).decode())
        return
    table = Table(*columns)
    for row in rows:
        table.add_row(*(printable(str(row[name] if row[name] is not None else "-")) for name in columns))
    Console().print(table, markup=False)
    if not rows:
        typer.echo(f"nothing at {to_iso(SystemClock().now())[:19]}Z")
