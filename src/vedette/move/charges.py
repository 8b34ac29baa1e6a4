"""Charges: from a request to captured money, once.

A charge has two recovery points, each a commit:

1. *claimed*: the idempotency key is taken and the charge has its id. `written`: nothing has moved, so a power cut may
   take it back, and it reaches the disk at the latest with what follows.
2. *finished*: the charge with its decision, the hold, its capture, the webhook and the answer are there, all of them or
   none. `synced`.

Between the two it is decided, under an event id that only this claim can make, so a retry that asks again is answered
the same. A process that dies in between leaves a claim, and nothing half done: the client's retry goes on from there.

Charges of concurrent requests share commits, and so do those of a batch: `create` is `create_many` of one.

Status of a charge:

    captured -> partially_refunded -> refunded
    blocked      (final, no money moved)
    challenged   (final, no money moved: the payer must prove more, then the merchant charges anew)
    failed       (the ledger refused)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

import msgspec

from vedette.core.clock import DAY, Clock
from vedette.core.db import Connection, Database
from vedette.core.decision import Action, Decision
from vedette.core.errors import ConflictError, DataError, VedetteError
from vedette.core.event import Event
from vedette.core.ids import Ids
from vedette.move import chart
from vedette.move.charge import (
    MIGRATIONS,
    REFUNDS,
    Charge,
    ChargeStatus,
    insert,
    load,
    refundable,
    to_hex,
    update,
)
from vedette.move.events import to_charge, to_refund
from vedette.move.group import Group
from vedette.move.idempotency import (
    OPEN,
    Answer,
    Claim,
    Idempotency,
    Request,
    check_key,
    key_in_use,
    lease_lost,
    to_answer,
    to_refusal,
)
from vedette.move.ledger.ledgers import Ledgers
from vedette.move.ledger.nouns import U128_MAX, Account, Transfer, TransferFlags, TransferStatus
from vedette.move.limits import Limiter, Rate
from vedette.move.outbox import Outbox
from vedette.move.requests import ChargeRequest, RefundReason, parse_charge, parse_refund
from vedette.move.writer import CREATED, REFUSED, Step, Writer

__all__ = [
    "MAX_AGE",
    "MAX_BATCH",
    "REFUND_STEPS",
    "STEPS",
    "Charge",
    "ChargeItem",
    "ChargeLimits",
    "ChargeStatus",
    "Charges",
    "to_event_id",
]

CREATE: Final = "POST /v1/charges"
HOLD_S: Final = 7 * 86_400
"""A hold that nobody captures lapses after this many seconds."""
MAX_AGE: Final = DAY
"""How long ago a charge may have been asked for, microseconds."""
MAX_BATCH: Final = 5_000
"""Most charges of one batch."""
SLICE: Final = 500
"""Most charges that share a commit: bounds how long others wait for the database."""
STEPS: Final = (
    "charge.claimed_unsaved",
    "charge.claimed",
    "charge.decided",
    "charge.moved_unsaved",
    "charge.finished",
)
"""Names a `Step` hears while charges are made: before and after every commit."""
REFUND_STEPS: Final = ("refund.claimed", "refund.moved", "refund.finished")
MAX_KNOWN: Final = 200_000
"""Ledger accounts that are remembered to exist."""

Decide = Callable[[Sequence[Event]], Sequence[Decision | VedetteError]]
"""Decides on charges, in order. Asked again with the same event id it must answer the same, or not have answered
before. What one is refused with stands in its place; what it raises is about all of them."""
Outcome = Answer | VedetteError


@dataclass(frozen=True, slots=True)
class ChargeLimits:
    """Rates of charges."""

    per_key: Rate
    """Single ones, of an API key. It and `per_account` pass both or neither is used."""
    per_account: Rate
    """Single ones, of a tenant."""
    per_batch: Rate
    """Batches of a tenant."""


@dataclass(frozen=True, slots=True)
class ChargeItem:
    """One charge of a batch."""

    key: str
    """Idempotency key."""
    charge: Any
    """`{amount_minor, currency, source, merchant, metadata}` as decoded from JSON."""
    time: int | None = None
    """When it was asked for, microseconds UTC: not later than now, at most `MAX_AGE` ago; None: now."""
    api_key: str = ""
    """Id of the API key (or the person) that asked; never the secret."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A checked item."""

    place: int
    request: Request
    charge: ChargeRequest
    time: int


