"""The vault as its own process: own address, own database, own keys, and nothing of the product but the errors.

Card numbers enter by `POST /v1/cards`, from the form in its own frame or from a server, and leave by
`POST /v1/detokenise` only. No body is logged, no memory is dumped, and an unforeseen error tells its type alone.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from vedette.core.asgi import App, Receive, Scope, Send, answer
from vedette.core.clock import Clock
from vedette.core.db import open_database
from vedette.core.documents import load_json
from vedette.core.errors import DataError, DefinitionError, DeniedError, NotFoundError, PermanentError, VedetteError
from vedette.core.ids import Ids
from vedette.core.log import SqliteLog
from vedette.prove.access import Access, Principal
from vedette.prove.audit import to_log
from vedette.prove.custody.credentials import Credentials
from vedette.prove.custody.opening import open_provider
from vedette.prove.custody.provider import KeyProvider
from vedette.prove.dlp import refuse_pans
from vedette.prove.secrets import Secret, Secrets
from vedette.prove.vault.cards import Card, Purpose
from vedette.prove.vault.vault import Vault
from vedette.serve.body import read_body
from vedette.serve.door.plain import ACCOUNT
from vedette.serve.errors import give, guard, to_refusal
from vedette.serve.hardening import forbid_dumps
from vedette.serve.policy import bearer
from vedette.serve.server import run_app
from vedette.serve.shapes import JSON, check_media, convert

MAX_BODY = 8 * 1024
MAX_DEPTH = 4

_STATIC = {
    "/card.js": ("card.js", "text/javascript"),
    "/frame": ("frame.html", "text/html; charset=utf-8"),
    "/frame.js": ("frame.js", "text/javascript"),
    "/frame.css": ("frame.css", "text/css"),
}
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?")
_CARD = re.compile(r"/v1/cards/([A-Za-z0-9_]{1,64})")


class NewCard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A card. A check code is refused like every unknown field: it may not be stored (PCI DSS 3.3.1)."""

    number: str
    exp_month: int
    exp_year: int
    merchant: str = ""
    """From a server; with a ticket it is the ticket's."""
    purposes: tuple[Purpose, ...] = ()
    page: str = ""
    """From the form: the page that shows it."""

    def __repr__(self) -> str:
        return "NewCard([card number])"


