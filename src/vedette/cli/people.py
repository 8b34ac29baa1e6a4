"""Create people, give and take roles, and issue what they prove themselves with, which is shown once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.table import Column, Table

from vedette.cli._settings import OPERATOR
from vedette.cli.keys import AsJson, Home, Tenant, Url, open_access, open_log, parse_duration, state
from vedette.core.clock import SystemClock, to_iso
from vedette.core.render import printable
from vedette.prove.access import Access, Person, Role, Token

_T = TypeVar("_T")


CREATE_EXAMPLES = """Examples:

  vedette people create "Ada Byron"

  vedette people create Mary --account m-17 --json       # bound to one merchant"""

GRANT_EXAMPLES = """Example:

  vedette people grant per_01jd... risk"""

WITHDRAW_EXAMPLES = """Example:

  vedette people withdraw per_01jd... risk   # again changes nothing"""

DISABLE_EXAMPLES = """Example:

  vedette people disable per_01jd...         # again changes nothing"""

LIST_EXAMPLES = """Example:

  vedette people list --tenant acme --json"""

ONE_TIME_EXAMPLES = """Examples:

  vedette people password per_01jd...        # for the first login, or a forgotten password

  vedette people password per_01jd... --json"""

CODES_EXAMPLES = """Example:

  vedette people codes per_01jd...           # earlier codes do not work any more"""

ISSUE_EXAMPLES = """Examples:

  vedette people token per_01jd...

  vedette people token per_01jd... --expires 30m --json

  curl -H "Authorization: Bearer vp_..." localhost:8700/v1/..."""

TOKENS_EXAMPLES = """Example:

  vedette people tokens per_01jd..."""

REVOKE_EXAMPLES = """Example:

  vedette people revoke tok_01jd...          # again changes nothing"""

_WIDTHS = {"expires": 19, "last_used": 19}
"""Characters of a cell in a table for people: times to the second."""

PersonId = Annotated[str, typer.Argument(metavar="PERSON", help="Id of the person, from `vedette people list`.")]
RoleName = Annotated[Role, typer.Argument(metavar="ROLE", help=", ".join(Role))]


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    verb = typer.Typer(name="people", no_args_is_help=True, help=__doc__, epilog=CREATE_EXAMPLES)
    verb.command("create", epilog=CREATE_EXAMPLES)(create)
    verb.command("grant", epilog=GRANT_EXAMPLES)(grant)
    verb.command("withdraw", epilog=WITHDRAW_EXAMPLES)(withdraw)
    verb.command("disable", epilog=DISABLE_EXAMPLES)(disable)
    verb.command("list", epilog=LIST_EXAMPLES)(list_people)
    verb.command("password", epilog=ONE_TIME_EXAMPLES)(password)
    verb.command("codes", epilog=CODES_EXAMPLES)(codes)
    verb.command("token", epilog=ISSUE_EXAMPLES)(token)
    verb.command("tokens", epilog=TOKENS_EXAMPLES)(list_tokens)
    verb.command("revoke", epilog=REVOKE_EXAMPLES)(revoke)
    app.add_typer(verb)


