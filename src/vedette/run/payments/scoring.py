"""What decides on payments: the model, its features, the rules, and the tenants' services over them."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import msgspec

from vedette.core.clock import Clock, to_iso
from vedette.core.content import shipped
from vedette.core.decision import Decision
from vedette.core.errors import DataError, TransientError, VedetteError
from vedette.core.event import Event
from vedette.core.label import Label
from vedette.core.log import Durability, Log
from vedette.core.money import Money
from vedette.core.redis import Redis
from vedette.judge.decisions.bindings import binding_of
from vedette.judge.decisions.intake import to_event
from vedette.judge.decisions.opening import Books, open_books
from vedette.judge.decisions.parts import Policy, Reasoning, Risks
from vedette.judge.decisions.policies import load_policies
from vedette.judge.decisions.recorder import Answer
from vedette.judge.decisions.remote import Remotes
from vedette.judge.decisions.service import DecisionService, Pending
from vedette.judge.models.model import Model, load_model
from vedette.judge.payment.attributes import with_features
from vedette.judge.payment.files import load_lists, load_rules
from vedette.judge.payment.kept import KeptLists
from vedette.judge.payment.merchants import join
from vedette.judge.payment.own import MerchantRules
from vedette.judge.payment.relist import relist
from vedette.judge.payment.rules import PaymentRules
from vedette.judge.points.point import Point
from vedette.judge.points.scorecard import Scorecard
from vedette.run.metrics import Meters
from vedette.run.payments.loops import Loops
from vedette.run.payments.shipped import set_for, shipped_sets
from vedette.sense.features.definition import FeatureSet
from vedette.sense.sources import Source

Hold = Callable[[DecisionService, Pending], None]
"""Takes a request that its caller has decided by `DecisionService.work`. It may raise as `submit`."""

DEADLINE_S = 0.040
"""What the service may take of the 50 ms in which the caller has an answer; HTTP has the rest."""
MODEL_S = 0.010
"""How long a decision waits for a model in a process of its own."""
OPENING_S = 0.03
"""How long a request waits for a tenant that was made after the server started."""
CARDS, CHARGES = "card_transactions", "product"
NO_POINTS: Mapping[str, Point] = {}
MODEL_CURRENCY = "USD"
"""Currency that `card_transactions` amounts are in. There are no exchange rates here: a charge in another currency is
decided by rules alone, with no score."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """One versioned set of what decides."""

    model: Model | None = None
    rules: PaymentRules = field(default_factory=PaymentRules)
    policy: Policy = Policy.OPEN
    policies: Mapping[str, Policy] = field(default_factory=dict)
    """Merchant -> its own policy."""
    reasoning: Reasoning = Reasoning.ALWAYS
    remote: Path | None = None
    """Directory of the model, when a process of its own answers for it."""


Relist = Callable[[PaymentRules], PaymentRules]


class Attached(Protocol):
    """What takes over a tenant's decider, to try other versions beside it."""

    def attach(
        self, tenant: str, books: Books, features: FeatureSet | None, lists: Relist, remotes: Remotes | None
    ) -> None:
        """Called once, before the tenant's service decides on anything.

        Args:
            tenant: Whose.
            books: What records.
            features: That it computes.
            lists: Gives rules with the tenant's lists as they are now.
            remotes: Start the processes that answer for models; None: models answer in this one.
        """

    def rules(self) -> Sequence[PaymentRules]:
        """Every set of rules that was ever shipped, newest first."""

    def model(self, sha256: str) -> Model | None:
        """A model by the hash of its arrays; what the installation began with when there is no such model."""

    def refresh(self, tenant: str) -> bool:
        """Lets the tenant's deciders ask with the lists as they are now; whether their rules changed."""