class NewTicket(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The right to store one card from a browser."""

    merchant: str
    purposes: tuple[Purpose, ...]
    page: str = ""
    """Origin of the page that will show the form; empty: any that the vault allows."""


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who needs a number, and what for."""

    token: str
    merchant: str
    purpose: Purpose
    reason: str


class Named(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which credential a service needs."""

    name: str


@dataclass(frozen=True, slots=True)
class Opened:
    """The parts of a vault in its folder."""

    vault: Vault
    access: Access
    credentials: Credentials
    provider: KeyProvider


class VaultApp:
    """The vault's routes, as plain ASGI.

    Args:
        opened: What they do, and who may.
        origins: Origins of pages that may show the form.
    """

    def __init__(self, opened: Opened, origins: tuple[str, ...] = ()) -> None:
        for origin in origins:
            if not _ORIGIN.fullmatch(origin):
                raise DefinitionError("vault.origin.invalid", "not an origin", hint="https://shop.example", at=origin)
        self._vault = opened.vault
        self._access = opened.access
        self._credentials = opened.credentials
        self._origins = origins
        self._static = {path: (_read_static(name), media) for path, (name, media) in _STATIC.items()}
        self._manifest = check_static()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if scope["type"] != "http":
            return
        try:
            status, body = await self._answer(scope, receive, send)
        except VedetteError as error:
            await give(send, to_refusal(error), cache_control="no-store")
            return
        if status:
            await answer(send, status, msgspec.json.encode(body), {"cache-control": "no-store"})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> tuple[int, Any]:
        """Status and body, or 0 when the answer is already sent."""
        method, path = scope["method"], scope["path"]
        if path in self._static and method == "GET":
            await self._send_static(path, send)
            return 0, None
        if path == "/integrity.json" and method == "GET":
            return 200, self._manifest
        if path == "/healthz" and method == "GET":
            return 200, {"status": "ok"}
        named = _CARD.fullmatch(path)
        route = _ACTIONS.get((method, "/v1/cards/{token}" if named else path))
        if route is None:
            raise NotFoundError("http.route", "there is nothing at this path")
        secret = bearer(_header(scope, b"authorization"))
        if _header(scope, ACCOUNT.encode()) is not None:
            raise DeniedError("vault.account.refused", "the vault acts for nobody but the key's own tenant")
        body = await read_body(receive, MAX_BODY)
        if method == "POST":
            check_media(_header(scope, b"content-type"), JSON)
        given = named[1].encode() if named else body
        origin = scope["client"][0] if scope.get("client") else ""
        # The database, the log and the key provider wait for a disk: never on the event loop.
        return await asyncio.to_thread(route, self, secret, given, origin)

    def _issue(self, secret: str, body: bytes, origin: str) -> tuple[int, Any]:
        who = self._admit(secret, "cards", "write", origin)
        wanted = _decode(body, NewTicket)
        self._bind(who, wanted.merchant, "cards", "write", origin)
        ticket = self._vault.issue_ticket(
            who.tenant, merchant=wanted.merchant, purposes=wanted.purposes, origin=wanted.page, by=who.id
        )
        return 201, {"ticket": ticket.secret.reveal(), "expires": ticket.expires}

    def _store(self, secret: str, body: bytes, origin: str) -> tuple[int, Any]:
        if not secret.startswith("vt_"):
            who = self._admit(secret, "cards", "write", origin)
        card = _decode(body, NewCard, open_field="number")
        number = Secret(card.number)
        if secret.startswith("vt_"):
            ticket = Secret(secret)
            page = self._vault.origin_of(ticket)
            if page and card.page != page:
                raise DeniedError("vault.ticket.page", "this ticket is for another page")
            stored = self._vault.store_by_ticket(ticket, number, card.exp_month, card.exp_year, origin=origin)
            return 201, _shown(stored)
        self._bind(who, card.merchant, "cards", "write", origin)
        stored = self._vault.store(
            who.tenant,
            number,
            card.exp_month,
            card.exp_year,
            merchant=card.merchant,
            purposes=card.purposes,
            by=who.id,
            origin=origin,
        )
        return 201, _shown(stored)

    def _detokenise(self, secret: str, body: bytes, origin: str) -> tuple[int, Any]:
        who = self._admit(secret, "numbers", "read", origin)
        wanted = _decode(body, Wanted)
        self._bind(who, wanted.merchant, "numbers", "read", origin)
        number = self._vault.detokenise(
            who.tenant,
            wanted.token,
            merchant=wanted.merchant,
            purpose=wanted.purpose,
            reason=wanted.reason,
            by=who.id,
            origin=origin,
        )
        return 200, number

    def _look(self, secret: str, token: bytes, origin: str) -> tuple[int, Any]:
        who = self._admit(secret, "cards", "read", origin)
        card = self._vault.look(who.tenant, token.decode())
        self._bind(who, card.merchant, "cards", "read", origin)
        return 200, _shown(card)

    def _erase(self, secret: str, token: bytes, origin: str) -> tuple[int, Any]:
        who = self._admit(secret, "cards", "write", origin)
        self._bind(who, self._vault.look(who.tenant, token.decode()).merchant, "cards", "write", origin)
        return 200, _shown(self._vault.erase(who.tenant, token.decode(), by=who.id))

    def _fetch(self, secret: str, body: bytes, origin: str) -> tuple[int, Any]:
        who = self._admit(secret, "credentials", "read", origin)
        leased = self._credentials.fetch(_decode(body, Named).name, who.id, origin=origin)
        shape = {"name": leased.name, "version": leased.version, "until": leased.until}
        return 200, shape | {"value": leased.value.reveal()}

    def _admit(self, secret: str, resource: str, verb: str, origin: str) -> Principal:
        who = self._access.authenticate(secret, origin=origin)
        if not who.accounts:
            self._access.authorize(who, resource, verb, origin=origin)
        return who

    def _bind(self, who: Principal, merchant: str, resource: str, verb: str, origin: str) -> None:
        """A key that is bound to merchants acts for those only."""
        if who.accounts:
            self._access.authorize(who, resource, verb, account=merchant, origin=origin)

    async def _send_static(self, path: str, send: Send) -> None:
        body, media = self._static[path]
        ancestors = " ".join(self._origins) or "'none'"
        headers = {
            "content-type": media,
            "content-length": str(len(body)),
            "cache-control": "no-cache",
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
            f"base-uri 'none'; form-action 'none'; frame-ancestors {ancestors}",
        }
        if path == "/card.js":
            # Pages load it with `integrity`, which needs the right to read it.
            headers |= {"access-control-allow-origin": "*", "cross-origin-resource-policy": "cross-origin"}
        fields = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": body})


_ACTIONS: Mapping[tuple[str, str], Callable[[VaultApp, str, bytes, str], tuple[int, Any]]] = {
    ("POST", "/v1/tickets"): VaultApp._issue,  # noqa: SLF001 - its own table of routes
    ("POST", "/v1/cards"): VaultApp._store,  # noqa: SLF001
    ("POST", "/v1/detokenise"): VaultApp._detokenise,  # noqa: SLF001
    ("POST", "/v1/credentials/fetch"): VaultApp._fetch,  # noqa: SLF001
    ("GET", "/v1/cards/{token}"): VaultApp._look,  # noqa: SLF001
    ("DELETE", "/v1/cards/{token}"): VaultApp._erase,  # noqa: SLF001
}
"""Method and path -> what it does with the caller's secret, the body or token, and the caller's address."""

ROUTES = frozenset(
    {f"{method} {path}" for method, path in _ACTIONS}
    | {f"GET {path}" for path in (*_STATIC, "/integrity.json", "/healthz")}
)
"""Everything that the vault answers."""


def check_static() -> dict[str, str]:
    """The integrity manifest, after comparing it with the files: name -> `sha384-...` as browsers take it.

    Raises:
        PermanentError: `vault.static.changed`.
    """
    manifest: dict[str, str] = msgspec.json.decode(_read_static("integrity.json"), type=dict[str, str])
    for name, wanted in manifest.items():
        digest = base64.b64encode(hashlib.sha384(_read_static(name)).digest()).decode()
        if wanted != f"sha384-{digest}":
            raise PermanentError("vault.static.changed", f"`{name}` is not the file that was released")
    return manifest


def open_vault(home: Path, keys: str, environ: Mapping[str, str], clock: Clock) -> Opened:
    """A vault in a folder of its own: vault.db, state.db with its API keys, and a log of its records.

    Args:
        home: The vault's folder, made when missing.
        keys: Where its keys are; see `prove.custody.opening`. Empty: an encrypted file in the folder.
        environ: The environment, for secrets.
        clock: The machine's.

    Raises:
        DefinitionError, NotFoundError: What opening the keys raises.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    secrets = Secrets(home / "secrets", environ)
    provider = open_provider(keys or f"file:{(home / 'keys' / 'vault.json').absolute()}", secrets, clock)
    ids = Ids(clock)
    observe = to_log(SqliteLog(home / "log", clock))
    access = Access(open_database(home / "state.db"), clock, ids, observe=observe)
    db = open_database(home / "vault.db")
    credentials = Credentials(db, provider, clock, ids, observe)
    return Opened(Vault(db, provider, clock, ids, observe), access, credentials, provider)


def harden() -> None:
    """Takes away what could show memory: core dumps, debuggers of the same user, and the text of unforeseen errors."""
    forbid_dumps()
    sys.excepthook = _tell_type


def serve_vault(app: VaultApp, *, host: str, port: int, tell: Callable[[str], None]) -> None:
    """Serves until it is interrupted."""
    harden()
    guarded: App = guard(app, failed=lambda name: tell(f"unforeseen: {name}"), answered=lambda _scope, _status: None)
    run_app(lambda _port: guarded, host=host, port=port, tell=tell)


def _tell_type(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    # Neither the message nor the values of a frame: either may be a card number.
    text = str(error) if isinstance(error, VedetteError) else ""
    where = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else ""
    sys.stderr.write(f"vault: {kind.__name__} {where} {text}\n")


def _decode(body: bytes, kind: Any, *, open_field: str = "") -> Any:
    """A body of a known shape; only the field named `open_field` may hold a card number."""
    raw = load_json(body, max_bytes=MAX_BODY, max_depth=MAX_DEPTH)
    if not isinstance(raw, dict):
        raise DataError("request.field.invalid", "not an object", at="$")
    refuse_pans({name: value for name, value in raw.items() if name != open_field})
    if not isinstance(raw.get(open_field, ""), str):
        raise DataError("request.field.invalid", "not a text", at=f"$.{open_field}")
    return convert(raw, kind)


def _shown(card: Card) -> dict[str, Any]:
    shape: dict[str, Any] = msgspec.to_builtins(card)
    del shape["tenant"]
    return shape


def _read_static(name: str) -> bytes:
    return (files("vedette.serve") / "vault_static" / name).read_bytes()


def _header(scope: Scope, wanted: bytes) -> str | None:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == wanted), None)


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