@dataclass(frozen=True, slots=True)
class _Claimed:
    """An item whose key is ours."""

    place: int
    claim: Claim
    charge: ChargeRequest
    event: Event


_Admit = Callable[[_Wanted], None]
_FINAL: Final = {Action.BLOCK: ChargeStatus.BLOCKED, Action.CHALLENGE: ChargeStatus.CHALLENGED}


@dataclass(frozen=True, slots=True)
class _Decided:
    """A charge that only needs its effect."""

    begun: _Claimed
    decision: Decision
    place: int

    @property
    def claim(self) -> Claim:
        return self.begun.claim

    @property
    def charge(self) -> ChargeRequest:
        return self.begun.charge

    @property
    def moves(self) -> bool:
        """Whether money moves."""
        return self.decision.action not in _FINAL


class Charges(Writer):
    """Makes and refunds charges.

    Args:
        db, clock, ids, keys, ledger, outbox: As for any `Writer`.
        decide: Decides on the charges of a batch, which are one tenant's.
        decide_each: Decides on single charges that came at the same time, of any tenants; who sent them waits. As
            `decide` when left out.
        limits: Rate limiter and the rates; None: no limit.
        step: Told the name of each of `STEPS` and `REFUND_STEPS` as it is reached; tests stop a process there.
    """

    COMPONENTS: ClassVar = {"charges": MIGRATIONS}

    def __init__(
        self,
        db: Database,
        clock: Clock,
        ids: Ids,
        *,
        keys: Idempotency,
        ledger: Ledgers,
        outbox: Outbox,
        decide: Decide,
        decide_each: Decide | None = None,
        limits: tuple[Limiter, ChargeLimits] | None = None,
        step: Step = lambda _name: None,
    ) -> None:
        super().__init__(db, clock, ids, keys=keys, ledger=ledger, outbox=outbox, step=step)
        self._decide = decide
        self._decide_each = decide_each or decide
        self._limits = limits
        self._known: set[tuple[str, int]] = set()
        self._claiming: Group[Sequence[_Wanted], list[Claim | Outcome]] = Group(self._claim_together, limit=SLICE)
        self._settling: Group[Sequence[_Decided], list[Outcome]] = Group(self._settle_together, limit=SLICE)

    def create(self, tenant: str, key: str, parameters: Any, *, api_key: str = "", time: int | None = None) -> Answer:
        """Charges once for each idempotency key; every retry gets the first answer, byte for byte.

        Args:
            tenant: Whose charge; walls everything.
            key: Idempotency key.
            parameters: `{amount_minor, currency, source, merchant, metadata}` as decoded from JSON.
            api_key: Id of the caller's API key (or of the person), for its rate limit and for the event that is decided
                on; never the secret.
            time: As `ChargeItem.time`.

        Returns:
            201 with the charge, blocked and challenged ones included; 402 when the ledger refused.

        Raises:
            DataError: `request.pan_refused`, `charge.*`, `money.*`, `idempotency.mismatch`, `idempotency.key.invalid`.
            ConflictError: `idempotency.key_in_use`, `idempotency.lease_lost`.
            TransientError: `limits.rate.exceeded`; nothing is stored, retry with the same key.
        """
        (outcome,) = self.create_each([(tenant, ChargeItem(key, parameters, time, api_key))])
        if isinstance(outcome, VedetteError):
            raise outcome
        return outcome

    def create_each(self, asked: Sequence[tuple[str, ChargeItem]]) -> list[Outcome]:
        """Single charges that came at the same time, each as `create` makes it: (tenant, charge) in, outcome out.

        They share commits, and are decided side by side. What one is refused with stands in its place; what nobody
        foresaw is raised for all of them, which may then be tried one by one.
        """
        outcomes, wanted = self._checked(asked)
        while wanted:
            outcomes |= self._attempt(wanted, self._decide_each, self._admit)
            wanted = [one for one in wanted if one.place not in outcomes]
        return [outcomes[place] for place in range(len(asked))]

    def create_many(self, tenant: str, items: Sequence[ChargeItem]) -> list[Outcome]:
        """Charges as `create` would, one after the other in order of their times, equal times in the order given.

        Commits and decisions are made in groups of at most `SLICE`. What one charge is refused with stands in its place
        and stops no other. A process that dies leaves each of them as `create` would: claimed, or finished.

        Raises:
            DataError: `charge.batch.too_large`.
            TransientError: `limits.rate.exceeded`; nothing is stored.
        """
        if len(items) > MAX_BATCH:
            raise DataError("charge.batch.too_large", f"{len(items)} charges", hint=f"send at most {MAX_BATCH}")
        if self._limits:
            limiter, rates = self._limits
            limiter.ask([(f"batch:{tenant}", rates.per_batch)]).demand()
        outcomes, wanted = self._checked([(tenant, item) for item in items])
        wanted.sort(key=lambda one: one.time)
        for start in range(0, len(wanted), SLICE):
            left = wanted[start : start + SLICE]
            while left:
                outcomes |= self._attempt(left, self._decide, lambda _one: None)
                # A key that came twice: the later one asks again, and mostly finds the answer.
                left = [one for one in left if one.place not in outcomes]
        return [outcomes[place] for place in range(len(items))]

    def get(self, tenant: str, charge_id: str) -> Charge:
        """A charge as it is now.

        Raises:
            NotFoundError: `charge.not_found`, also for another tenant's.
        """
        with self._db.read() as connection:
            return load(connection, tenant, charge_id)

    def refund(self, tenant: str, key: str, charge_id: str, parameters: Any, *, api_key: str = "") -> Answer:
        """Gives back all or part of a captured charge, in one transaction; once for each idempotency key.

        Args:
            tenant: Whose charge.
            key: Idempotency key, its own, not the charge's.
            charge_id: What to refund.
            parameters: `{amount_minor, reason}`; without an amount all that is left.
            api_key: As for `create`.

        Returns:
            201 with the refund; 402 when the charge or the merchant's balance does not hold that much.

        Raises:
            DataError: As for `create`, and `refund.*`.
            NotFoundError: `charge.not_found`.
            ConflictError: `idempotency.*`.
        """
        amount, reason = parse_refund(key, parameters)
        asked = {"amount_minor": amount} | ({"reason": reason.value} if reason else {})
        request = Request(tenant, key, f"POST /v1/charges/{charge_id}/refunds", asked, _asked(api_key))

        def effect(connection: Connection, claim: Claim) -> Answer:
            charge = load(connection, tenant, charge_id, lock=True)
            left = refundable(charge)
            wanted = left if amount is None else amount
            if not 0 < wanted <= left:
                return to_refusal(REFUSED, _too_much(left))
            answer = self._give_back(connection, charge, claim, wanted, reason)
            self._step("refund.moved")
            return answer

        return self._once("refund", request, self._ids.new("re"), effect)

    # Making charges

    def _checked(self, asked: Sequence[tuple[str, ChargeItem]]) -> tuple[dict[int, Outcome], list[_Wanted]]:
        """What is refused as it stands, and the rest."""
        outcomes: dict[int, Outcome] = {}
        wanted: list[_Wanted] = []
        for place, (tenant, item) in enumerate(asked):
            try:
                wanted.append(self._check(tenant, place, item))
            except VedetteError as error:
                outcomes[place] = error
        return outcomes, wanted

    def _check(self, tenant: str, place: int, item: ChargeItem) -> _Wanted:
        charge = parse_charge(item.key, item.charge)
        check_key(item.key)
        now = self._clock.now()
        time = now if item.time is None else item.time
        if not now - MAX_AGE <= time <= now:
            hint = "send microseconds since 1970 UTC, of the last day"
            raise DataError("charge.time.out_of_range", "later than now, or too long ago", hint=hint, at="$.time")
        context = _asked(item.api_key)
        if item.time is not None:
            context["time"] = time
        return _Wanted(place, Request(tenant, item.key, CREATE, msgspec.to_builtins(charge), context), charge, time)

    def _admit(self, one: _Wanted) -> None:
        if self._limits is not None:
            limiter, rates = self._limits
            tenant, asker = one.request.tenant, one.request.context.get("by", "")
            limiter.ask([(f"key:{tenant}:{asker}", rates.per_key), (f"account:{tenant}", rates.per_account)]).demand()

    def _attempt(self, wanted: Sequence[_Wanted], decide: Decide, admit: _Admit) -> dict[int, Outcome]:
        """As `_round`; what is about all of them stands in the place of each that has no answer."""
        try:
            return self._round(wanted, decide, admit)
        except VedetteError as error:
            return {one.place: error for one in wanted}

    def _round(self, wanted: Sequence[_Wanted], decide: Decide, admit: _Admit) -> dict[int, Outcome]:
        """One charge for each key that is not finished yet; place -> outcome. Of a key that comes twice the first.

        Args:
            wanted: In the order to decide.
            decide: What decides on them.
            admit: Asked when a key is new; it may refuse before anything is stored.
        """
        outcomes, fresh = self._look(wanted, admit)
        if not fresh:
            return outcomes
        claims = self._claim(fresh)
        outcomes |= {one.place: found for one, found in claims if not isinstance(found, Claim)}
        mine = [(one, found) for one, found in claims if isinstance(found, Claim)]
        try:
            return outcomes | (self._carry_out([_begin(one, claim) for one, claim in mine], decide) if mine else {})
        except BaseException:
            # Whatever stopped us, the next retry need not wait for the lease: it goes on from the claim.
            self._keys.release(*(claim for _, claim in mine))
            raise

    def _look(self, wanted: Sequence[_Wanted], admit: _Admit) -> tuple[dict[int, Outcome], list[_Wanted]]:
        """What has its answer already or is not admitted, and the first of each other key."""
        outcomes: dict[int, Outcome] = {}
        fresh: dict[tuple[str, str], _Wanted] = {}
        for tenant in {one.request.tenant: None for one in wanted}:
            mine = [one for one in wanted if one.request.tenant == tenant]
            for one, found in zip(mine, self._keys.look([one.request for one in mine]), strict=True):
                if isinstance(found, Answer | VedetteError):
                    outcomes[one.place] = found
                    continue
                first = fresh.setdefault((tenant, one.request.key), one) is one
                if not first or found == OPEN:
                    # A key that is taken was let through before: whoever takes it over finishes what was begun.
                    continue
                try:
                    admit(one)
                except VedetteError as error:
                    outcomes[one.place] = error
                    del fresh[tenant, one.request.key]
        return outcomes, list(fresh.values())

    def _claim(self, wanted: Sequence[_Wanted]) -> list[tuple[_Wanted, Claim | Outcome]]:
        found = self._claiming.do(wanted, len(wanted))
        self._step("charge.claimed")
        return list(zip(wanted, found, strict=True))

    def _claim_together(self, calls: Sequence[Sequence[_Wanted]]) -> list[list[Claim | Outcome]]:
        """Claims of calls that came at the same time, in one commit; of a key that several want the first has it."""
        found: dict[tuple[str, str], Claim | Outcome] = {}
        first: dict[str, dict[str, Request]] = {}
        for request in (one.request for call in calls for one in call):
            first.setdefault(request.tenant, {}).setdefault(request.key, request)

        def work(connection: Connection) -> None:
            for tenant, requests in sorted(first.items()):
                resources = [self._ids.new("ch") for _ in requests]
                claims = self._keys.claim_many(connection, list(requests.values()), resources)
                found.update(((tenant, key), claim) for key, claim in zip(requests, claims, strict=True))
            self._step("charge.claimed_unsaved")

        self._db.together(work, synced=False)
        mine = {id(request) for requests in first.values() for request in requests.values()}
        return [
            [found[one.request.tenant, one.request.key] if id(one.request) in mine else key_in_use() for one in call]
            for call in calls
        ]

    def _carry_out(self, begun: list[_Claimed], decide: Decide) -> dict[int, Outcome]:
        # By event time: that of a claim that is taken over is its first attempt's.
        begun.sort(key=lambda one: one.event.event_time)
        found = list(zip(begun, decide([one.event for one in begun]), strict=True))
        self._step("charge.decided")
        refused = [(one, said) for one, said in found if isinstance(said, VedetteError)]
        if refused:
            self._keys.release(*(one.claim for one, _ in refused))
        decided = [_Decided(one, said, one.place) for one, said in found if isinstance(said, Decision)]
        outcomes: dict[int, Outcome] = {one.place: error for one, error in refused}
        if decided:
            settled = self._settling.do(decided, len(decided))
            self._step("charge.finished")
            outcomes |= {one.place: outcome for one, outcome in zip(decided, settled, strict=True)}
        return outcomes

    def _settle_together(self, calls: Sequence[Sequence[_Decided]]) -> list[list[Outcome]]:
        """Effects of calls that came at the same time, in one commit."""
        every = [replace(one, place=place) for place, one in enumerate(one for call in calls for one in call)]
        newest: dict[tuple[str, str], _Decided] = {}
        for one in every:
            at = (one.claim.tenant, one.claim.key)
            if at not in newest or newest[at].claim.fence < one.claim.fence:
                newest[at] = one
        opened: set[tuple[str, int]] = set()

        def work(connection: Connection) -> dict[int, Outcome]:
            found: dict[int, Outcome] = {}
            for tenant in sorted({tenant for tenant, _ in newest}):
                mine = [one for (whose, _), one in newest.items() if whose == tenant]
                found |= self._settle(connection, mine, opened)
            return found

        found = self._db.together(work)
        # Accounts are never deleted, so what was committed once need not be looked for again.
        self._known = opened if len(self._known) > MAX_KNOWN else self._known | opened
        outcomes = iter([found.get(one.place) or lease_lost() for one in every])
        return [[next(outcomes) for _ in call] for call in calls]

    def _settle(
        self, connection: Connection, decided: Sequence[_Decided], opened: set[tuple[str, int]]
    ) -> dict[int, Outcome]:
        """The whole effect of charges of one tenant, and their answers."""
        # Every attempt starts by showing its fence: one that was taken over stops before it writes.
        held = self._keys.hold(connection, [one.claim for one in decided])
        mine = [one for one in decided if one.claim.key in held]
        outcomes: dict[int, Outcome] = {one.place: lease_lost() for one in decided if one.claim.key not in held}
        if not mine:
            return outcomes
        tenant = mine[0].claim.tenant
        statuses = self._move(connection, tenant, [one for one in mine if one.moves], opened)
        charges = [_to_charge(one, statuses.get(one.place)) for one in mine]
        insert(connection, charges)
        shapes = [charge.to_json() for charge in charges]
        told = [(f"charge.{shape['status']}", shape) for shape in shapes]
        self._outbox.emit_many(connection, tenant, told)
        answers = [
            _refusal(charge, statuses[one.place]) if charge.status is ChargeStatus.FAILED else to_answer(CREATED, shape)
            for one, charge, shape in zip(mine, charges, shapes, strict=True)
        ]
        self._keys.finish_many(connection, [(one.claim, answer) for one, answer in zip(mine, answers, strict=True)])
        self._step("charge.moved_unsaved")
        return outcomes | {one.place: answer for one, answer in zip(mine, answers, strict=True)}

    def _move(
        self, connection: Connection, tenant: str, moving: Sequence[_Decided], opened: set[tuple[str, int]]
    ) -> dict[int, TransferStatus]:
        """Holds and captures; place -> `created`, or why the ledger refused both."""
        accounts: dict[int, Account] = {}
        transfers: list[Transfer] = []
        for one in moving:
            clearing = chart.account(chart.Kind.CLEARING, one.charge.currency)
            merchant = chart.account(chart.Kind.MERCHANT, one.charge.currency, one.charge.merchant)
            accounts |= {clearing.id: clearing, merchant.id: merchant}
            transfers += _transfers(one, clearing, merchant)
        missing = [account for account in accounts.values() if (tenant, account.id) not in self._known]
        if missing:
            self._ledger.create_accounts(tenant, missing, within=connection)
            opened |= {(tenant, account.id) for account in missing}
        statuses = self._ledger.create_transfers(tenant, transfers, within=connection) if transfers else []
        pairs = zip(moving, statuses[::2], statuses[1::2], strict=True)
        # A chain that breaks names its cause at one transfer only.
        return {
            one.place: capture if hold is TransferStatus.LINKED_EVENT_FAILED else hold for one, hold, capture in pairs
        }

    def _give_back(
        self, connection: Connection, charge: Charge, claim: Claim, amount: int, reason: RefundReason | None
    ) -> Answer:
        refund_id, now = claim.resource, self._clock.now()
        refund = Transfer(
            id=chart.to_id("refund", refund_id),
            debit_account_id=chart.account(chart.Kind.MERCHANT, charge.currency, charge.merchant).id,
            credit_account_id=chart.account(chart.Kind.CLEARING, charge.currency).id,
            amount=amount,
            ledger=chart.to_ledger(charge.currency),
            code=chart.Movement.REFUND,
        )
        (status,) = self._ledger.create_transfers(charge.tenant, [refund], within=connection)
        if status is not TransferStatus.CREATED:
            return to_refusal(REFUSED, _refused(status, charge.id))
        refunded = charge.refunded_minor + amount
        whole = refunded == charge.amount_minor
        charge = update(
            connection,
            charge,
            status=ChargeStatus.REFUNDED if whole else ChargeStatus.PARTIALLY_REFUNDED,
            refunded_minor=refunded,
        )
        connection.execute(
            REFUNDS.insert().values(
                tenant=charge.tenant,
                id=refund_id,
                charge_id=charge.id,
                amount_minor=amount,
                transfer_id=refund.id,
                created=now,
            )
        )
        told = to_refund(
            charge,
            refund=refund_id,
            transfer=refund.id,
            amount_minor=amount,
            time=now,
            asked_by=_by(claim),
            reason=reason or "",
        )
        self._told.tell(connection, [told])
        shape = {
            "id": refund_id,
            "charge": charge.id,
            "status": "succeeded",
            "amount_minor": amount,
            "currency": charge.currency,
            "ledger": {"transfer": to_hex(refund.id)},
            **({"reason": reason.value} if reason else {}),
        }
        self._outbox.emit(connection, charge.tenant, "charge.refunded", {"refund": shape, "charge": charge.to_json()})
        return to_answer(CREATED, shape)


