"""The platform: every part of an installation, built from its settings and wired to the others.

Ports that a room defines are filled here and nowhere else. A platform is passive until `running`: then its beats follow
the log, deliver webhooks, sign checkpoints and finish what a killed process left.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from vedette.act.actions import Actions
from vedette.act.alerts import Alerts
from vedette.act.approvals import Approvals
from vedette.act.cases import Cases
from vedette.act.effects import Effects, freeze_payouts, preview_freeze, preview_key, revoke_key
from vedette.act.playbooks.interpreter import KIND, World, make_interpreter
from vedette.act.playbooks.loader import load_playbook
from vedette.act.playbooks.plan import PlannedStep, make_plan
from vedette.act.playbooks.playbook import Playbook
from vedette.act.playbooks.responder import Responder, alert_scope, bind, run_identity
from vedette.core.clock import Clock
from vedette.core.content import shipped
from vedette.core.db import Database, open_database
from vedette.core.egress import Egress
from vedette.core.errors import NotFoundError
from vedette.core.execute import Executor
from vedette.core.ids import Ids
from vedette.core.log import SqliteLog
from vedette.core.settings import Settings
from vedette.move.charges import ChargeLimits, Charges
from vedette.move.idempotency import Idempotency
from vedette.move.ledger.ledger import Ledger
from vedette.move.limits import Limits, Rate
from vedette.move.outbox import Dispatcher, Outbox, Post, Response
from vedette.move.payouts import Payouts
from vedette.prove.access import Access
from vedette.prove.audit import to_log
from vedette.prove.evidence import Collector, Entry, Evidence, FileAnchor
from vedette.prove.keys import KeyRing, write_private
from vedette.prove.secrets import Secrets
from vedette.run.detecting import Detection, detecting
from vedette.run.guard import Beat, beating
from vedette.run.intake import Intake
from vedette.run.metrics import Meters
from vedette.run.scoring import Desk, Scoring
from vedette.run.storing import storing
from vedette.run.stream import Stage, advance
from vedette.sense.quarantine import Quarantine
from vedette.sense.sources import load_sources
from vedette.sense.store import Store

ORIGIN = "vedette.local/evidence"
"""Name of the evidence tree in its checkpoints."""

PER_KEY = Rate(100, 1, 200)
PER_ACCOUNT = Rate(500, 1, 1_000)
"""Charges: sustained rate a second and burst, for each API key and for each tenant."""


class Platform:
    """One installation, wired.

    Args:
        settings: Where everything is.
        clock: The one clock.
        scoring: What decides on payments.
        detection: Sigma rules that run on the stream; None detects nothing.
        environ: Where named secrets may be found.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock,
        scoring: Scoring | None = None,
        detection: Detection | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.ids = Ids(clock)
        self.meters = Meters()
        self.sources = load_sources()
        self.secrets = Secrets(settings.home / "secrets", environ or {})
        self._closing = ExitStack()
        self.log = SqliteLog(settings.log_folder, clock, partitions=settings.log_partitions)
        self._closing.callback(self.log.close)
        self.state = self._database(settings.state_file, "state")
        self.money = self._database(settings.money_file, "money")
        self.store = Store(settings.store_folder)
        self.access = Access(self.state, clock, self.ids, observe=to_log(self.log))
        self.access.create_tenant(settings.tenant)
        self.desk = Desk(
            settings.home / "decisions",
            self.log,
            scoring=scoring or Scoring(),
            sources=self.sources,
            clock=clock,
            meters=self.meters,
            durability=settings.decision_durability,
        )
        self._closing.callback(self.desk.close)
        self._wire_evidence()
        self._wire_money()
        self._wire_response()
        self.stages: tuple[Stage, ...] = (
            storing(self.log, self.store, self.sources, self.meters),
            *([detecting(self.log, detection, self.meters)] if detection else []),
        )

    def _database(self, path: Path, schema: str) -> Database:
        url = self.settings.database_url
        database = open_database(url or path, schema=f"vedette_{schema}")
        self._closing.callback(database.close)
        return database

    def _wire_evidence(self) -> None:
        keys = KeyRing(self.settings.keys_folder, "evidence", ORIGIN)
        anchor = FileAnchor(self.settings.anchor_folder)
        self.evidence = Evidence(self.state, keys.signer(), anchor, self.clock)
        self.collector = Collector(self.evidence, self.log, self.clock)

    def _wire_money(self) -> None:
        self.outbox = Outbox(self.money, self.clock, self.ids)
        self.ledger = Ledger(self.money, self.clock)
        keys = Idempotency(self.money, self.clock, self._kept_secret("idempotency"))
        self.charges = Charges(
            self.money,
            self.clock,
            self.ids,
            keys=keys,
            ledger=self.ledger,
            outbox=self.outbox,
            decide=self.desk.decide_charge,
            limits=(Limits(self.clock), ChargeLimits(PER_KEY, PER_ACCOUNT)),
        )
        self.payouts = Payouts(self.money, self.clock, self.ids, keys=keys, ledger=self.ledger, outbox=self.outbox)
        self._egress = Egress(self.settings.egress_allow)
        self.dispatcher = Dispatcher(
            self.money,
            self.clock,
            send=self._send,
            secrets_of=self._webhook_secrets,
            rng=random.Random(secrets.randbits(64)),  # noqa: S311 - jitter only
        )

    def _wire_response(self) -> None:
        self.alerts = Alerts(self.state)
        self.cases = Cases(self.state, self.clock, self.ids)
        self.approvals = Approvals(self.state, self.clock)
        self.effects = Effects(
            self.state, self.clock, self.alerts, keep=self._keep, post=self._post, secret=self._reveal
        )
        self.actions = Actions(
            {
                "snapshot_evidence": self.effects.snapshot_evidence,
                "revoke_key": revoke_key(self.access),
                "freeze_payouts": freeze_payouts(self.payouts),
                "notify": self.effects.notify,
            },
            {"revoke_key": preview_key(self.access), "freeze_payouts": preview_freeze(self.payouts)},
        )
        world = World(self.actions, self.approvals, self.cases, self.clock)
        target = self.settings.database_url or self.settings.runs_file
        self.runs = Executor(target, {KIND: make_interpreter(world)})
        self._closing.callback(self.runs.close)
        self.responder = Responder(
            runs=self.runs,
            database=self.state,
            alerts=self.alerts,
            cases=self.cases,
            approvals=self.approvals,
            clock=self.clock,
        )

    # What several rooms do together

    def add_endpoint(self, tenant: str, url: str) -> tuple[str, str]:
        """Adds a webhook endpoint; gives its id and its signing secret, which is shown this once.

        Raises:
            DataError: What the outbox refuses about the address.
        """
        endpoint = self.outbox.add_endpoint(tenant, url)
        secret = f"whsec_{secrets.token_urlsafe(32)}"
        folder = self.settings.home / "secrets"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(folder / _secret_name(tenant, endpoint), secret.encode())
        return endpoint, secret

    def intake(self, tenant: str) -> Intake:
        """The way in for a tenant's files and pushes.

        Raises:
            NotFoundError: `access.tenant.unknown`.
        """
        if tenant not in self.access.tenants():
            raise NotFoundError("access.tenant.unknown", "no such tenant", at=tenant[:64])
        return Intake(
            self.log,
            self.state,
            Quarantine(self.store.folder),
            self.sources,
            tenant=tenant,
            clock=self.clock,
            lock=self.settings.home / "intake.lock",
        )

    def playbook(self, name: str) -> Playbook:
        """A shipped playbook by its id.

        Raises:
            NotFoundError: `playbook.name.unknown`.
        """
        known = {path.stem: path for path in shipped("playbooks").glob("*.yaml")}
        if name not in known:
            raise NotFoundError("playbook.name.unknown", "no such playbook", hint=f"one of {', '.join(sorted(known))}")
        return load_playbook(known[name])

    def plan(
        self, tenant: str, playbook: Playbook, alert_id: str, *, requester: str, inputs: Mapping[str, Any]
    ) -> list[PlannedStep]:
        """What a run would do, step by step, with what it would touch. Starts nothing."""
        alert = alert_scope(self.alerts.get(tenant, alert_id))
        return make_plan(
            playbook,
            tenant=tenant,
            run_id=run_identity(tenant, alert_id, playbook),
            requester=requester,
            alert=alert,
            inputs=bind(playbook, alert, inputs),
            actions=self.actions,
        )

    # Work in the background

    @contextmanager
    def running(self) -> Iterator[None]:
        """Runs the beats until the block ends."""
        with beating(self.beats(), self.meters):
            yield

    def beats(self) -> tuple[Beat, ...]:
        """What happens by itself, and how often. Each is safe to be killed in, and to run twice."""
        return (
            Beat("stream", 0.05, self.turn),
            Beat("evidence", 1.0, self.collector.collect),
            Beat("checkpoint", 10.0, lambda: bool(self.evidence.checkpoint()) and 0),
            Beat("webhooks", 0.5, self.dispatcher.run_once),
            Beat("charges", 30.0, self.charges.recover),
            Beat("ledger", 10.0, self._expire),
            Beat("access", 60.0, self._flush),
        )

    def turn(self) -> int:
        """One turn of everything that follows the log; gives how many records were taken."""
        taken = advance(self.log, self.stages, self.meters)
        progress = self.alerts.consume(self.log)
        self.meters.taken("alerts", progress.read)
        return taken + progress.read

    def drain(self) -> int:
        """Turns until nothing is new, and takes what is settled into the evidence tree."""
        total = 0
        while taken := self.turn():
            total += taken
        self.collector.collect()
        return total

    def lags(self) -> dict[str, int]:
        """Stage -> records between its place and the end of the log."""
        return {stage.name: stage.lag(self.log) for stage in self.stages}

    def _flush(self) -> int:
        self.access.flush()
        return 0

    def _expire(self) -> int:
        return sum(self.ledger.expire(tenant) for tenant in self.access.tenants())

    def close(self) -> None:
        """Finishes what is in hand and closes every part, last opened first."""
        self._closing.close()

    # Ports

    def _send(self, post: Post) -> Response:
        return self._egress.request("POST", post.url, headers=post.headers, content=post.content, timeout=post.timeout)

    def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        return self._egress.request("POST", url, headers=headers, content=body).status

    def _reveal(self, name: str) -> str:
        return self.secrets.resolve(name).reveal()

    def _webhook_secrets(self, tenant: str, endpoint_id: str) -> list[bytes]:
        return [self.secrets.resolve(_secret_name(tenant, endpoint_id)).reveal().encode()]

    def _keep(self, record_id: str, tenant: str, kind: str, time: int, content: bytes) -> str:
        self.evidence.append([Entry(record_id, tenant, kind, time, content)])
        return record_id

    def _kept_secret(self, name: str) -> bytes:
        """A random secret of this installation, made once, readable by its owner only."""
        path = self.settings.keys_folder / f"{name}.secret"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_private(path, secrets.token_bytes(32))
        return path.read_bytes()


def _secret_name(tenant: str, endpoint: str) -> str:
    return f"webhook_{tenant}_{endpoint}"
