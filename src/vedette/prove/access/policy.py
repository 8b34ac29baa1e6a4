"""Who may do what: the policy as a table, and the pure function that reads it.

A row says, for a resource and a verb, whether an API key may have it at all (`key`) and which roles of people have it.
What is not in the table is denied to everybody. A key further needs its own scope for the resource: `write` includes
`read`; there is no scope for `approve`, because only a person approves. `app` in the place of `key` says that apps may
have it too, and platforms that act for a connected account: what is `key` only stays with an account's own keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import IntEnum, StrEnum

from vedette.core.errors import DefinitionError


class Mode(StrEnum):
    """Which world a key acts in. Test and live data never meet."""

    TEST = "test"
    LIVE = "live"


class Level(IntEnum):
    """What a key's scope reaches for one resource."""

    NONE = 0
    READ = 1
    WRITE = 2


class Kind(StrEnum):
    """What a principal is."""

    KEY = "key"
    PERSON = "person"
    APP = "app"
    """An app, by a token of its own."""


class Role(StrEnum):
    """What a person does at the company."""

    ANALYST = "analyst"
    """Works alerts and cases."""
    RESPONDER = "responder"
    """Runs playbooks and contains attacks."""
    RISK = "risk"
    """Owns payment rules, limits and labels."""
    MODEL = "model"
    """Trains and releases models."""
    COMPLIANCE = "compliance"
    """Reads everything that is evidence; changes nothing else."""
    MERCHANT = "merchant"
    """Sees and moves the merchant's own money."""
    ADMIN = "admin"
    """Manages people, keys and settings; has no say over money or cases."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a principal needs for one resource and verb."""

    key: bool
    """True when an API key may have it, by its scope."""
    roles: frozenset[Role]
    """A person needs one of these."""
    app: bool = False
    """True when an app may have it, and a platform that acts for another account."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is acting, proven."""

    tenant: str
    id: str
    kind: Kind
    roles: frozenset[Role] = frozenset()
    """Of a person; empty for a key."""
    scopes: Mapping[str, Level] = field(default_factory=dict)
    """Of a key: resource -> level; a resource that is not named is `NONE`. Empty for a person."""
    mode: Mode | None = None
    """Of a key; None for a person, who sees both."""
    accounts: frozenset[str] = frozenset()
    """Accounts or merchants it is bound to; empty: all of the tenant."""
    platform: str = ""
    """Tenant whose key or app this is, when it acts here by a connection; empty at home."""


_TABLE = """
charges    read     app analyst risk compliance merchant
charges    write    app merchant
charges    batch    key -
refunds    read     app analyst risk compliance merchant
refunds    write    app merchant
cards      read     key compliance
cards      write    key -
numbers    read     key -
credentials read     key -
disputes   read     app analyst risk compliance merchant
disputes   write    app merchant
disputes   settle   key -
payouts    read     app analyst responder risk compliance merchant
payouts    write    app merchant
payouts    freeze   - responder risk
payouts    approve  - risk
ledger     read     app risk compliance
ledger     write    key -
decisions  read     app analyst responder risk model compliance
decisions  write    app -
payments   read     app analyst risk compliance merchant
own_rules  read     app analyst risk compliance merchant
own_rules  write    app risk merchant
reviews    read     - analyst risk compliance
reviews    write    - analyst risk
events     read     key analyst responder risk model compliance
events     write    key -
query      read     key analyst responder risk model compliance
query      write    key analyst responder
features   read     key analyst risk model compliance
features   write    - model
labels     read     app analyst risk model compliance
labels     write    app analyst risk
models     read     key risk model compliance
models     write    - model
models     approve  - risk
rules      read     key analyst responder risk model compliance
rules      write    - analyst risk
rules      approve  - risk responder
lists      read     app analyst risk compliance
lists      write    app risk
alerts     read     app analyst responder risk compliance
alerts     write    key analyst responder
cases      read     key analyst responder risk compliance
cases      write    key analyst responder
cases      command  - responder compliance
cases      notify   - analyst responder risk compliance
reports    read     key analyst responder compliance
reports    write    key analyst responder
playbooks  read     key analyst responder risk compliance
playbooks  write    - responder
playbooks  run      key analyst responder
playbooks  approve  - responder risk
indicators read     app analyst responder compliance
indicators write    app analyst responder
controls   read     key compliance admin
controls   write    - compliance
audit      read     key compliance admin
webhooks   read     app merchant admin
webhooks   write    app merchant admin
keys       read     - responder compliance merchant admin
keys       write    - admin
keys       revoke   - responder admin
apps       read     - responder compliance admin
apps       write    - admin
apps       revoke   - responder admin
connections read    key responder compliance merchant admin
connections write   - admin
connections revoke  - responder admin
people     read     - compliance admin
people     write    - admin
settings   read     - compliance admin
settings   write    - admin
metrics    read     key analyst responder risk model compliance admin
"""