def to_event_id(claim: Claim) -> str:
    """The event a claim is decided on: one for each tenant, idempotency key and charge, the same in every attempt."""
    return f"evt_{chart.to_id('event', claim.tenant, claim.key, claim.resource):032x}"


def _asked(api_key: str) -> dict[str, Any]:
    return {"by": api_key} if api_key else {}


def _by(claim: Claim) -> str:
    """Who asked first."""
    return str(claim.context.get("by", ""))


def _begin(one: _Wanted, claim: Claim) -> _Claimed:
    event = to_charge(
        to_event_id(claim),
        one.charge,
        tenant=claim.tenant,
        charge=claim.resource,
        time=claim.context.get("time", claim.created),
        asked_by=_by(claim),
        ingest_time=claim.created,
    )
    return _Claimed(one.place, claim, one.charge, event)


def _transfers(one: _Decided, clearing: Account, merchant: Account) -> tuple[Transfer, Transfer]:
    """The hold and its capture: linked, so both or neither."""
    hold = Transfer(
        id=chart.to_id("hold", one.claim.resource),
        debit_account_id=clearing.id,
        credit_account_id=merchant.id,
        amount=one.charge.amount_minor,
        ledger=clearing.ledger,
        code=chart.Movement.CHARGE,
        timeout=HOLD_S,
        flags=int(TransferFlags.PENDING | TransferFlags.LINKED),
    )
    capture = Transfer(
        id=chart.to_id("capture", one.claim.resource),
        amount=U128_MAX,
        pending_id=hold.id,
        flags=int(TransferFlags.POST_PENDING_TRANSFER),
    )
    return hold, capture


def _to_charge(one: _Decided, moved: TransferStatus | None) -> Charge:
    captured = moved is TransferStatus.CREATED
    return Charge(
        tenant=one.claim.tenant,
        id=one.claim.resource,
        status=_FINAL.get(one.decision.action) or (ChargeStatus.CAPTURED if captured else ChargeStatus.FAILED),
        amount_minor=one.charge.amount_minor,
        refunded_minor=0,
        currency=one.charge.currency,
        source=one.charge.source,
        merchant=one.charge.merchant,
        metadata=one.charge.metadata,
        decision=one.decision,
        hold_id=chart.to_id("hold", one.claim.resource) if captured else None,
        capture_id=chart.to_id("capture", one.claim.resource) if captured else None,
        created=one.claim.created,
    )


def _refusal(charge: Charge, status: TransferStatus) -> Answer:
    return to_refusal(REFUSED, _refused(status, charge.id))


def _too_much(left: int) -> ConflictError:
    return ConflictError(
        "refund.amount.exceeds_captured", f"{left} minor units are left to refund", at="$.amount_minor"
    )


def _refused(status: TransferStatus, charge_id: str) -> ConflictError:
    return ConflictError(f"ledger.{status}", "the ledger refused to move this amount", at=charge_id)
