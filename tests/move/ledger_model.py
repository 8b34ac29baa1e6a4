"""The ledger again, written the slow and obvious way: the oracle for the real one.

It keeps a list of accepted transfers with their stamps and nothing else; every balance is summed from that list when it is asked for, and
every status is found by going down the published list of statuses and asking of each whether it applies.
"""

from vedette.move.ledger.nouns import NANOS, U128_MAX

LINKED, PENDING, POST, VOID, BDR, BCR, CDR, CCR = (1 << bit for bit in range(8))
D_LE_C, C_LE_D, CLOSED = 2, 4, 32
BURNS = {
    "debit_account_not_found",
    "credit_account_not_found",
    "pending_transfer_not_found",
    "exceeds_credits",
    "exceeds_debits",
    "debit_account_already_closed",
    "credit_account_already_closed",
}


class Model:
    """No imports: those are covered by the tables of their own test."""

    def __init__(self):
        self.accounts = {}
        self.done = []  # accepted transfers, oldest first: (transfer, amount)
        self.expired = set()
        self.times = {}  # id of an accepted transfer -> its stamp
        self.burnt = set()

    def find(self, id_):
        return next(((t, amount) for t, amount in self.done if t.id == id_), (None, 0))

    def resolution(self, id_):
        for t, _ in self.done:
            if t.flags & (POST | VOID) and t.pending_id == id_:
                return "posted" if t.flags & POST else "voided"
        return "expired" if id_ in self.expired else "pending"

    def balance(self, account):
        """(debits pending, debits posted, credits pending, credits posted)."""
        sums = [0, 0, 0, 0]
        for t, amount in self.done:
            p = self.find(t.pending_id)[0] if t.flags & (POST | VOID) else t
            if t.flags & VOID or (t.flags & PENDING and self.resolution(t.id) != "pending"):
                continue
            for side, id_ in ((0, p.debit_account_id), (2, p.credit_account_id)):
                if id_ == account:
                    sums[side + (0 if t.flags & PENDING else 1)] += amount
        return tuple(sums)

    def closed(self, account):
        return bool(self.accounts[account].flags & CLOSED) or any(
            ((t.flags & CDR and t.debit_account_id == account) or (t.flags & CCR and t.credit_account_id == account))
            and self.resolution(t.id) == "pending"
            for t, _ in self.done
            if t.flags & PENDING
        )

    def lapses(self, t, now):
        """Whether the time of a reservation that was made is over at `now`, nanoseconds."""
        return bool(t.timeout) and self.times[t.id] + t.timeout * NANOS <= now

    def expire(self, now):
        for t, _ in self.done:
            if t.flags & PENDING and self.lapses(t, now) and self.resolution(t.id) == "pending":
                self.expired.add(t.id)

    def batch(self, transfers, base):
        """Statuses of a batch stamped from `base` on, chains by trial: a broken chain puts a copy of the list back."""
        statuses, start = [], None
        for place, t in enumerate(transfers):
            linked = t.flags & LINKED
            if linked and start is None:
                start, held, broken = place, list(self.done), False
            if linked and place == len(transfers) - 1:
                status = "linked_event_chain_open"
            elif start is not None and broken:
                status = "linked_event_failed"
            elif t.timestamp:
                status = "timestamp_must_be_zero"
            else:
                status = self.create(t, base + place)
            statuses.append(status)
            if start is not None and status != "created" and not broken:
                broken, self.done = True, held
                statuses[start:place] = ["linked_event_failed"] * (place - start)
            if status in BURNS:
                self.burnt.add(t.id)
            if not linked:
                start = None
        return statuses

    def create(self, t, stamp):
        status = next((name for name, applies in self.statuses(t, stamp) if applies()), "created")
        if status == "created":
            self.done.append((t, self.amount(t)))
            self.times[t.id] = stamp
        return status

    def amount(self, t):
        _, held = self.find(t.pending_id)
        if t.flags & (POST | VOID):
            return held if t.amount == (U128_MAX if t.flags & POST else 0) else t.amount
        amount = t.amount
        if t.flags & BDR:
            dp, dpo, _, cpo = self.balance(t.debit_account_id)
            amount = min(amount, max(0, cpo - dp - dpo))
        if t.flags & BCR:
            _, dpo, cp, cpo = self.balance(t.credit_account_id)
            amount = min(amount, max(0, dpo - cp - cpo))
        return amount

    def statuses(self, t, stamp):
        """(status, does it apply) in the published order of precedence."""
        resolving, f = t.flags & (POST | VOID), t.flags
        e, moved = self.find(t.id)
        p, held = self.find(t.pending_id)
        dr, cr = self.accounts.get(t.debit_account_id), self.accounts.get(t.credit_account_id)
        wild = e is not None and bool(e.flags & (POST | VOID))

        def unlike(name):
            mine, theirs = getattr(t, name), getattr(e, name)
            if not wild:
                return mine != theirs
            theirs = theirs or getattr(p, name)
            return (mine or (getattr(p, name) if name.startswith("user") else theirs)) != theirs

        def other_amount():
            if wild or not f & (BDR | BCR):
                return self.amount(t) != moved if wild else t.amount != moved
            return t.amount < moved

        def over(limit, side, account):
            b = self.balance(account)
            return bool(self.accounts[account].flags & limit) and self.amount(t) + b[side] + b[side + 1] > b[3 - side]

        def overflow(account, *sides):
            return self.amount(t) + sum(self.balance(account)[side] for side in sides) > U128_MAX

        both = (t.debit_account_id, t.credit_account_id)
        yield "reserved_flag", lambda: f >= 1 << 9
        yield "id_must_not_be_zero", lambda: t.id == 0
        yield "id_must_not_be_int_max", lambda: t.id == U128_MAX
        if e is not None:
            for name in ("flags", "pending_id", "timeout", "debit_account_id", "credit_account_id"):
                exact = name in ("flags", "pending_id", "timeout")
                yield (
                    f"exists_with_different_{name}",
                    lambda name=name, exact=exact: getattr(t, name) != getattr(e, name) if exact else unlike(name),
                )
            yield "exists_with_different_amount", other_amount
            for name in ("user_data_128", "user_data_64", "user_data_32", "ledger", "code"):
                yield f"exists_with_different_{name}", lambda name=name: unlike(name)
            yield "exists", lambda: True
        yield "id_already_failed", lambda: t.id in self.burnt
        yield (
            "flags_are_mutually_exclusive",
            lambda: resolving and bool(f & (PENDING | BDR | BCR | CDR | CCR) or resolving == POST | VOID),
        )
        for side, id_ in zip(("debit", "credit"), both, strict=True):
            yield f"{side}_account_id_must_not_be_zero", lambda id_=id_: not resolving and id_ == 0
            yield f"{side}_account_id_must_not_be_int_max", lambda id_=id_: not resolving and id_ == U128_MAX
        yield "accounts_must_be_different", lambda: not resolving and both[0] == both[1]
        yield "pending_id_must_be_zero", lambda: not resolving and t.pending_id != 0
        yield "pending_id_must_not_be_zero", lambda: resolving and t.pending_id == 0
        yield "pending_id_must_not_be_int_max", lambda: resolving and t.pending_id == U128_MAX
        yield "pending_id_must_be_different", lambda: resolving and t.pending_id == t.id
        yield "timeout_reserved_for_pending_transfer", lambda: t.timeout != 0 and not f & PENDING
        yield "closing_transfer_must_be_pending", lambda: bool(f & (CDR | CCR)) and not f & PENDING
        if not resolving:
            yield "ledger_must_not_be_zero", lambda: t.ledger == 0
            yield "code_must_not_be_zero", lambda: t.code == 0
            yield "debit_account_not_found", lambda: dr is None
            yield "credit_account_not_found", lambda: cr is None
            yield "accounts_must_have_the_same_ledger", lambda: dr.ledger != cr.ledger
            yield "transfer_must_have_the_same_ledger_as_accounts", lambda: t.ledger != dr.ledger
        else:
            yield "pending_transfer_not_found", lambda: p is None
            yield "pending_transfer_not_pending", lambda: not p.flags & PENDING
            for name in ("debit_account_id", "credit_account_id", "ledger", "code"):
                yield (
                    f"pending_transfer_has_different_{name}",
                    lambda name=name: getattr(t, name) not in (0, getattr(p, name)),
                )
            yield "exceeds_pending_transfer_amount", lambda: self.amount(t) > held
            yield "pending_transfer_has_different_amount", lambda: bool(f & VOID) and self.amount(t) < held
            for name in ("posted", "voided"):
                yield f"pending_transfer_already_{name}", lambda name=name: self.resolution(p.id) == name
            yield "pending_transfer_expired", lambda: p.id in self.expired or self.lapses(p, stamp)
        sides = (p.debit_account_id, p.credit_account_id) if resolving and p is not None else both
        yield "debit_account_already_closed", lambda: not f & VOID and self.closed(sides[0])
        yield "credit_account_already_closed", lambda: not f & VOID and self.closed(sides[1])
        if resolving:
            return
        yield "overflows_debits_pending", lambda: bool(f & PENDING) and overflow(both[0], 0)
        yield "overflows_credits_pending", lambda: bool(f & PENDING) and overflow(both[1], 2)
        yield "overflows_debits_posted", lambda: overflow(both[0], 1)
        yield "overflows_credits_posted", lambda: overflow(both[1], 3)
        yield "overflows_debits", lambda: overflow(both[0], 0, 1)
        yield "overflows_credits", lambda: overflow(both[1], 2, 3)
        yield "exceeds_credits", lambda: over(D_LE_C, 0, both[0])
        yield "exceeds_debits", lambda: over(C_LE_D, 2, both[1])