def _parse(table: str) -> dict[tuple[str, str], Need]:
    policy: dict[tuple[str, str], Need] = {}
    for line in table.split("\n"):
        if line:
            resource, verb, key, *roles = line.split()
            held = frozenset(Role(role) for role in roles if role != "-")
            policy[resource, verb] = Need(key in {"key", "app"}, held, app=key == "app")
    return policy


POLICY: Mapping[tuple[str, str], Need] = _parse(_TABLE)
"""(resource, verb) -> what it needs. Deny by default: a pair that is absent is denied."""

RESOURCES = frozenset(resource for resource, _ in POLICY)
LENT = frozenset(resource for (resource, _), need in POLICY.items() if need.app)
"""Resources that apps may have a scope for, and platforms in another account."""


def permit(
    principal: Principal,
    resource: str,
    verb: str,
    *,
    tenant: str | None = None,
    account: str | None = None,
    mode: Mode | None = None,
    policy: Mapping[tuple[str, str], Need] = POLICY,
) -> str:
    """Why not, or an empty string for yes. Pure; about a microsecond.

    Args:
        principal: Who asks.
        resource: Name in the policy, such as `charges`.
        verb: `read`, `write`, or a named act such as `approve`.
        tenant: Owner of the object, when there is one.
        account: Account or merchant of the object. A principal bound to accounts must name one.
        mode: Mode of the object, when it has one.
        policy: The table.

    Returns:
        One of `policy`, `tenant`, `mode`, `account`, `role`, `scope`, or empty.
    """
    need = policy.get((resource, verb))
    if need is None:
        return "policy"
    if tenant is not None and tenant != principal.tenant:
        return "tenant"
    if mode is not None and principal.mode is not None and mode is not principal.mode:
        return "mode"
    if principal.accounts and account not in principal.accounts:
        return "account"
    if principal.kind is Kind.PERSON:
        return "" if need.roles & principal.roles else "role"
    wanted = Level.READ if verb == "read" else Level.WRITE
    own = principal.kind is Kind.KEY and not principal.platform
    return "" if (need.key if own else need.app) and principal.scopes.get(resource, Level.NONE) >= wanted else "scope"


def parse_scopes(text: str) -> dict[str, Level]:
    """`charges:write,decisions:read` -> scopes.

    Raises:
        DefinitionError: `access.scope.invalid` with the part that is wrong.
    """
    scopes: dict[str, Level] = {}
    for part in filter(None, text.replace(",", " ").split()):
        resource, _, level = part.partition(":")
        if resource not in RESOURCES or level.upper() not in Level.__members__:
            raise DefinitionError(
                "access.scope.invalid",
                f"`{part[:64]}` is not a scope",
                hint=f"write resource:level with read or write, resource one of {', '.join(_near(resource))}",
            )
        if not any(need.key for (name, _), need in POLICY.items() if name == resource):
            raise DefinitionError(
                "access.scope.people_only", f"no API key may have `{resource}`", hint="this is for people with a role"
            )
        scopes[resource] = Level[level.upper()]
    return scopes


def check_lent(scopes: Mapping[str, Level]) -> None:
    """Lets scopes pass that an app may have, or a platform in another account.

    Raises:
        DefinitionError: `access.scope.none`, `access.scope.own_keys_only`.
    """
    if not any(scopes.values()):
        raise DefinitionError("access.scope.none", "at least one scope is needed", hint=f"of {', '.join(sorted(LENT))}")
    for resource in sorted(scopes.keys() - LENT):
        raise DefinitionError(
            "access.scope.own_keys_only", f"only an account's own keys may have `{resource}`", hint="leave it out"
        )


def narrow(scopes: Mapping[str, Level], bound: Mapping[str, Level]) -> dict[str, Level]:
    """What is in both, each at the lower of its two levels."""
    return {name: min(level, bound[name]) for name, level in scopes.items() if bound.get(name, Level.NONE)}


def _near(resource: str) -> list[str]:
    return get_close_matches(resource, RESOURCES) or sorted(RESOURCES)


def format_scopes(scopes: Mapping[str, Level]) -> str:
    """Scopes as `parse_scopes` reads them, in order of the resource."""
    return ",".join(f"{resource}:{level.name.lower()}" for resource, level in sorted(scopes.items()))


def read_scopes(text: str) -> dict[str, Level]:
    """What `format_scopes` wrote, without looking at the policy: a resource that left it is denied there."""
    parts = (part.partition(":") for part in text.split(",") if part)
    return {resource: Level[level.upper()] for resource, _, level in parts}
