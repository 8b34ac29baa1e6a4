"""What merchants do with what is theirs: look at payments, try rules on them, ship rules for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from vedette.core.errors import NotFoundError, TransientError
from vedette.core.log import Log
from vedette.judge.backtest.merchant import OwnReport, own_notes, own_report
from vedette.judge.backtest.payments import backtest
from vedette.judge.decisions.provided import provided
from vedette.judge.decisions.register import Filters, Place, Register, Row
from vedette.judge.payment.merchants import READABLE, join, read_own
from vedette.judge.payment.own import MerchantRules, OwnRules
from vedette.judge.payment.rules import OWN, Note, PaymentRules
from vedette.judge.reasons import MerchantView, load_words, merchant_view
from vedette.prove.audit import Audit
from vedette.run.payments.past import fetch_past
from vedette.run.payments.scoring import CHARGES, Desk

BUSY_S = 2.0
"""When somebody who found the backtester busy should come again."""


class Payment(msgspec.Struct, frozen=True, kw_only=True):
    """A payment in a merchant's list."""

    event_id: str
    time: int
    """Microseconds UTC."""
    action: str
    amount_minor: int | None
    currency: str


class Checked(msgspec.Struct, frozen=True):
    """What was found of a merchant's rules before any payment is looked at."""

    rules: tuple[str, ...]
    """Their ids."""
    notes: tuple[Note, ...]


class Merchants:
    """The merchants of an installation and what is theirs. Safe to use from several threads.

    Args:
        owned: Their rules.
        desk: Decides on their payments.
        register: The index of decisions.
        log: Holds the past.
        audit: Hears what is shipped.
    """

    def __init__(self, owned: MerchantRules, desk: Desk, register: Register, log: Log, audit: Audit) -> None:
        self.owned = owned
        self._desk = desk
        self._register = register
        self._log = log
        self._audit = audit
        self._trying = threading.Lock()

    def payments(
        self,
        tenant: str,
        merchant: str,
        *,
        filters: Filters = Filters(),  # noqa: B008 - a frozen value
        after: Place | None = None,
        limit: int = 100,
    ) -> list[tuple[Payment, Place]]:
        """A merchant's payments, newest first, each with its place in the list.

        Args:
            tenant: Whose merchant.
            merchant: Whose payments.
            filters: Which of them.
            after: The last place of the page before.
            limit: Most payments.
        """
        wanted = msgspec.structs.replace(filters, merchants=(merchant,))
        rows = self._register.find(tenant, wanted, after=after, limit=limit)
        return [(_payment(row), Place(row.time, row.seq)) for row in rows]

    def view(self, tenant: str, merchant: str, event_id: str) -> MerchantView:
        """A decision on one of the merchant's payments, in plain words.

        Raises:
            NotFoundError: `decision.event.unknown`, also for another's payment.
        """
        record = self._desk.find(tenant, event_id)
        if record is None or record.event.get("merchant") != merchant:
            raise NotFoundError("decision.event.unknown", "no decision on an event of that id", at=event_id[:64])
        return merchant_view(record, self._desk.rules_of(record), load_words(), merchant=merchant)

    def standing(self, tenant: str, merchant: str) -> OwnRules:
        """The merchant's rules as they stand; without any, number 0."""
        found = self.owned.standing(tenant, merchant)
        return found or OwnRules(merchant=merchant, number=0, rules="", lists=[], operator="", reason="", time=0)

    def check(self, merchant: str, rules: str, lists: Sequence[Any] = ()) -> Checked:
        """Reads rules with their tests.

        Raises:
            Problems, DefinitionError: What `read_own` refuses.
        """
        return check_own(read_own(merchant, rules, lists))

    def backtest(
        self, tenant: str, merchant: str, rules: str, lists: Sequence[Any] = (), *, since: int = 0, until: int = 1 << 62
    ) -> OwnReport:
        """What rules would have done with the merchant's past payments, beside those that stand now.

        Reads the whole log, so one at a time.

        Raises:
            Problems, DefinitionError: What `read_own` refuses.
            TransientError: `payment.backtest.busy`.
        """
        new = read_own(merchant, rules, lists)
        if not self._trying.acquire(blocking=False):
            raise TransientError("payment.backtest.busy", "another backtest runs", retry_after=BUSY_S)
        try:
            live = self._desk.rules_live(tenant)
            old = live.of_merchant(merchant)
            return backtest_own(self._log, tenant, merchant, new, platform=live, old=old, since=since, until=until)
        finally:
            self._trying.release()

    def ship(
        self,
        tenant: str,
        merchant: str,
        rules: str,
        lists: list[dict[str, Any]],
        *,
        operator: str,
        reason: str = "",
        after: int | None = None,
        origin: str = "",
    ) -> OwnRules:
        """Ships a version; payments are judged by it within seconds. Raises as `MerchantRules.ship`."""
        made = self.owned.ship(tenant, merchant, rules, lists, operator=operator, reason=reason, after=after)
        tell_shipped(self._audit, tenant, made, origin=origin)
        return made

    def restore(self, tenant: str, merchant: str, number: int, *, operator: str, origin: str = "") -> OwnRules:
        """Ships an earlier version again; 0: no rules.

        Raises:
            NotFoundError: `payment.merchant.version_unknown`.
        """
        old = self.owned.version(tenant, merchant, number) if number else None
        rules, lists = (old.rules, old.lists) if old else ("", [])
        reason = f"back to version {number}"
        return self.ship(tenant, merchant, rules, lists, operator=operator, reason=reason, origin=origin)


def check_own(rules: PaymentRules) -> Checked:
    """Ids of a merchant's rules, and what their author should look at."""
    known = provided(CHARGES) & {f":{name}:" for name in READABLE}
    return Checked(tuple(rule.id.removeprefix(OWN) for rule in rules.rules), own_notes(rules.check(known)))


def backtest_own(
    log: Log,
    tenant: str,
    merchant: str,
    new: PaymentRules,
    *,
    platform: PaymentRules,
    old: PaymentRules,
    since: int = 0,
    until: int = 1 << 62,
    tell: Callable[[int], None] = lambda _count: None,
) -> OwnReport:
    """A backtest over one merchant's recorded payments.

    Args:
        log: Of the installation.
        tenant: Whose merchant.
        merchant: Whose payments; no other is read.
        new: Its rules, from `read_own`.
        platform: The platform's rules.
        old: The joined set to compare with.
        since: Event time from, microseconds UTC, included.
        until: Event time to, not included.
        tell: Hears how many records were read.
    """
    past = fetch_past(log, tenant, since=since, until=until, tell=tell, merchant=merchant)
    return own_report(backtest(join(platform, new), past, old=old))


def tell_shipped(audit: Audit, tenant: str, made: OwnRules, *, origin: str = "") -> None:
    """Says in the audit trail that a merchant's rules changed."""
    detail = {"version": str(made.number), "reason": made.reason[:200]}
    audit.record(tenant, "own_rules.ship", actor=made.operator, target=made.merchant, detail=detail, origin=origin)


def _payment(row: Row) -> Payment:
    return Payment(
        event_id=row.event_id,
        time=row.time,
        action=row.action.value,
        amount_minor=row.amount_minor,
        currency=row.currency,
    )
