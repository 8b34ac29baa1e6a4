"""The parts of an installation, each opened when it is first asked for and closed together.

Ports that a room defines are filled here and nowhere else, for the service and for the command line alike.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from vedette.act.actions import ActionCall, Actions, Perform, Preview, Signature
from vedette.act.alerts import Alerts
from vedette.act.approvals import Approvals
from vedette.act.attention import Ages, Attention, load_attention
from vedette.act.bounty.reports import Bounty
from vedette.act.bounty.rubric import load_rubric
from vedette.act.cases import Cases, Circle, Clocks, Custody, Preservation, Reviews, Work
from vedette.act.cases.clocks import load_notices
from vedette.act.channels import OVERDUE, Channels
from vedette.act.connectors import SIGNATURES
from vedette.act.connectors.connector import Action, Reach
from vedette.act.connectors.loading import load_actions
from vedette.act.effects import Effects, freeze_payouts, preview_freeze, preview_key, revoke_key, unfreeze_payouts
from vedette.act.grouping import Alert
from vedette.act.merging import Merging
from vedette.act.once import Once
from vedette.act.playbooks.caps import Caps
from vedette.act.playbooks.pulses import Pulses
from vedette.act.playbooks.responder import Responder
from vedette.act.playbooks.world import World
from vedette.act.reviewing.intake import ReviewIntake
from vedette.act.reviewing.law import Law, load_law
from vedette.act.reviewing.queue import ReviewQueue
from vedette.act.silence import Silence
from vedette.act.triage import Triage
from vedette.act.urgency import Urgency
from vedette.core.clock import Clock
from vedette.core.content import shipped
from vedette.core.db import Connection, Database, open_database
from vedette.core.egress import Egress
from vedette.core.errors import DefinitionError
from vedette.core.execute import Runs
from vedette.core.ids import Ids
from vedette.core.log import SqliteLog
from vedette.core.projection import Projection
from vedette.core.settings import Settings
from vedette.judge.decisions.register import Register
from vedette.judge.models.registry import KEY, PURPOSE, Registry
from vedette.judge.payment.kept import KeptLists
from vedette.judge.payment.own import MerchantRules
from vedette.judge.points.loader import load_points
from vedette.judge.points.point import Point
from vedette.judge.shipments import Kind, Shipments
from vedette.judge.sigma.card import Cards
from vedette.judge.versions import Versions
from vedette.move.disputes import Disputes
from vedette.move.idempotency import Idempotency
from vedette.move.ledger.ledgers import Ledgers
from vedette.move.outbox import Outbox
from vedette.move.payouts import Payouts
from vedette.move.told import Told
from vedette.prove.access import Access
from vedette.prove.audit import Audit, to_log
from vedette.prove.evidence import ORIGIN, Entry, Evidence, FileAnchor
from vedette.prove.keys import KeyRing, write_private
from vedette.prove.secrets import Secrets
from vedette.run.dataloss import DataLoss
from vedette.run.pipeline.faults import Faults
from vedette.run.pipeline.indexing import decided_entities
from vedette.sense.intel.library import Library
from vedette.sense.intel.warninglists import kept_warninglists
from vedette.sense.sightings import Sightings
from vedette.sense.sources import Source, load_sources

FINGERPRINT = "idempotency.secret"
SEALING = "factors.secret"


OWN_SECRETS = (FINGERPRINT, SEALING)
"""What services on one database must have in common."""

T = TypeVar("T")


def _swapped(perform: Callable[[ActionCall, Reach], T], reach: Reach, call: ActionCall) -> T:
    return perform(call, reach)


class Parts:
    """One installation, opened as far as it is used.

    Args:
        settings: Where everything is.
        clock: The one clock.
        environ: Where named secrets may be found.
    """

    def __init__(self, settings: Settings, *, clock: Clock, environ: Mapping[str, str] | None = None) -> None:
        self.settings = settings
        self.clock = clock
        self.ids = Ids(clock)
        self.secrets = Secrets(settings.secrets_folder, environ or {})
        self.cards = Cards()
        """What the rules that run say of their alerts; filled by who loads rules."""
        self._closing = ExitStack()

    @cached_property
    def log(self) -> SqliteLog:
        """The log."""
        log = SqliteLog(self.settings.log_folder, self.clock, partitions=self.settings.log_partitions)
        self._closing.callback(log.close)
        return log

    @cached_property
    def faults(self) -> Faults:
        """Faults of the decision service as signals."""
        return Faults(self.log, self.clock)

    @cached_property
    def dataloss(self) -> DataLoss:
        """Scheduled data-loss scans."""
        return DataLoss(self.state, self.log, self.settings.store_folder, self.clock, tenant=self.settings.tenant)

    @cached_property
    def state(self) -> Database:
        """Alerts, cases, approvals, access, evidence."""
        return self._database(self.settings.state_file, "state")

    @cached_property
    def followed(self) -> Database:
        """What is made from this service's own log and from no other's: evidence, and what correlations remember."""
        if not self.settings.service or self.state.is_sqlite:
            return self.state
        return self._database(self.settings.state_file, self.settings.following_schema)

    @cached_property
    def money(self) -> Database:
        """Idempotency, charges, payouts, ledger and outbox: one file, one transaction."""
        return self._database(self.settings.money_file, "money")

    @cached_property
    def told(self) -> Told:
        """What money did, until the log has it."""
        return Told(self.money)

    @cached_property
    def index(self) -> Projection:
        """What is made from the log to be listed and searched; embedded beside PostgreSQL too."""
        index = Projection(self.settings.index_file)
        self._closing.callback(index.close)
        return index

    @cached_property
    def sources(self) -> Mapping[str, Source]:
        """The known sources, and those of the decision points."""
        known = load_sources()
        taken = next((point for point in self.points.values() if point.name in known), None)
        if taken:
            raise DefinitionError("point.name.taken", f"`{taken.name}` is the name of a source", at=taken.path)
        return {**known, **{name: point.source for name, point in self.points.items()}}

    @cached_property
    def points(self) -> Mapping[str, Point]:
        """The decision points: those that are shipped, and the files in `points/` under home."""
        own = self.settings.home / "points"
        return load_points([shipped("points"), *([own] if own.is_dir() else [])])

    @cached_property
    def register(self) -> Register:
        """Decisions as rows."""
        return Register(self.index, decided_entities(self.sources))

    @cached_property
    def sightings(self) -> Sightings:
        """Where each entity was seen."""
        return Sightings(self.index)

    @cached_property
    def library(self) -> Library:
        """Indicators and other intelligence, every version of them."""
        database = self._database(self.settings.home / "intel" / "intel.db", "intel")
        return Library(database, self.clock, lambda: kept_warninglists(self.settings.home))

    @cached_property
    def versions(self) -> Versions:
        """When each rule and model first ran here."""
        return Versions(self.state, self.clock)

    @cached_property
    def lists(self) -> KeptLists:
        """Items that people and outcomes added to the lists of payment rules."""
        return KeptLists(self.state, self.clock)

    @cached_property
    def owned(self) -> MerchantRules:
        """Rules that merchants wrote for their own payments."""
        return MerchantRules(self.state, self.clock)

    @cached_property
    def shipments(self) -> Shipments:
        """Shipped rules and their stages."""
        return Shipments(self.state, self.clock)

    @cached_property
    def scoring_shipments(self) -> Shipments:
        """Shipped parts of what decides on payments, and their stages."""
        return Shipments(self.state, self.clock, Kind.SCORING)

    @cached_property
    def models(self) -> Registry:
        """The registered models."""
        return Registry(self.settings.home / "models", KeyRing(self.settings.keys_folder, PURPOSE, KEY), self.clock)

    @property
    def shares(self) -> bool:
        """Whether other services may be on the same database."""
        return bool(self.settings.database_url)

    @property
    def runs_target(self) -> Path | str:
        """Where durable runs are kept."""
        return self.settings.database_url or self.settings.runs_file

    @cached_property
    def access(self) -> Access:
        """Tenants, people, keys; what they do is told to topic `audit`."""
        sealing = partial(self.own_secret, SEALING)
        return Access(self.state, self.clock, self.ids, observe=to_log(self.log), sealing=sealing)

    @cached_property
    def audit(self) -> Audit:
        """Writes audit records to topic `audit`."""
        return Audit(to_log(self.log), self.clock, self.ids)

    @cached_property
    def evidence(self) -> Evidence:
        """The evidence tree."""
        signer = KeyRing(self.settings.keys_folder, "evidence", ORIGIN).signer()
        return Evidence(self.followed, signer, FileAnchor(self.settings.anchor_folder), self.clock)

    @cached_property
    def outbox(self) -> Outbox:
        """Webhooks to send."""
        return Outbox(self.money, self.clock, self.ids)

    @cached_property
    def ledger(self) -> Ledgers:
        """The books."""
        return Ledgers(self.money, self.clock)

    @cached_property
    def idempotency(self) -> Idempotency:
        """Keys of requests that move money."""
        return Idempotency(self.money, self.clock, self.own_secret(FINGERPRINT))

    @cached_property
    def payouts(self) -> Payouts:
        """Payouts and freezes."""
        return Payouts(self.money, self.clock, self.ids, keys=self.idempotency, ledger=self.ledger, outbox=self.outbox)

    @cached_property
    def disputes(self) -> Disputes:
        """Disputes of charges."""
        return Disputes(self.money, self.clock, self.ids, keys=self.idempotency, ledger=self.ledger, outbox=self.outbox)

    @cached_property
    def egress(self) -> Egress:
        """The one way out."""
        egress = Egress(self.settings.egress_allow)
        self._closing.callback(egress.close)
        return egress

    @cached_property
    def alerts(self) -> Alerts:
        """Alerts, as far as they were taken from the log."""
        return Alerts(self.state, cards=self.cards.of)

    @cached_property
    def triage(self) -> Triage:
        """What people do with alerts; told to topic `audit`."""
        self.alerts  # noqa: B018 - makes the tables that this writes to
        return Triage(self.state, self.clock, self.ids, self.audit)

    @cached_property
    def merging(self) -> Merging:
        """Merges, groups and likenesses of alerts."""
        self.alerts  # noqa: B018 - makes the tables that this reads
        return Merging(self.state, self.clock, self.ids, self.audit)

    @cached_property
    def attention(self) -> Attention:
        """What alerts deserve: `attention.yaml` under home, else the shipped file."""
        own = self.settings.home / "attention.yaml"
        return load_attention(own if own.is_file() else shipped("response") / "attention.yaml")

    @cached_property
    def ages(self) -> Ages:
        """Alarms of alerts that nobody took in time."""
        self.alerts  # noqa: B018

        def message(connection: Connection, tenant: str, alerts: Sequence[Alert]) -> None:
            self.channels.add(connection, tenant, OVERDUE, alerts)

        return Ages(self.state, self.clock, self.audit, self.attention, message)

    @cached_property
    def channels(self) -> Channels:
        """Tells people of alerts, by their routes."""
        self.alerts  # noqa: B018
        return Channels(self.state, self.clock, self.audit, self.attention, self.actions.perform)

    @cached_property
    def bounty(self) -> Bounty:
        """Reports of weaknesses: `bounty.yaml` under home, else the shipped file, says how they are weighed."""
        own = self.settings.home / "bounty.yaml"
        rubric = load_rubric(own if own.is_file() else shipped("response") / "bounty.yaml")
        return Bounty(self.state, self.clock, self.ids, self.audit, rubric)

    @cached_property
    def urgency(self) -> Urgency:
        """Keeps the order of severity."""
        self.alerts  # noqa: B018
        return Urgency(self.state, self.clock, self.attention)

    @cached_property
    def review_law(self) -> Law:
        """How decisions are reviewed: `review.yaml` under home, else the shipped file."""
        own = self.settings.home / "review.yaml"
        return load_law(own if own.is_file() else shipped("response") / "review.yaml")

    @cached_property
    def reviewing(self) -> ReviewQueue:
        """The review queue."""
        return ReviewQueue(self.state, self.clock, self.audit, self.review_law)

    @cached_property
    def review_intake(self) -> ReviewIntake:
        """Takes decisions to review from the log."""
        self.reviewing  # noqa: B018 - makes the tables that this writes to
        return ReviewIntake(self.state, self.clock, self.review_law, decided_entities(self.sources))

    @cached_property
    def silence(self) -> Silence:
        """Snoozes, and windows of maintenance."""
        self.alerts  # noqa: B018
        return Silence(self.state, self.clock, self.ids, self.audit)

    @cached_property
    def cases(self) -> Cases:
        """Cases."""
        return Cases(self.state, self.clock, self.ids)

    @cached_property
    def work(self) -> Work:
        """Tasks, hypotheses and observables of cases."""
        return Work(self.state, self.clock, self.ids)

    @cached_property
    def circle(self) -> Circle:
        """Who does what in a case."""
        return Circle(self.state, self.clock, self.ids)

    @cached_property
    def clocks(self) -> Clocks:
        """Who must be told by when: the shipped notices, and the files in `notifications/` under home."""
        own = self.settings.home / "notifications"
        notices = load_notices(shipped("notifications")) | (load_notices(own) if own.is_dir() else {})
        return Clocks(self.state, self.clock, self.ids, notices)

    @cached_property
    def custody(self) -> Custody:
        """Evidence of cases, and its chain."""
        return Custody(self.state, self.clock, self.ids, self._keep)

    @cached_property
    def preservation(self) -> Preservation:
        """Evidence before containment."""
        return Preservation(self.state, self.clock, self.ids)

    @cached_property
    def reviews(self) -> Reviews:
        """Reviews after incidents."""
        return Reviews(self.state, self.clock, self.ids)

    @cached_property
    def approvals(self) -> Approvals:
        """Approvals that runs ask for."""
        return Approvals(self.state, self.clock)

    @cached_property
    def known_actions(self) -> Mapping[str, Action]:
        """Actions on other systems: the shipped ones, and the files in `actions/` under home."""
        return load_actions(self.settings.home / "actions")

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """Everything that a playbook may call here."""
        return {**SIGNATURES, **{name: action.signature for name, action in self.known_actions.items()}}

    @cached_property
    def actions(self) -> Actions:
        """What playbooks can do: on the real rooms, and on other systems."""
        effects = Effects(self.state, self.clock, self.alerts, keep=self._keep, post=self._post, secret=self._reveal)
        perform: dict[str, Perform] = {
            "snapshot_evidence": effects.snapshot_evidence,
            "notify": effects.notify,
            "revoke_key": revoke_key(self.access),
            "freeze_payouts": freeze_payouts(self.payouts),
            "unfreeze_payouts": unfreeze_payouts(self.payouts),
        }
        preview: dict[str, Preview] = {
            "revoke_key": preview_key(self.access),
            "freeze_payouts": preview_freeze(self.payouts),
        }
        once, reach = Once(self.state, self.clock), self.reach
        for name, action in self.known_actions.items():
            perform[name] = once.guard(name, partial(_swapped, action.perform, reach))
            if action.preview:
                preview[name] = partial(_swapped, action.preview, reach)
        return Actions(perform, preview, self.signatures)

    @property
    def reach(self) -> Reach:
        """What actions reach the world with."""
        folder = self.settings.home / "feeds"
        return Reach(self.egress, self._reveal, self.clock, folder, self.action_ports)

    @property
    def action_ports(self) -> Mapping[str, Any]:
        """Rooms that Vedette's own actions act on."""
        return {"lists": self.lists, "payouts": self.payouts}

    @property
    def world(self) -> World:
        """What the interpreter of playbooks acts on."""
        return World(
            self.actions,
            self.approvals,
            self.cases,
            self.clock,
            Caps(self.state, self.clock),
            self.pulses,
            self.preservation,
        )

    @cached_property
    def pulses(self) -> Pulses:
        """Until when each run of a playbook is to be heard of."""
        return Pulses(self.state, self.clock)

    def responder_on(self, runs: Runs) -> Responder:
        """Starts, shows and decides playbook runs on `runs`."""
        return Responder(
            runs=runs,
            database=self.state,
            alerts=self.alerts,
            cases=self.cases,
            approvals=self.approvals,
            clock=self.clock,
            pulses=self.pulses,
        )

    def close(self) -> None:
        """Finishes what is in hand and closes every part that was opened, last opened first."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _database(self, path: Path, schema: str) -> Database:
        database = open_database(self.settings.database_url or path, schema=schema, service=self.settings.service)
        self._closing.callback(database.close)
        return database

    def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        return self.egress.request("POST", url, headers=headers, content=body).status

    def _reveal(self, name: str) -> str:
        return self.secrets.resolve(name).reveal()

    def _keep(self, record_id: str, tenant: str, kind: str, time: int, content: bytes) -> str:
        self.evidence.append([Entry(record_id, tenant, kind, time, content)])
        return record_id

    def own_secret(self, name: str) -> bytes:
        """A random secret of this installation, made once, readable by its owner only."""
        path = self.settings.own_secrets_folder / name
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = path.with_name(f".{name}.{os.getpid()}")
            write_private(fresh, secrets.token_bytes(32))
            # Of two processes that come first, one wins and both read the same.
            with suppress(FileExistsError):
                path.hardlink_to(fresh)
            fresh.unlink()
        return path.read_bytes()
