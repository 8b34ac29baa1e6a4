"""The ledger's auditor: reads raw rows, believes none of them, and recomputes every balance from the transfers.

It shares no code with what writes the ledger and only decodes what the tables hold, so a bug there cannot hide itself
here. It finds an edited balance, an edited, added or removed transfer, a wrong or missing resolution, a limit that does
not hold, and a charge, refund or payout whose money the ledger does not show. Rows changed consistently everywhere are
beyond it, and so is the amount of a reservation that lapsed: that is what the evidence tree and its outside anchor are
for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from vedette.core.db import Connection, Database, sa
from vedette.core.errors import DataError

_PENDING: Final = 2
_POST: Final = 4
_VOID: Final = 8
_ASIDE: Final = 1 | 256
"""Linked and imported: they say nothing of what a transfer does."""
_ALL_FLAGS: Final = 511
_CLOSES_DEBIT: Final = 64
_CLOSES_CREDIT: Final = 128
_DEBITS_LIMITED: Final = 2
_CREDITS_LIMITED: Final = 4
_CLOSED: Final = 32
_HISTORY: Final = 8
_BALANCES: Final = ("debits_pending", "debits_posted", "credits_pending", "credits_posted")
MAX_FINDINGS: Final = 1_000
"""Findings that are kept; the count goes on."""
BATCH: Final = 10_000
"""Rows fetched at a time."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    tenant: str
    code: str
    """`account.*`, `transfer.*`, `pending.*`, `charge.*`, `payout.*`, `dispute.*`, `crossing.*`."""
    id: str
    """Of the row: hexadecimal for accounts and transfers."""
    detail: str


@dataclass(slots=True)
class Report:
    """What a check saw."""

    accounts: int = 0
    transfers: int = 0
    found: int = 0
    findings: list[Finding] = field(default_factory=list)
    """At most `MAX_FINDINGS` of `found`."""

    def add(self, tenant: str, code: str, id_: int | str, detail: str) -> None:
        """Notes a finding."""
        self.found += 1
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(tenant, code, f"{id_:032x}" if isinstance(id_, int) else id_, detail))


@dataclass(slots=True)
class _Sums:
    """What the transfers say about one account."""

    debits_pending: int = 0
    debits_posted: int = 0
    credits_pending: int = 0
    credits_posted: int = 0
    closed: int = 0
    newest: int = 0
    moves: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    """(time, changes of the four balances), for accounts that keep their balances."""


Row = Mapping[str, Any]


def check(db: Database) -> Report:
    """Reads one consistent state of the whole ledger.

    Memory: about 150 bytes a transfer of one tenant at a time.

    Raises:
        DataError: `ledger.check.no_tables` when there is no ledger in this database.
    """
    report = Report()
    tables = set(sa.inspect(db.engine).get_table_names())
    if "ledger_account" not in tables:
        raise DataError("ledger.check.no_tables", "there is no ledger in this database")
    with db.read() as connection:
        if not db.is_sqlite:
            connection.exec_driver_sql("set transaction isolation level repeatable read read only")
        tenants = connection.execute(
            sa.text("select tenant from ledger_account union select tenant from ledger_transfer order by 1")
        ).scalars()
        for tenant in list(tenants):
            _Tenant(connection, tenant, report).run(tables)
    return report