def load_scoring(
    model: Path | None,
    rules: Path | None,
    lists: Path | None = None,
    policy: Policy = Policy.OPEN,
    *,
    policies: Path | None = None,
    reasoning: Reasoning = Reasoning.ALWAYS,
    apart: bool = False,
) -> Scoring:
    """Reads a model directory and a rules file; either may be absent. `apart`: the model gets a process of its own.

    Raises:
        DataError, DefinitionError, Problems: What the model, the rules or the lists have wrong, with its place.
    """
    scorer = load_model(model) if model else None
    sets = [scorer.feature_set] if scorer else shipped_sets(CHARGES)
    attributes = with_features(name for each in sets for name in each.names)
    held = load_lists(lists) if lists else {}
    fields = binding_of(scorer.source if scorer else CARDS).spelled()
    found = load_rules(rules, attributes=attributes, lists=held, fields=fields) if rules else PaymentRules()
    own = load_policies(policies) if policies else {}
    return Scoring(scorer, found, policy, own, reasoning, model if apart else None)


class Desk:
    """The decision services, one for each tenant: features, index and writer of one never meet another's.

    Args:
        folder: `decisions/` under home; a folder in it for each tenant.
        log: Shared by all; records are keyed by tenant.
        scoring: What decides.
        sources: The known sources.
        clock: For ingest times and latencies.
        meters: Counts decisions.
        durability: When a decision counts as recorded.
        risks: What alerts say of entities.
        deadline_s: What the service may take for an answer.
        points: What else is decided on than payments, by name: each has services of its own.
        lists: What was added to the lists that rules name; None: nothing.
        owned: Merchants' own rules; None: there are none.
        trials: What was shipped, and its trials.
        redis: Keeps the features of payments; None: this process does.
    """

    def __init__(
        self,
        folder: Path,
        log: Log,
        *,
        scoring: Scoring,
        sources: Mapping[str, Source],
        clock: Clock,
        meters: Meters,
        durability: Durability = Durability.WRITTEN,
        risks: Risks | None = None,
        deadline_s: float = DEADLINE_S,
        points: Mapping[str, Point] = NO_POINTS,
        lists: KeptLists | None = None,
        owned: MerchantRules | None = None,
        trials: Attached | None = None,
        redis: Redis | None = None,
    ) -> None:
        self.points = points
        self._lists = lists
        self._owned = owned
        self._trials = trials
        self._risks = risks
        self._deadline_s = deadline_s
        self._folder = folder
        self._log = log
        self.scoring = scoring
        self._sources = sources
        self._clock = clock
        self._meters = meters
        self._durability = durability
        self._redis = redis
        self._remotes: list[Remotes] = []
        self._open: dict[tuple[str, str], tuple[Books, DecisionService]] = {}
        self._asked: dict[tuple[str, str], tuple[int | str, ...]] = {}
        self._lock = threading.Lock()
        self._loops = Loops()

    def open(self, tenant: str) -> None:
        """Opens the tenant's services, so that no request waits for that; points that are only shipped when used."""
        self.service(tenant)
        for name, point in self.points.items():
            if self._point_folder(tenant, name).is_dir() or not Path(point.path).is_relative_to(shipped("points")):
                self.service(tenant, name)

    def service(self, tenant: str, point: str = "") -> DecisionService:
        """The tenant's service for payments, or for a point; its first use replays what the last process left."""
        return self._opened(tenant, point)[1]

    def _opened(self, tenant: str, point: str) -> tuple[Books, DecisionService]:
        found = self._open.get((tenant, point))
        if found is None:
            with self._lock:
                found = self._open.get((tenant, point))
                if found is None:
                    found = self._start_point(tenant, self.points[point]) if point else self._start(tenant)
                    self._open[tenant, point] = found
        return found

    def relist(self) -> int:
        """Lets the open services ask with the lists as they are now; gives how many of them changed their rules."""
        return sum(self._relist(tenant, point, books) for (tenant, point), (books, _) in list(self._open.items()))

    def _relist(self, tenant: str, point: str, books: Books) -> bool:
        recorder, own = books.recorder, self.points[point].rules if point else self.scoring.rules
        state: tuple[int | str, ...] = (own.version, self._owned.state(tenant) if self._owned and not point else 0)
        state += self._lists.state(tenant, self._clock.now()) if self._lists else ()
        if self._asked.get((tenant, point)) == state:
            return False
        self._asked[tenant, point] = state
        if self._trials and not point:
            return self._trials.refresh(tenant)
        rules = self._with_lists(tenant, own, payments=not point)
        if rules.state == recorder.decider.rules.state:
            return False
        # Between two events the writer asks the one or the other; a decision is made by one of them as a whole.
        recorder.decider = recorder.decider.with_rules(rules)
        return True

    def _with_lists(self, tenant: str, rules: PaymentRules, *, payments: bool = True) -> PaymentRules:
        """Rules with the lists as they are now; those of payments with the sets of merchants, too."""
        found = rules
        if self._lists is not None and (seq := self._lists.newest(tenant)):
            now = self._clock.now()
            found = relist(rules, self._lists.held(tenant, now, seq), blocklists=payments)
            if found is not rules:
                self._lists.note_applied(tenant, found.version, seq, now)
        return self._owned.beside(tenant, found) if self._owned and payments else found

    def rules_of(self, record: Decision) -> PaymentRules:
        """The rules that a decision was made with: shipped ones too, and those of now with other lists."""
        merchant = record.event.get("merchant")
        if self._owned and isinstance(merchant, str):
            found = self._owned.joined(record.tenant, record.rules_version, merchant)
            if found is not None:
                own, platform = found
                return join(self._platform_of(record, platform), own)
        return self._platform_of(record, record.rules_version)

    def _platform_of(self, record: Decision, version: str) -> PaymentRules:
        """The platform's rules of a version; those of now where they are not at hand."""
        point = self.points.get(record.source)
        own = point.rules if point else self.scoring.rules
        kept = self._lists.applied(record.tenant, version) if self._lists else None
        shipped = self._trials.rules() if self._trials and point is None else ()
        found = (one if kept is None else relist(one, kept, blocklists=point is None) for one in (own, *shipped))
        return next((one for one in found if one.version == version), own)

    def rules_now(self, record: Decision) -> PaymentRules:
        """The rules that such an event would be decided with now, with the lists as they are."""
        point = self.points.get(record.source)
        rules = self._with_lists(record.tenant, point.rules if point else self.scoring.rules, payments=point is None)
        return rules.of_merchant(record.event.get("merchant"))

    def rules_live(self, tenant: str) -> PaymentRules:
        """The rules that a tenant's payments are decided with now, with the sets of its merchants."""
        return self._opened(tenant, "")[0].recorder.decider.rules

    def scorer_of(self, record: Decision) -> Model | Scorecard | None:
        """What scored an event, shipped models too; else what scores such events now, None where nothing does."""
        point = self.points.get(record.source)
        if point is None:
            return self._trials.model(record.model.sha256) if self._trials and record.model else self.scoring.model
        return load_model(point.model) if point.model else point.card

    def _start_point(self, tenant: str, point: Point) -> tuple[Books, DecisionService]:
        model = load_model(point.model) if point.model else None
        books = open_books(
            self._point_folder(tenant, point.name),
            features=model.feature_set if model else point.features,
            model=model,
            rules=self._with_lists(tenant, point.rules, payments=False),
            clock=self._clock,
            tenant=tenant,
            policy=point.policy,
            durability=self._durability,
            log=self._log,
            risks=self._risks,
            lane=point,
        )
        return books, DecisionService(books.recorder, deadline_s=self._deadline_s)

    def _point_folder(self, tenant: str, point: str) -> Path:
        return self._folder / tenant / "points" / point

    def _start(self, tenant: str) -> tuple[Books, DecisionService]:
        model, folder, remotes = self.scoring.model, self.scoring.remote, self._apart()
        features = model.feature_set if model else set_for([self.scoring.rules], CHARGES)
        books = open_books(
            self._folder / tenant,
            features=features,
            model=model,
            rules=self._with_lists(tenant, self.scoring.rules),
            clock=self._clock,
            tenant=tenant,
            policy=self.scoring.policy,
            durability=self._durability,
            log=self._log,
            risks=self._risks,
            policies=self.scoring.policies,
            reasoning=self.scoring.reasoning,
            scorer=remotes.of(folder, model.sha256) if remotes and model and folder else None,
            redis=self._redis,
        )
        if self._trials:
            lists = partial(self._with_lists, tenant)
            self._trials.attach(tenant, books, features, lists, remotes)
        return books, DecisionService(books.recorder, deadline_s=self._deadline_s)

    def _apart(self) -> Remotes | None:
        """Processes that answer for models, of one tenant's own: each takes one question at a time."""
        if self.scoring.remote is None:
            return None
        self._remotes.append(Remotes(MODEL_S))
        return self._remotes[-1]

    async def decide(self, event: Event, *, checked: bool = False) -> Decision:
        """The decision on an event, within the deadline whatever stalls; `checked`: it comes from `take`."""
        started = self._clock.monotonic()
        service = await self._ready(event.tenant, event.source if event.source in self.points else "")
        decision = await service.decide(event, checked=checked)
        self._meters.decision(decision.action, decision.fallback or "", self._clock.monotonic() - started)
        return decision

    def submit(self, event: Event, told: Callable[[Answer], None], hold: Hold | None = None) -> bool:
        """As `decide` for an event from `take`, without waiting: `told` hears the answer in the same thread.

        Args:
            event: The event.
            told: Hears the answer.
            hold: Takes the request, for a caller who has it decided; the service's own thread does without.

        Returns:
            False when the tenant's service is not open yet; nobody will hear anything then.

        Raises:
            TransientError: `decision.queue.full`.
        """
        found = self._open.get((event.tenant, event.source if event.source in self.points else ""))
        if found is None:
            return False
        started = self._clock.monotonic()

        def counted(answer: Answer) -> None:
            if isinstance(answer, Decision):
                taken = self._clock.monotonic() - started
                self._meters.decision(answer.action, answer.fallback or "", taken)
            told(answer)

        if hold is None:
            found[1].submit(event, counted)
        else:
            hold(found[1], Pending(event, counted))
        return True

    async def _ready(self, tenant: str, point: str = "") -> DecisionService:
        """The service, when it is open or opens within the wait; a server opens those of all its tenants at start.

        Raises:
            TransientError: `decision.tenant.opening`: it goes on opening meanwhile.
        """
        if found := self._open.get((tenant, point)):
            return found[1]
        opening = asyncio.get_running_loop().run_in_executor(None, self.service, tenant, point)
        opening.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            return await asyncio.wait_for(asyncio.shield(opening), OPENING_S)
        except TimeoutError:
            raise TransientError(
                "decision.tenant.opening", "the tenant's features are being loaded", retry_after=1.0
            ) from None

    def take(self, tenant: str, data: Any, source: str = "") -> Event:
        """An event that can be decided on, from a request.

        Args:
            tenant: Whose it is.
            data: The source's own fields.
            source: Its name; the model's by default.

        Raises:
            DataError: `sources.name.unknown`; what `intake.to_event` refuses.
        """
        name = source or (self.scoring.model.source if self.scoring.model else CARDS)
        if name not in self._sources:
            hint = f"one of {', '.join(self._sources)}"
            raise DataError("sources.name.unknown", "no such source", hint=hint, at="$.source")
        return to_event(data, self._sources[name], tenant=tenant, ingest_time=self._clock.now())

    def decide_charges(self, events: Sequence[Event]) -> Sequence[Decision | VedetteError]:
        """The decisions on charges of one tenant; called from a worker thread, never from an event loop.

        They are decided in order, however long that takes: who sends a batch does not wait at a till.
        """
        service = self.service(events[0].tenant)
        payments = [self.to_payment(event) for event in events]
        started = self._clock.monotonic()
        found = service.decide_many(payments)
        each = (self._clock.monotonic() - started) / len(found)
        for decision in found:
            if isinstance(decision, Decision):
                self._meters.decision(decision.action, decision.fallback or "", each)
        return found

    def decide_each(self, events: Sequence[Event]) -> Sequence[Decision | VedetteError]:
        """The decisions on charges that came at the same time, each within the deadline; from a worker thread."""
        for tenant in {event.tenant for event in events}:
            self.service(tenant)
        return self._loops.run(self._decide_each([self.to_payment(event) for event in events]))

    async def _decide_each(self, payments: Sequence[Event]) -> list[Decision | VedetteError]:
        found = await asyncio.gather(*map(self.decide, payments), return_exceptions=True)
        failed = next((one for one in found if not isinstance(one, Decision | VedetteError)), None)
        if failed is not None:
            raise failed
        return [one for one in found if isinstance(one, Decision | VedetteError)]

    def decide_batch(
        self, tenant: str, records: Sequence[Mapping[str, Any]], source: str = ""
    ) -> list[Decision | VedetteError]:
        """The decisions on records in order, without a deadline; called from a worker thread.

        Raises:
            TransientError: `log.append.*`; some may be decided, and are answered so when asked again.
        """
        taken: list[Event | VedetteError] = []
        for data in records:
            try:
                taken.append(self.take(tenant, data, source))
            except VedetteError as error:
                taken.append(error)
        events = [one for one in taken if isinstance(one, Event)]
        point = events[0].source if events and events[0].source in self.points else ""
        answers = iter(self.service(tenant, point).decide_many(events) if events else [])
        return [next(answers) if isinstance(one, Event) else one for one in taken]

    def to_payment(self, event: Event) -> Event:
        """A charge in the fields that the model knows; unchanged when it does not know such payments."""
        data = event.data
        model = self.scoring.model
        if model is None or model.source != CARDS or data["currency"] != MODEL_CURRENCY:
            return event
        amount = Money(data["amount_minor"], data["currency"])
        known = {
            "TRANSACTION_ID": event.id,
            "TX_DATETIME": to_iso(event.event_time),
            "CUSTOMER_ID": data["source"],
            "TERMINAL_ID": data["metadata"].get("terminal") or data["merchant"],
            "TX_AMOUNT": amount.amount_minor / 10**amount.exponent,
        }
        return msgspec.structs.replace(event, source=CARDS, data={**data, **known})

    async def learn(self, label: Label) -> None:
        """Hands a label to the tenant's features, in the order of its events."""
        service = await self._ready(label.tenant)
        await service.learn(label)

    def find(self, tenant: str, event_id: str) -> Decision | None:
        """The recorded decision of an event; None when the tenant has none. A payment goes before a point's event."""
        kept = [name for name in self.points if self._point_folder(tenant, name).is_dir()]
        found = (self._opened(tenant, lane)[0].recorder.find(event_id) for lane in ("", *kept))
        return next((decision for decision in found if decision), None)

    @property
    def alive(self) -> bool:
        """False when a writer has ended: the process should be replaced."""
        return all(service.alive for _, service in list(self._open.values()))

    def faults(self) -> dict[str, Counter[str]]:
        """Tenant -> answers by policy and refusals so far, by kind."""
        found: dict[str, Counter[str]] = {}
        for (tenant, _), (_, service) in list(self._open.items()):
            counts = found.setdefault(tenant, Counter())
            counts.update({code: count for code, count in list(service.fallbacks.items()) if count > 0})
            counts["refused"] += service.refused
        return found

    def close(self) -> None:
        """Answers what waits, saves the features and closes."""
        with self._lock:
            for books, service in self._open.values():
                asyncio.run(service.close())
                books.checkpoint()
                if books.online:
                    books.online.close()
            self._open.clear()
            for remotes in self._remotes:
                remotes.close()
        self._loops.close()
