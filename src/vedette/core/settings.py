"""Settings: a TOML file, then `VEDETTE_...` variables over it. Every key is known, or refused with its place.

Example:
    >>> settings = load_settings(None, {"VEDETTE_HOME": "/srv/vedette", "VEDETTE_TENANT": "acme"})
    >>> settings.tenant, str(settings.money_file)
    ('acme', '/srv/vedette/money.db')
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from vedette.core.errors import DefinitionError, Problems, Span, VedetteError
from vedette.core.log import Durability

PREFIX = "VEDETTE_"
ELSEWHERE = ("VEDETTE_SECRET_", "VEDETTE_VAULT_", "VEDETTE_TEST_", "VEDETTE_CACHE", "VEDETTE_OPERATOR")
"""How the variables begin that are no settings: named secrets, the vault's own, those of tests, options of verbs."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How this installation runs. Key `x` is `x = ...` in the file and `VEDETTE_X` in the environment."""

    home: Path = Path(".vedette")
    """Folder of everything the product writes. Relative to the current folder."""
    tenant: str = "default"
    """Tenant of commands that name none."""
    database_url: str = ""
    """`postgresql://...`; empty keeps relational state in SQLite files under `home`. May hold a password."""
    service: str = ""
    """Name of this service among those that share one PostgreSQL, each with a home of its own; the first needs none."""
    shared: Path | None = None
    """Folder of the secrets that such services share; none: each under its own home."""
    redis_url: str = ""
    """`redis://...`; keeps the features of payments in Redis, which outlives the server. May hold a password."""
    decision_durability: Durability = Durability.WRITTEN
    """When a decision counts as recorded."""
    patience: Annotated[float, msgspec.Meta(ge=1, le=10_000)] = 1.0
    """Times the usual deadlines of decisions; above 1 where the same answers matter more than quick ones."""
    control_share: float = 0.0
    """Share of payments that the score would block that is let through all the same, 0..0.1, to learn their truth."""
    log_partitions: int = 1
    """Partitions of topics that do not exist yet, 1..1024."""
    egress_allow: tuple[str, ...] = ()
    """Host names, addresses and networks that may be reached though they are private. Commas in the environment."""
    addresses: tuple[str, ...] = ()
    """Where browsers reach the console, such as `https://vedette.example`; commas in the environment. Empty: the
    address listened on, and the machine itself by name."""
    limits_url: str = ""
    """`redis://...`, where all processes count requests together; empty: each by itself. May hold a password."""
    api_rate: int = 1_000
    """Requests a second of the API for each caller, twice that at once; 0: no limit. Decisions and single charges have
    bounds of their own."""

    def __repr__(self) -> str:
        shown = {name: getattr(self, name) for name in self.__struct_fields__}
        for secret in ("database_url", "redis_url", "limits_url"):
            shown[secret] = "<set>" if shown[secret] else ""
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    @property
    def money_file(self) -> Path:
        """Idempotency, charges, ledger and outbox: one file, one transaction."""
        return self.home / "money.db"

    @property
    def state_file(self) -> Path:
        """Alerts, cases, rules and access."""
        return self.home / "state.db"

    @property
    def index_file(self) -> Path:
        """What is made from the log to be listed and searched: may be deleted, and is made again."""
        return self.home / "index.db"

    @property
    def runs_file(self) -> Path:
        """Durable runs."""
        return self.home / "runs.db"

    @property
    def log_folder(self) -> Path:
        """Topics of the log."""
        return self.home / "log"

    @property
    def store_folder(self) -> Path:
        """Tables of events."""
        return self.home / "store"

    @property
    def keys_folder(self) -> Path:
        """Signing keys, readable by their owner only."""
        return self.home / "keys"

    @property
    def secrets_folder(self) -> Path:
        """Named secrets, and those that sign webhooks."""
        return (self.shared or self.home) / "secrets"

    @property
    def own_secrets_folder(self) -> Path:
        """Secrets that the installation makes for itself: services on one database need the same."""
        return self.shared / "keys" if self.shared else self.keys_folder

    @property
    def following_schema(self) -> str:
        """PostgreSQL schema of what is made from this service's own log: evidence, and what correlations remember."""
        return f"state_{self.service}" if self.service else "state"

    @property
    def anchor_folder(self) -> Path:
        """Signed checkpoints; belongs on another disk or machine."""
        return self.home / "anchor"


_TYPES = {field.name: field.type for field in msgspec.structs.fields(Settings)}


def load_settings(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Reads the settings.

    Args:
        path: A TOML file; None for none.
        environ: The process's environment. Variables that do not start with `VEDETTE_` are not looked at.

    Raises:
        DefinitionError: `settings.file.unreadable`, `settings.file.invalid`.
        Problems: Every wrong key: `settings.key.unknown`, `settings.value.invalid`.
    """
    problems: list[VedetteError] = []
    values: dict[str, Any] = {}
    text, given = _read(path) if path else ("", {})
    for key, value in given.items():
        _take(key, value, _line(text, key, path), problems, values)
    for name in sorted(environ):
        if name.startswith(PREFIX) and not name.startswith(ELSEWHERE):
            _take(name.removeprefix(PREFIX).lower(), environ[name], Span(name), problems, values, text=True)
    if problems:
        raise Problems(problems)
    return Settings(**values)


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = path.read_text("utf-8")
        return text, tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DefinitionError("settings.file.invalid", str(error).lower(), at=str(path)) from error
    except RecursionError as error:
        raise DefinitionError("settings.file.invalid", "nested too deep", at=str(path)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError("settings.file.unreadable", "cannot read the settings", at=str(path)) from error


def _line(text: str, key: str, path: Path | None) -> Span:
    """Place of a top-level key; the parser does not tell it."""
    found = re.search(rf"^[ \t]*(?:\[+[ \t]*)?([\"']?){re.escape(key)}\1", text, re.MULTILINE)
    line = text.count("\n", 0, found.start()) + 1 if found else 1
    return Span(str(path), line)


def _take(
    key: str, value: Any, span: Span, problems: list[VedetteError], values: dict[str, Any], *, text: bool = False
) -> None:
    """Takes one value, or lists a problem. A message never repeats the value: it may be secret."""
    if key not in _TYPES:
        near = difflib.get_close_matches(key, _TYPES, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"known: {', '.join(sorted(_TYPES))}"
        problems.append(DefinitionError("settings.key.unknown", f"unknown setting `{key}`", span=span, hint=hint))
        return
    if text and _TYPES[key] == tuple[str, ...]:
        value = [part.strip() for part in value.split(",") if part.strip()]
    try:
        values[key] = msgspec.convert(value, _TYPES[key], strict=not text, dec_hook=lambda kind, raw: kind(raw))
    except (msgspec.ValidationError, TypeError):
        wanted = getattr(_TYPES[key], "__name__", str(_TYPES[key]))
        problems.append(DefinitionError("settings.value.invalid", f"`{key}` is not a valid {wanted}", span=span))