class _Tenant:
    def __init__(self, connection: Connection, tenant: str, report: Report) -> None:
        self.connection = connection
        self.tenant = tenant
        self.report = report
        self.accounts = {row["id"]: row for row in self.rows("ledger_account")}
        self.sums = {id_: _Sums() for id_ in self.accounts}
        self.statuses = {row["id"]: row for row in self.rows("ledger_pending")}
        self.pendings: dict[int, Row] = {}
        self.resolved: dict[int, str] = {}
        self.amounts: dict[int, int] = {}
        report.accounts += len(self.accounts)

    def rows(self, table: str, order: str = "tenant") -> Iterator[Row]:
        """Raw rows of the tenant, wide numbers decoded; table and order are ours."""
        query = sa.text(f"select * from {table} where tenant = :tenant order by {order}")
        result = self.connection.execution_options(yield_per=BATCH).execute(query, {"tenant": self.tenant})
        for row in result.mappings():
            yield {name: _decode(value) for name, value in row.items()}

    def say(self, code: str, id_: int | str, detail: str) -> None:
        self.report.add(self.tenant, code, id_, detail)

    def run(self, tables: set[str]) -> None:
        for t in self.rows("ledger_transfer", "timestamp, id"):
            self.report.transfers += 1
            self.amounts[t["id"]] = t["amount"]
            self.transfer(t)
        for id_, p in self.pendings.items():
            self.pending(id_, p)
        for id_ in self.statuses.keys() - self.pendings.keys():
            self.say("pending.orphan", id_, "a status without its two-phase transfer")
        for id_, account in self.accounts.items():
            self.account(id_, account)
        for row in self.rows("ledger_failed"):
            if row["id"] in self.amounts:
                self.say("transfer.burnt", row["id"], "this id is noted as failed, yet it moved money")
        self.trial_balance()
        beside = {
            "ledger_balance": self.kept,
            "charge": self.charges,
            "payout": self.payouts,
            "dispute": self.disputes,
            "crossing_out": self.crossings_out,
            "crossing_in": self.crossings_in,
        }
        for table, look in beside.items():
            if table in tables:
                look()

    def transfer(self, t: Row) -> None:
        id_, flags = t["id"], t["flags"]
        debit, credit = self.accounts.get(t["debit_account_id"]), self.accounts.get(t["credit_account_id"])
        if debit is None or credit is None:
            self.say("transfer.account_missing", id_, "moves money of an account that does not exist")
            return
        if debit is credit or not debit["ledger"] == credit["ledger"] == t["ledger"]:
            self.say("transfer.ledger", id_, "the two accounts must differ and share the transfer's ledger")
        for side in (debit, credit):
            sums = self.sums[side["id"]]
            if t["timestamp"] <= sums.newest or t["timestamp"] <= side["timestamp"]:
                self.say("transfer.timestamp", id_, "not after the account's creation and its earlier transfers")
            sums.newest = t["timestamp"]
        if flags > _ALL_FLAGS or (flags & (_POST | _VOID) and flags & ~(_POST | _VOID | _ASIDE)) or _both(flags):
            self.say("transfer.flags", id_, f"no transfer has the flags {flags}")
        if flags & (_POST | _VOID):
            self.resolution(t)
        elif flags & _PENDING:
            self.pendings[id_] = t
            self.note(t, t["timestamp"], t["amount"], 0)
        else:
            self.move(t, t["amount"])
            self.note(t, t["timestamp"], 0, t["amount"])

    def resolution(self, t: Row) -> None:
        id_, p = t["id"], self.pendings.get(t["pending_id"])
        if p is None:
            self.say("transfer.pending_missing", id_, "resolves a two-phase transfer that is not there before it")
            return
        if t["pending_id"] in self.resolved:
            self.say("transfer.resolved_twice", id_, "its two-phase transfer was resolved before")
            return
        same = all(t[name] == p[name] for name in ("debit_account_id", "credit_account_id", "ledger", "code"))
        void = bool(t["flags"] & _VOID)
        if not same or t["amount"] > p["amount"] or (void and t["amount"] != p["amount"]):
            self.say("transfer.resolution", id_, "does not fit the two-phase transfer it resolves")
        self.resolved[t["pending_id"]] = "voided" if void else "posted"
        self.note(t, t["timestamp"], -p["amount"], 0 if void else t["amount"])
        if not void:
            self.move(t, t["amount"])

    def note(self, t: Row, time: int, pending: int, posted: int) -> None:
        """A change of balances at a time, where it is kept."""
        for side, name in enumerate(("debit_account_id", "credit_account_id")):
            account = self.accounts.get(t[name])
            if account is not None and account["flags"] & _HISTORY:
                change = (time, pending, posted, 0, 0) if side == 0 else (time, 0, 0, pending, posted)
                self.sums[account["id"]].moves.append(change)

    def move(self, t: Row, amount: int) -> None:
        self.sums[t["debit_account_id"]].debits_posted += amount
        self.sums[t["credit_account_id"]].credits_posted += amount

    def pending(self, id_: int, p: Row) -> None:
        row = self.statuses.get(id_)
        expected = self.resolved.get(id_)
        if row is None:
            self.say("pending.missing", id_, "a two-phase transfer without a status")
            return
        expires = p["timestamp"] + p["timeout"] * 1_000_000_000 if p["timeout"] else None
        if row["expires_at"] != expires:
            self.say("pending.expiry", id_, f"expires at {row['expires_at']}, its transfer says {expires}")
        status = row["status"]
        if status != expected and (expected or status not in ("pending", "expired")):
            self.say("pending.status", id_, f"is `{status}`, the transfers say `{expected or 'pending'}`")
        if status == "expired":
            if expires is None:
                self.say("pending.status", id_, "is `expired` but has no timeout")
            self.note(p, row.get("resolved_at") or 0, -p["amount"], 0)
        if (expected or status) == "pending":
            debit, credit = self.sums[p["debit_account_id"]], self.sums[p["credit_account_id"]]
            debit.debits_pending += p["amount"]
            credit.credits_pending += p["amount"]
            debit.closed |= p["flags"] & _CLOSES_DEBIT
            credit.closed |= p["flags"] & _CLOSES_CREDIT

    def account(self, id_: int, account: Row) -> None:
        sums = self.sums[id_]
        for name in _BALANCES:
            if account[name] != getattr(sums, name):
                self.say(f"account.{name}", id_, f"is {account[name]}, the transfers sum to {getattr(sums, name)}")
        if sums.closed and not account["flags"] & _CLOSED:
            self.say("account.closed", id_, "a closing transfer is pending, yet the account is open")
        if account["touched"] < sums.newest:
            self.say("account.touched", id_, "older than its newest transfer")
        debits, credits_ = sums.debits_pending + sums.debits_posted, sums.credits_pending + sums.credits_posted
        if account["flags"] & _DEBITS_LIMITED and debits > sums.credits_posted:
            self.say("account.limit", id_, f"debits {debits} exceed credits {sums.credits_posted}")
        if account["flags"] & _CREDITS_LIMITED and credits_ > sums.debits_posted:
            self.say("account.limit", id_, f"credits {credits_} exceed debits {sums.debits_posted}")

    def kept(self) -> None:
        """Every balance that was kept, against what the movements up to its time sum to."""
        expected: dict[tuple[int, int], tuple[int, ...]] = {}
        for id_, sums in self.sums.items():
            running = (0, 0, 0, 0)
            for time, *changes in sorted(sums.moves):
                running = tuple(map(sum, zip(running, changes, strict=True)))  # type: ignore[assignment]
                expected[id_, time] = running
        for row in self.rows("ledger_balance"):
            at = (row["account_id"], row["timestamp"])
            if expected.pop(at, None) != tuple(row[name] for name in _BALANCES):
                self.say("account.history", at[0], f"the balances kept at {at[1]} are not those of its transfers")
        for id_, time in expected:
            self.say("account.history", id_, f"no balances are kept at {time}")

    def trial_balance(self) -> None:
        off: dict[int, int] = {}
        for account in self.accounts.values():
            for name, sign in zip(_BALANCES, (1, 1, -1, -1), strict=True):
                off[account["ledger"]] = off.get(account["ledger"], 0) + sign * account[name]
        for ledger, difference in off.items():
            if difference:
                self.say("ledger.trial_balance", str(ledger), f"debits less credits is {difference}, not 0")

    def charges(self) -> None:
        refunded: dict[str, int] = {}
        for row in self.rows("refund"):
            refunded[row["charge_id"]] = refunded.get(row["charge_id"], 0) + row["amount_minor"]
            if self.amounts.get(row["transfer_id"]) != row["amount_minor"]:
                self.say("charge.refund", row["id"], "its transfer is missing or of another amount")
        for row in self.rows("charge"):
            if row["capture_id"] is not None and self.amounts.get(row["capture_id"]) != row["amount_minor"]:
                self.say("charge.capture", row["id"], "its transfer is missing or of another amount")
            if row["hold_id"] is not None and self.amounts.get(row["hold_id"]) != row["amount_minor"]:
                self.say("charge.hold", row["id"], "its transfer is missing or of another amount")
            if row["refunded_minor"] != refunded.pop(row["id"], 0):
                self.say("charge.refunded", row["id"], "does not equal the sum of its refunds")
            captured = row["status"] in ("captured", "partially_refunded", "refunded")
            if captured != (row["capture_id"] is not None):
                self.say("charge.status", row["id"], f"is `{row['status']}` but the ledger says otherwise")
        for charge in refunded:
            self.say("charge.missing", charge, "was refunded but is not there")

    def payouts(self) -> None:
        held = {"scheduled": "pending", "frozen": "pending", "cancelled": "voided"}
        expected = {"paid": "posted", "returned": "posted", **held}
        named = {_id_of("payout", row["id"]): row for row in self.rows("payout")}
        for transfer, row in named.items():
            status = self.statuses.get(transfer, {}).get("status")
            if self.amounts.get(transfer) != row["amount_minor"] or status != expected.get(row["status"]):
                self.say("payout.transfer", row["id"], f"is `{row['status']}`, its transfer is `{status}`")

    def disputes(self) -> None:
        disputed: dict[str, int] = {}
        for row in self.rows("dispute"):
            expected = "pending"
            if row["status"] == "settled":
                expected = "voided" if row["outcome"] == "won" else "posted"
            for part in ("held", "covered"):
                transfer = _id_of(f"dispute.{part}", row["id"])
                status = self.statuses.get(transfer, {}).get("status")
                if self.amounts.get(transfer) != row[f"{part}_minor"] or status != expected:
                    self.say("dispute.transfer", row["id"], f"is `{row['status']}`, what it {part} is `{status}`")
            back = self.amounts.get(_id_of("dispute.returned", row["id"]))
            if back != (row["amount_minor"] if expected == "posted" else None):
                self.say("dispute.returned", row["id"], "what went back to the network is not what the outcome says")
            if row["amount_minor"] != row["held_minor"] + row["covered_minor"]:
                self.say("dispute.amount", row["id"], "is not the sum of what is held and covered")
            if expected != "voided":
                disputed[row["charge_id"]] = disputed.get(row["charge_id"], 0) + row["amount_minor"]
        for row in self.rows("charge"):
            if row["disputed_minor"] != disputed.get(row["id"], 0):
                self.say("charge.disputed", row["id"], "does not equal the sum of its disputes")

    def crossings_out(self) -> None:
        expected = {"sent": "pending", "cancelling": "pending", "applied": "posted", "reversed": "voided"}
        for row in self.rows("crossing_out"):
            hold = _id_of("crossing.hold", row["peer"], row["id"])
            status = self.statuses.get(hold, {}).get("status")
            if self.amounts.get(hold) != row["amount"] or status != expected.get(row["state"]):
                self.say("crossing.hold", row["id"], f"is `{row['state']}`, its reservation is `{status}`")

    def crossings_in(self) -> None:
        for row in self.rows("crossing_in"):
            came = self.amounts.get(_id_of("crossing.credit", row["peer"], row["id"]))
            if came != (row["amount"] if row["verdict"] == "applied" else None):
                self.say("crossing.credit", row["id"], f"is `{row['verdict']}`, the ledger says otherwise")


def _both(flags: int) -> bool:
    return bool(flags & _POST and flags & _VOID)


def _id_of(*parts: str) -> int:
    # Written out here, not imported: the auditor must not share the writer's code.
    return int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest()[:16], "big")


def _decode(value: Any) -> Any:
    """Wide numbers of both databases; other values pass. Wide ones are the only blobs of 8 or 16 bytes we read."""
    if isinstance(value, bytes | memoryview):
        raw = bytes(value)
        return int.from_bytes(raw, "big") if len(raw) in (8, 16) else raw
    return int(value) if type(value).__name__ == "Decimal" else value
