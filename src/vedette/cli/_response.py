"""The parts behind `alerts`, `case` and `playbook`, opened from the settings; what the three show in the same way."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

import msgspec
import typer

from vedette.act.actions import Actions
from vedette.act.alerts import Alerts
from vedette.act.approvals import Approvals
from vedette.act.cases import Cases
from vedette.act.effects import Effects, freeze_payouts, preview_freeze, preview_key, revoke_key
from vedette.act.playbooks.interpreter import KIND, World, make_interpreter
from vedette.act.playbooks.responder import Responder
from vedette.core.clock import MICROS, SystemClock
from vedette.core.db import Database, open_database
from vedette.core.errors import ConflictError, DataError
from vedette.core.execute import Executor, Runs
from vedette.core.ids import Ids
from vedette.core.log import SqliteLog
from vedette.core.render import printable
from vedette.core.settings import load_settings

Config = Annotated[Path | None, typer.Option(help="Settings file.")]
Home = Annotated[Path | None, typer.Option(help="Folder of the product's data; that of the settings by default.")]
Tenant = Annotated[str, typer.Option(help="Whose; that of the settings by default.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_FINGERPRINT = "idempotency.secret"
_ORIGIN = "vedette.local/evidence"


class Parts:
    """Everything the response needs, each opened when it is first asked for.

    Args:
        home: Overrides the settings when given.
        tenant: Overrides the settings when not empty.
        config: Settings file, may be missing.
    """

    def __init__(self, home: Path | None, tenant: str, config: Path | None = None) -> None:
        settings = load_settings(config, os.environ)  # noqa: TID251 - the command line is where the environment enters
        self.settings = msgspec.structs.replace(settings, home=home) if home else settings
        self.tenant = tenant or settings.tenant
        self.clock = SystemClock()
        self.ids = Ids(self.clock)
        self._open = ExitStack()

    def _database(self, path: Path, schema: str) -> Database:
        database = open_database(self.settings.database_url or path, schema=schema)
        self._open.callback(database.close)
        return database

    @cached_property
    def state(self) -> Database:
        """Alerts, cases, approvals, access."""
        return self._database(self.settings.state_file, "state")

    @cached_property
    def alerts(self) -> Alerts:
        """The alerts, up to the end of the signal log."""
        alerts = Alerts(self.state)
        if self.settings.log_folder.is_dir():
            with SqliteLog(self.settings.log_folder, self.clock) as log:
                while alerts.consume(log).read:
                    pass
        return alerts

    @cached_property
    def cases(self) -> Cases:
        """The cases."""
        return Cases(self.state, self.clock, self.ids)

    @cached_property
    def approvals(self) -> Approvals:
        """The approvals."""
        return Approvals(self.state, self.clock)

    @cached_property
    def actions(self) -> Actions:
        """The shipped actions, on the real rooms."""
        from vedette.prove.access import Access
        from vedette.prove.secrets import Secrets

        access = Access(self.state, self.clock, self.ids)
        payouts = self._payouts()
        named = Secrets(self.settings.home / "secrets", os.environ)  # noqa: TID251 - as above
        effects = Effects(
            self.state,
            self.clock,
            self.alerts,
            keep=self._keep,
            post=self._post,
            secret=lambda name: named.resolve(name).reveal(),
        )
        return Actions(
            {
                "snapshot_evidence": effects.snapshot_evidence,
                "notify": effects.notify,
                "revoke_key": revoke_key(access),
                "freeze_payouts": freeze_payouts(payouts),
            },
            {"revoke_key": preview_key(access), "freeze_payouts": preview_freeze(payouts)},
        )

    def _payouts(self) -> Any:
        from vedette.move.idempotency import Idempotency
        from vedette.move.ledger.ledger import Ledger
        from vedette.move.outbox import Outbox
        from vedette.move.payouts import Payouts
        from vedette.prove.keys import write_private

        path = self.settings.keys_folder / _FINGERPRINT
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = path.with_name(f".{_FINGERPRINT}.{os.getpid()}")
            write_private(fresh, secrets.token_bytes(32))
            # Of two processes that come first, one wins and both read the same.
            with suppress(FileExistsError):
                path.hardlink_to(fresh)
            fresh.unlink()
        money = self._database(self.settings.money_file, "money")
        keys = Idempotency(money, self.clock, path.read_bytes())
        ledger, outbox = Ledger(money, self.clock), Outbox(money, self.clock, self.ids)
        return Payouts(money, self.clock, self.ids, keys=keys, ledger=ledger, outbox=outbox)

    def _keep(self, record_id: str, tenant: str, kind: str, time: int, content: bytes) -> str:
        from vedette.prove.evidence import Evidence, FileAnchor
        from vedette.prove.evidence.store import Entry
        from vedette.prove.keys import KeyRing

        signer = KeyRing(self.settings.keys_folder, "evidence", _ORIGIN).signer()
        anchor = FileAnchor(self.settings.home / "anchor")
        Evidence(self.state, signer, anchor, self.clock).append([Entry(record_id, tenant, kind, time, content)])
        return record_id

    def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        from vedette.core.egress import Egress

        return Egress(self.settings.egress_allow).request("POST", url, headers=headers, content=body).status

    def responder(self, runs: Runs) -> Responder:
        """Starts, shows and decides runs on `runs`."""
        return Responder(
            runs=runs,
            database=self.state,
            alerts=self.alerts,
            cases=self.cases,
            approvals=self.approvals,
            clock=self.clock,
        )

    @contextmanager
    def execute(self) -> Iterator[tuple[Runs, bool]]:
        """The runs, and whether this process executes them: another one (a server) may be doing so."""
        world = World(self.actions, self.approvals, self.cases, self.clock)
        target = self._runs_target
        try:
            opened: Runs = Executor(target, {KIND: make_interpreter(world)})
        except ConflictError as error:
            if error.code != "execute.executor.busy":
                raise
            opened = Runs(target)
        with opened as runs:
            yield runs, isinstance(runs, Executor)

    @contextmanager
    def watch(self) -> Iterator[Runs]:
        """The runs, without executing any.

        Raises:
            DataError: `playbook.runs.none`: nothing was ever run here.
        """
        target = self._runs_target
        if isinstance(target, Path) and not target.is_file():
            raise DataError("playbook.runs.none", "no playbook was run here yet", at=str(target))
        with Runs(target) as runs:
            yield runs

    @property
    def _runs_target(self) -> Path | str:
        return self.settings.database_url or self.settings.runs_file

    def close(self) -> None:
        """Gives everything back."""
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def show_json(value: Any) -> None:
    """One JSON value on one line."""
    typer.echo(msgspec.json.encode(value).decode())


def span(micros: int) -> str:
    """A time span for people: `45s`, `12m`, `3h`, `8d`."""
    seconds = micros // MICROS
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def line(text: str) -> None:
    """One line of text in which nothing an attacker wrote can move the cursor."""
    typer.echo(printable(text))