def create(
    name: Annotated[str, typer.Argument(help="For people to read.")],
    *,
    account: Annotated[list[str] | None, typer.Option(help="Bind to this account or merchant; repeat it.")] = None,
    tenant: Tenant = "default",
    home: Home = Path(".vedette"),
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """Create a person, who has no role yet."""

    def change(access: Access) -> Person:
        access.create_tenant(tenant)
        return access.people.create(tenant, name, accounts=account or (), by=OPERATOR)

    _show_person(_with_access(home, url, change), as_json=as_json)


def grant(
    person: PersonId,
    role: RoleName,
    *,
    tenant: Tenant = "default",
    home: Home = Path(".vedette"),
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """Give a person a role; one held already stays as it is."""
    changed = _with_access(home, url, lambda access: access.people.grant(tenant, person, role, by=OPERATOR))
    _show_person(changed, as_json=as_json)


def withdraw(
    person: PersonId,
    role: RoleName,
    *,
    tenant: Tenant = "default",
    home: Home = Path(".vedette"),
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """Take a role away. Running services see it within a second."""
    changed = _with_access(home, url, lambda access: access.people.withdraw(tenant, person, role, by=OPERATOR))
    _show_person(changed, as_json=as_json)


def disable(
    person: PersonId,
    *,
    tenant: Tenant = "default",
    home: Home = Path(".vedette"),
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """End a person's access for good, and with it every token. Running services see it within a second."""
    changed = _with_access(home, url, lambda access: access.people.disable(tenant, person, by=OPERATOR))
    _show_person(changed, as_json=as_json)


def list_people(
    *, tenant: Tenant = "default", home: Home = Path(".vedette"), url: Url = "", as_json: AsJson = False
) -> None:
    """List people and their roles, disabled ones too."""
    found = _with_access(home, url, lambda access: access.people.list(tenant))
    columns = ("id", "name", "state", "roles", "accounts")
    _show_all([to_dict(person) for person in found], columns, as_json=as_json)


def password(
    person: PersonId,
    *,
    tenant: Tenant = "default",
    home: Home = Path(".vedette"),
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """Issue a one-time password for the console. The password until now and every session end."""
    issued = _with_access(home, url, lambda access: access.logins.issue(tenant, person, by=OPERATOR))
    shape = {
        "person": person,
        "tenant": tenant,
        "login": issued.login,
        "password": issued.password.reveal(),
        "expires": to_iso(issued.expires),
    }
    if as_json:
        typer.echo(msgspec.json.encode(shape).decode())
        return
    for name in ("login", "password", "expires"):
        typer.echo(f"{name:<9} {shape[name]}")
    typer.echo("It lets its person in once, to set a password of their own. It is shown this once.", err=True)


def codes(
    person: PersonId,
    *,
    tenant: Tenant = "default",
    home: Home = Path(".vedette"),
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """Issue ten recovery codes, each a second factor once. They take the place of earlier ones."""
    issued = _with_access(home, url, lambda access: access.factors.issue_codes(tenant, person, by=OPERATOR))
    texts = [code.reveal() for code in issued]
    if as_json:
        typer.echo(msgspec.json.encode({"person": person, "tenant": tenant, "codes": texts}).decode())
        return
    for text in texts:
        typer.echo(text)
    typer.echo("The codes are shown this once and stored nowhere.", err=True)


def token(
    person: PersonId,
    *,
    expires: Annotated[str, typer.Option(help="How long it may be used: 30m, 12h, at most 7d.")] = "12h",
    tenant: Tenant = "default",
    home: Home = Path(".vedette"),
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """Issue a personal token for the HTTP API and show its secret this once."""
    lasts = parse_duration(expires)
    issued = _with_access(home, url, lambda access: access.issue_token(tenant, person, expires_s=lasts, by=OPERATOR))
    ends, secret = to_iso(issued.expires), issued.secret.reveal()
    if as_json:
        shape = {"id": issued.id, "tenant": tenant, "person": person, "expires": ends, "secret": secret}
        typer.echo(msgspec.json.encode(shape).decode())
        return
    typer.echo(f"id       {issued.id}\nexpires  {ends}\nsecret   {secret}")
    typer.echo("The secret is shown this once and stored nowhere.", err=True)


def list_tokens(
    person: PersonId,
    *,
    tenant: Tenant = "default",
    home: Home = Path(".vedette"),
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """List a person's tokens, ended ones too, without any secret."""
    found = _with_access(home, url, lambda access: access.tokens(tenant, person))
    now = SystemClock().now()
    _show_all([token_to_dict(one, now) for one in found], ("id", "state", "expires", "last_used"), as_json=as_json)


def revoke(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="Id of the token, never its secret.")],
    *,
    tenant: Tenant = "default",
    home: Home = Path(".vedette"),
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """End a token for good. Running services refuse it within a second."""
    ended = _with_access(home, url, lambda access: access.revoke_token(tenant, token, by=OPERATOR))
    shape = token_to_dict(ended, SystemClock().now())
    typer.echo(msgspec.json.encode(shape).decode() if as_json else f"{ended.id} revoked")


def to_dict(person: Person) -> dict[str, Any]:
    """A person as `--json` prints it."""
    return {
        "id": person.id,
        "tenant": person.tenant,
        "name": person.name,
        "state": "disabled" if person.disabled else "active",
        "roles": sorted(person.roles),
        "accounts": sorted(person.accounts),
    }


def token_to_dict(token: Token, now: int) -> dict[str, Any]:
    """A token as `--json` prints it; times are ISO 8601."""
    return {
        "id": token.id,
        "tenant": token.tenant,
        "person": token.person,
        "state": state(token, now),
        "issued_by": token.issued_by,
        "created": to_iso(token.created),
        "expires": to_iso(token.expires),
        "revoked": None if token.revoked is None else to_iso(token.revoked),
        "last_used": None if token.last_used is None else to_iso(token.last_used),
    }


def _with_access(home: Path, url: str, use: Callable[[Access], _T]) -> _T:
    with open_log(home) as log:
        return use(open_access(home, url, log))


def _show_person(person: Person, *, as_json: bool) -> None:
    shape = to_dict(person)
    if as_json:
        typer.echo(msgspec.json.encode(shape).decode())
        return
    for name in ("id", "name", "state", "roles", "accounts"):
        typer.echo(f"{name:<9} {_cell(shape[name])}")


def _show_all(shapes: list[dict[str, Any]], columns: tuple[str, ...], *, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(shapes).decode())
        return
    table = Table(*(Column(name.replace("_", " "), no_wrap=name not in {"name", "accounts"}) for name in columns))
    for shape in shapes:
        table.add_row(*(_cell(shape[name])[: _WIDTHS.get(name)] for name in columns))
    Console().print(table, markup=False)


def _cell(value: Any) -> str:
    return printable(", ".join(value) if isinstance(value, list) else value or "") or "-"
