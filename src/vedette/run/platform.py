"""The platform: every part of an installation, built from its settings and wired to the others.

Ports that a room defines are filled here and nowhere else. A platform is passive until `running`: then its beats follow
the log, deliver webhooks, sign checkpoints and finish what a killed process left.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any

from vedette.act.playbooks.interpreter import make_interpreters
from vedette.act.playbooks.plan import PlannedStep, plan_for
from vedette.act.playbooks.playbook import Playbook
from vedette.act.playbooks.triggers import Triggers
from vedette.core.clock import Clock
from vedette.core.errors import DataError, NotFoundError, VedetteError
from vedette.core.event import Entity, Event
from vedette.core.execute import Executor
from vedette.core.redis import Redis
from vedette.core.settings import Settings
from vedette.core.signal import Signal
from vedette.judge.correlation.definition import Correlation
from vedette.judge.decisions.bounded import BoundedRisks
from vedette.judge.sigma.rules import Rule
from vedette.judge.sigma.text import RuleText, read_text, text_of
from vedette.judge.versions import Kind
from vedette.move.charges import ChargeLimits, Charges
from vedette.move.limits import Limiter, Rate
from vedette.move.misuse import MAX_NOTED, Misuses
from vedette.move.outbox import Dispatcher, through
from vedette.move.webhooks import Scheme
from vedette.run import dataloss
from vedette.run.cases.playbooks import Watch, load_playbooks
from vedette.run.following import Followers
from vedette.run.guard import Beat, beating
from vedette.run.investigation.findings import Finding, explain_signal
from vedette.run.investigation.seeing import sighted
from vedette.run.limits import open_limits
from vedette.run.metrics import Meters
from vedette.run.parts import OWN_SECRETS, Parts
from vedette.run.payments.merchants import Merchants
from vedette.run.payments.rescreening import rescreen
from vedette.run.payments.scoring import DEADLINE_S, Desk, Scoring
from vedette.run.payments.trials import Ended, Trials
from vedette.run.pipeline import decided
from vedette.run.pipeline.detection import Detection
from vedette.run.pipeline.informing import Informing
from vedette.run.pipeline.intake import Intake
from vedette.run.pipeline.learning import Learning
from vedette.run.pipeline.rollout import Edition, Rollout
from vedette.run.pipeline.stream import Stage, advance
from vedette.run.pipeline.teaching import Handing
from vedette.run.rules.trend import Trend
from vedette.run.service import join
from vedette.run.verifying import Verifier
from vedette.run.webhooks import SigningSecrets
from vedette.sense.quarantine import Quarantine, Refused
from vedette.sense.store import Store

REDIS_S = 0.25
"""How long one answer of Redis is waited for, beside the decisions that do without it after some milliseconds."""
RISKS_S = 0.005
"""How long a decision waits for what alerts say of its entities."""
PER_KEY = Rate(100, 1, 200)
PER_ACCOUNT = Rate(500, 1, 1_000)
"""Charges: sustained rate a second and burst, for each API key and for each tenant."""
PER_BATCH = Rate(50, 1, 100)
"""Batches of charges of a tenant."""

SENDERS = 16
"""Webhooks that are sent at a time."""

MONEY_S = 0.5
"""How often what charges wrote is copied from SQLite's write-ahead log: little at a time, so that no charge waits."""


class Platform(Parts):
    """One installation that decides, moves money, follows its log and answers alerts.

    Args:
        settings: Where everything is.
        clock: The one clock.
        scoring: What decides on payments.
        detection: Sigma rules that run on the stream; None detects nothing.
        environ: Where named secrets may be found.
        apart: Another process runs what follows the log (`following`).
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock,
        scoring: Scoring | None = None,
        detection: Detection | None = None,
        environ: Mapping[str, str] | None = None,
        apart: bool = False,
    ) -> None:
        super().__init__(settings, clock=clock, environ=environ)
        if self.shares:
            self._closing.callback(join(self.state, settings, {name: self.own_secret(name) for name in OWN_SECRETS}))
        self.meters = Meters()
        self._apart, self.store = apart, Store(settings.store_folder)
        self.quarantine = Quarantine(self.store.folder, self._count_refused)
        self.access.create_tenant(settings.tenant)
        self.risks = self._bounded_risks()
        self.trials = self._trials_of(scoring or Scoring())
        self.desk = Desk(
            settings.home / "decisions",
            self.log,
            scoring=scoring or Scoring(),
            sources=self.sources,
            clock=clock,
            meters=self.meters,
            durability=settings.decision_durability,
            risks=self.risks,
            deadline_s=DEADLINE_S * settings.patience,
            points=self.points,
            lists=self.lists,
            owned=self.owned,
            trials=self.trials,
            redis=Redis(settings.redis_url, timeout_s=REDIS_S) if settings.redis_url else None,
        )
        self._closing.callback(self.desk.close)
        self.followers = Followers(self, self.store, self.meters, detection)
        self.collector = self.followers.collector
        self.quality = self.followers.quality
        self.telling = self.followers.telling
        self.rollout = Rollout(detection, self.shipments, clock, self.sources, self.cards)
        self.charges = Charges(
            self.money,
            clock,
            self.ids,
            keys=self.idempotency,
            ledger=self.ledger,
            outbox=self.outbox,
            decide=self.desk.decide_charges,
            decide_each=self.desk.decide_each,
            limits=(self.limits, ChargeLimits(PER_KEY, PER_ACCOUNT, PER_BATCH)),
        )
        self.misuses = Misuses(clock, self.ids)
        self.signing = SigningSecrets(settings.secrets_folder, self.secrets, clock)
        self.dispatcher = Dispatcher(
            self.money,
            clock,
            send=through(self.egress),
            secrets_of=self.signing.of,
            rng=random.Random(secrets.randbits(64)),  # noqa: S311 - jitter only
            threads=SENDERS,
        )
        self._closing.callback(self.dispatcher.close)
        self.runs = Executor(self.runs_target, make_interpreters(self.world), standby=self.shares)
        self._closing.callback(self.runs.close)
        self.responder = self.responder_on(self.runs)
        self.verifier = Verifier(settings, clock)
        self._closing.callback(self.verifier.close)
        self._begin()

    def _begin(self) -> None:
        self._note_versions()
        self.learning, self.handing  # noqa: B018 - from here on labels are read
        # Their tables are made here, so that who looks at a page makes none.
        self.merging, self.silence, self.ages, self.channels, self.attention, self.dataloss  # noqa: B018
        self.reviewing, self.bounty, Trend(self.state)

    def _bounded_risks(self) -> BoundedRisks:
        def look(tenant: str, entities: Sequence[Entity]) -> Mapping[Entity, int]:
            return self.alerts.risks(tenant, entities, self.clock.now())

        risks = BoundedRisks(look, RISKS_S * self.settings.patience, lambda code: self.meters.failure("risks", code))
        self._closing.callback(risks.close)
        return risks

    @cached_property
    def limits(self) -> Limiter:
        """What counts requests."""
        return open_limits(
            self.settings.limits_url,
            self.clock,
            failed=lambda code: self.meters.failure("limits", code),
            close=self._closing.callback,
        )

    @cached_property
    def handing(self) -> Handing:
        """Hands verdicts over as labels."""
        return Handing(self.log, self.sightings, lambda label: asyncio.run(self.desk.learn(label)))

    @cached_property
    def learning(self) -> Learning:
        """Teaches the lists of payment rules."""
        return Learning(
            self.log,
            self.lists,
            self.desk.find,
            self.audit,
            lambda code: self.meters.failure("lists", code),
            hear=Informing(self.reviewing.amending, self.review_intake, self.log, self.charges).hear,
        )

    @cached_property
    def merchants(self) -> Merchants:
        """What merchants do with what is theirs."""
        return Merchants(self.owned, self.desk, self.register, self.log, self.audit)

    # What several rooms do together

    def add_endpoint(
        self, tenant: str, url: str, *, scheme: Scheme = "standard", ordered: bool = False
    ) -> tuple[str, str]:
        """Adds a webhook endpoint; gives its id and its signing secret, which is shown this once.

        Raises:
            DefinitionError: What the outbox refuses.
        """
        endpoint = self.outbox.add_endpoint(tenant, url, scheme=scheme, ordered=ordered)
        return endpoint, self.signing.make(endpoint)

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
            self.quarantine,
            self.sources,
            tenant=tenant,
            clock=self.clock,
            locks=self.settings.home / "locks",
            observe=lambda source, count: self.meters.source(source, "appended", count),
        )

    def playbook(self, name: str) -> Playbook:
        """A playbook by its id.

        Raises:
            NotFoundError: `playbook.name.unknown`.
        """
        known = self.playbooks
        if name not in known:
            raise NotFoundError("playbook.name.unknown", "no such playbook", hint=f"one of {', '.join(sorted(known))}")
        return known[name]

    @cached_property
    def playbooks(self) -> Mapping[str, Playbook]:
        """The playbooks by their ids: those that are shipped, and the files in `playbooks/` under home."""
        return load_playbooks(self.settings.home / "playbooks", self.signatures)

    @property
    def action_ports(self) -> Mapping[str, Any]:
        """Rooms that Vedette's own actions act on; only here is what decides."""
        return {**super().action_ports, "rescreen": partial(rescreen, self.desk)}

    @cached_property
    def watch(self) -> Watch:
        """Keeps runs of playbooks going."""

        def tell(_tenant: str, playbook: str, error: VedetteError) -> None:
            self.meters.failure(f"trigger.{playbook}", error.code)

        triggers = Triggers(
            self.responder,
            self.state,
            alerts=self.alerts,
            cases=self.cases,
            clock=self.clock,
            authors=self.authors,
            tell=tell,
        )
        count = partial(self.meters.failure, "playbooks")
        return Watch(self.responder, triggers, log=self.log, clock=self.clock, count=count)

    @property
    def edition(self) -> Edition:
        """The rules as they are now, with their stages; what follows the log takes them within some seconds."""
        return self.rollout.newest()

    @property
    def rules(self) -> Mapping[str, Rule]:
        """The rules that run on the stream, by their ids; of two versions the live one."""
        return self.edition.rules

    @property
    def correlations(self) -> Mapping[str, Correlation]:
        """The correlations that run on the stream, by their ids; of two versions the live one."""
        return self.edition.correlated

    def finding(self, signal: Signal) -> Finding:
        """Why a signal was raised, clause by clause, as far as its rule and event are at hand."""
        return explain_signal(signal, self.rules, self.find_event)

    def find_event(
        self, tenant: str, source: str, event_id: str, event_time: int, entities: Sequence[Entity] = ()
    ) -> Event | None:
        """An event that a rule read; of a decision, the view that rules read.

        The index of sightings leads to its place in the log at once when what it is about is known; the store, which
        gathers events for some seconds, has also those that the log keeps no more.
        """
        if source != decided.SOURCE:
            seen = sighted(self, tenant, source, event_id, event_time, entities)
            return seen or self.store.find(tenant, source, event_id, event_time)
        try:
            found = self.desk.find(tenant, event_id)
        except DataError:  # decided on, and not kept any more
            return None
        if found is None:
            return None
        data, time = decided.view(found), found.time
        return Event(id=event_id, tenant=tenant, source=source, event_time=time, ingest_time=time, data=data)

    def rule_text(self, rule_id: str) -> RuleText | None:
        """What people wrote in a rule; None when it is not at hand."""
        edition = self.edition
        held = edition.rules.get(rule_id) or edition.correlated.get(rule_id)
        if held is None:
            return None
        files = edition.texts.get(rule_id)
        return text_of(files, held.id) if files else read_text(edition.live.paths, held.path, held.id)

    def authors(self, tenant: str, rule_id: str) -> tuple[str, ...]:
        """Who wrote a rule: names in it, and ids of the people of these names. None of them may approve its runs."""
        text = self.rule_text(rule_id)
        names = {name.casefold() for name in text.authors} if text else set()
        people = [person.id for person in self.access.people.list(tenant) if person.name.casefold() in names]
        return (*(text.authors if text else ()), *people)

    def plan(
        self, tenant: str, playbook: Playbook, alert_id: str, *, requester: str, inputs: Mapping[str, Any]
    ) -> list[PlannedStep]:
        """What a run would do, step by step, with what it would touch. Starts nothing."""
        alert = self.alerts.get(tenant, alert_id) if alert_id else None
        return plan_for(alert, playbook, tenant=tenant, requester=requester, given=inputs, actions=self.actions)

    def _note_versions(self) -> None:
        """Keeps since when each rule and model of this installation runs."""
        scoring = self.desk.scoring
        watching: list[Rule | Correlation] = [*self.rules.values(), *self.correlations.values()]
        self.versions.note(Kind.SIGMA, ((rule.id, rule.version) for rule in watching))
        self.versions.note(Kind.PAYMENT, ((rule.id, rule.version) for rule in scoring.rules.rules))
        if scoring.model:
            self.versions.note(Kind.MODEL, [(scoring.model.source, scoring.model.sha256)])

    # Work in the background

    @contextmanager
    def running(self) -> Iterator[None]:
        """Runs the beats until the block ends."""
        with beating(self.beats(), self.meters):
            yield

    def beats(self) -> tuple[Beat, ...]:
        """What happens by itself, and how often. Each is safe to be killed in, and to run twice."""
        return (
            *(() if self._apart else self.followers.beats()),
            Beat("trials", 1.0, self.trials.turn),
            Beat("faults", 1.0, self._tell_faults),
            Beat("money", MONEY_S, lambda: self.money.checkpoint() and 0),
            Beat("misuse", 1.0, self._tell_misuse, enough=MAX_NOTED),
            Beat("webhooks", 0.5, self.dispatcher.run_once),
            Beat("playbooks", 2.0, lambda: self.watch.turn(self.access.tenants(), self.playbooks)),
            Beat("runs", 60.0, self.watch.look),
            Beat("outbox", 3_600.0, self.outbox.sweep),
            Beat("ledger", 10.0, self._expire),
            Beat("disputes", 60.0, self.disputes.lapse),
            Beat("verdicts", 5.0, self._teach),
            Beat("cases", 5.0, self._watch_cases),
            Beat("silence", 5.0, self.silence.wake),
            Beat("ages", 60.0, self._tell_ages),
            Beat("channels", 2.0, self._message),
            Beat("urgency", 10.0, lambda: sum(map(self.urgency.weigh, self.access.tenants())) and 0),
            # A little at a time: whoever decides waits for the interpreter meanwhile.
            Beat("lists", 0.25, self.learning.step),
            Beat("relist", 1.0, self.desk.relist),
            # Never at once again: it takes a bounded share of a processor.
            Beat("dataloss", dataloss.TURN_S, self.dataloss.turn, enough=1 << 30),
            Beat("access", 60.0, self._flush),
            Beat("idempotency", 3_600.0, self.idempotency.sweep),
        )

    @property
    def stages(self) -> tuple[Stage, ...]:
        """What follows the log."""
        return self.followers.stages

    def turn(self) -> int:
        """One turn of everything that follows the log; gives how many records were taken."""
        return sum(advance(self.log, self.stages, self.meters, guard=True).values())

    def drain(self, tell: Callable[[Mapping[str, int]], None] = lambda _taken: None) -> Mapping[str, int]:
        """Turns until nothing is new, and takes what is settled into the evidence tree.

        Args:
            tell: Told after each turn how many records each stage has taken so far.

        Returns:
            Stage -> records it took.

        Raises:
            VedetteError: What a stage raised; its place stays where it was.
        """
        total: Counter[str] = Counter({stage.name: 0 for stage in self.stages})
        while self.telling.turn() + sum((taken := advance(self.log, self.stages, self.meters)).values()):
            total.update(taken)
            tell(total)
        self.collector.collect()
        return total

    def lags(self) -> dict[str, int]:
        """Stage -> records between its place and the end of the log."""
        return {"telling": self.telling.lag()} | {stage.name: stage.lag(self.log) for stage in self.followers.begun}

    def _trials_of(self, scoring: Scoring) -> Trials:
        """Trials of what was shipped over what the installation began with."""
        return Trials(
            scoring,
            self.scoring_shipments,
            self.models,
            self.log,
            self.clock,
            folder=self.settings.home / "trials",
            control=self.settings.control_share,
            tell=self._tell_ended,
        )

    def _tell_ended(self, ended: Ended) -> None:
        """A trial was taken back by itself: counted, and in the audit trail."""
        self.meters.failure("trial", ended.breach.guard)
        harm = ended.harm
        detail = {"change": str(ended.seq), "title": ended.title, "guard": str(ended.breach.guard)}
        detail |= {"why": ended.breach.text[:200], "hurt": str(harm.hurt), "missed": str(harm.missed)}
        self.audit.record(
            ended.tenant, "model.rollback", actor="system", target=str(ended.part), origin="trials", detail=detail
        )

    def _count_refused(self, added: Sequence[Refused]) -> None:
        for each in added:
            self.meters.refused(each.source, each.code)

    def _flush(self) -> int:
        self.access.flush()
        self.access.sweep()
        return 0

    def _tell_faults(self) -> int:
        for tenant, counts in self.desk.faults().items():
            self.faults.watch(tenant, counts)
        return 0

    def _teach(self) -> int:
        """Verdicts on decisions become labels."""
        paid = [owed for owed in self.reviewing.owed() if self.handing.hand(owed.label)]
        for owed in paid:
            self.reviewing.paid(owed)
        return len(paid) + self.triage.teach(self._is_decided, self.handing.hand)

    def _message(self) -> int:
        """Alerts that came are told to the people of their routes."""
        for tenant in self.access.tenants():
            self.channels.gather(tenant)
        return self.channels.send()

    def _tell_ages(self) -> int:
        tenants = self.access.tenants()
        self.meters.reviews([self.reviewing.waiting(tenant) for tenant in tenants])
        self.meters.reports([self.bounty.standing(tenant) for tenant in tenants])
        late = sum(len(self.reviewing.tell_overdue(tenant)) + self.bounty.tell_overdue(tenant) for tenant in tenants)
        return late + sum(self.ages.tell(tenant) for tenant in tenants)

    def _watch_cases(self) -> int:
        """Reminders of tasks, warnings of clocks, and links of custody that a kill kept from the evidence tree."""
        return self.work.remind() + self.clocks.warn() + self.custody.settle()

    def _is_decided(self, tenant: str, event_id: str) -> bool:
        try:
            return self.desk.find(tenant, event_id) is not None
        except DataError:  # decided on, and not kept any more
            return True

    def _tell_misuse(self) -> int:
        return self.misuses.tell(self.told)

    def _expire(self) -> int:
        return sum(self.ledger.expire(tenant) for tenant in self.access.tenants())
