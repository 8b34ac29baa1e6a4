"""People's decisions about drastic actions: one row each, bound to a hash, with a deadline and four eyes.

The row is the truth; the message that wakes the waiting run is only a bell. So a decision taken while no process runs
is honoured after the restart, and a forged message decides nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import msgspec

from vedette.core.clock import Clock, to_iso
from vedette.core.db import LONG, Connection, Database, Migration, create, insert_new, sa
from vedette.core.errors import ConflictError, DeniedError, NotFoundError

MAX_LIST = 1_000

_METADATA = sa.MetaData()
_APPROVAL = sa.Table(
    "approval",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("step", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("deadline", LONG, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Index("approval_inbox", "tenant", "state", "deadline"),
    sqlite_strict=True,
)
MIGRATIONS = (Migration(1, "approvals", create(_METADATA)),)


class ApprovalState(StrEnum):
    """Where a request stands."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    """Its run was cancelled."""


class Covered(msgspec.Struct, frozen=True):
    """An action that waits for the decision, with its exact arguments."""

    step: str
    action: str
    arguments: dict[str, Any]
    preview: dict[str, Any] | None = None
    """What it would touch, as far as the action can tell; not part of the hash."""


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """A request and, once there is one, its decision."""

    tenant: str
    run_id: str
    step: str
    title: str
    actions: tuple[Covered, ...]
    evidence: dict[str, Any]
    """Step id -> what it found: what the decision is based on."""
    requester: str
    authors: tuple[str, ...]
    """Owners of the rule and of the playbook: they may not approve."""
    requested_time: int
    deadline: int
    """A decision after this time is refused, microseconds UTC."""
    hash: str
    """SHA-256 over run, step, actions with arguments, and evidence."""
    state: ApprovalState = ApprovalState.PENDING
    decided_by: str = ""
    decided_time: int = 0
    reason: str = ""
    listener: str = ""
    """The branch of the run that waits; empty: the run itself."""
    escalated_time: int = 0
    """When others were told that nobody decides; 0: not yet."""


def binding(run_id: str, step: str, actions: Iterable[Covered], evidence: Mapping[str, Any]) -> str:
    """The hash that a decision is bound to."""
    acts = [[each.step, each.action, each.arguments] for each in actions]
    return hashlib.sha256(msgspec.json.encode([run_id, step, acts, evidence], order="sorted")).hexdigest()


class Approvals:
    """The approvals of all tenants.

    Args:
        database: state.db, or its PostgreSQL schema.
        clock: Decides what is too late.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        database.migrate("approvals", MIGRATIONS)

    def request(self, approval: Approval) -> Approval:
        """Stores a request; asked again for the same run and step, it gives the stored one with its first deadline."""
        tenant, run_id, step = approval.tenant, approval.run_id, approval.step
        with self._database.begin() as connection:
            insert_new(connection, _APPROVAL, tenant=tenant, run_id=run_id, step=step, **_columns(approval))
            return _load(connection, tenant, run_id, step)

    def get(self, tenant: str, run_id: str, step: str) -> Approval:
        """One request.

        Raises:
            NotFoundError: `approvals.approval.unknown`, also for another tenant's.
        """
        with self._database.read() as connection:
            return _load(connection, tenant, run_id, step)

    def find(self, tenant: str, *, run_id: str = "", pending: bool = False, limit: int = 100) -> list[Approval]:
        """Requests, the earliest deadline first; `pending` gives the inbox."""
        query = sa.select(_APPROVAL.c.body).where(_APPROVAL.c.tenant == tenant)
        if run_id:
            query = query.where(_APPROVAL.c.run_id == run_id)
        if pending:
            query = query.where(_APPROVAL.c.state == "pending", _APPROVAL.c.deadline >= self._clock.now())
        query = query.order_by(_APPROVAL.c.deadline, _APPROVAL.c.run_id, _APPROVAL.c.step).limit(min(limit, MAX_LIST))
        with self._database.read() as connection:
            return [msgspec.json.decode(body, type=Approval) for body in connection.execute(query).scalars()]

    def decide(
        self, tenant: str, run_id: str, step: str, *, by: str, seen: str, approve: bool, reason: str = ""
    ) -> Approval:
        """Takes a person's decision, once. The same decision by the same person again changes nothing.

        Args:
            tenant: Whose run.
            run_id: The run.
            step: Its approval step.
            by: Id of the person, proven by the caller, who also checked their role.
            seen: Hash of the request they looked at.
            approve: False to deny.
            reason: Their own words, may be empty.

        Raises:
            NotFoundError: `approvals.approval.unknown`.
            DeniedError: `approvals.approver.involved`: the requester or an author may not decide.
            ConflictError: `approvals.hash.changed`, `approvals.deadline.passed`, `approvals.decision.taken`.
        """
        wanted = ApprovalState.APPROVED if approve else ApprovalState.DENIED
        with self._database.begin() as connection:
            approval = _load(connection, tenant, run_id, step, lock=True)
            _check(approval, by=by, seen=seen)
            if approval.state is wanted and approval.decided_by == by:
                return approval
            now = self._clock.now()
            if approval.state in (ApprovalState.APPROVED, ApprovalState.DENIED):
                raise ConflictError("approvals.decision.taken", f"it is {approval.state} already", at=run_id)
            if approval.state is ApprovalState.WITHDRAWN:
                raise ConflictError("approvals.request.withdrawn", "its run was cancelled", at=run_id)
            if approval.state is ApprovalState.EXPIRED or now > approval.deadline:
                when = to_iso(approval.deadline)
                raise ConflictError("approvals.deadline.passed", f"the deadline was {when}", at=run_id)
            values = {"state": wanted, "decided_by": by, "decided_time": now, "reason": reason[:1_000]}
            decided = msgspec.structs.replace(approval, **values)
            _store(connection, decided)
            return decided

    def escalate(self, tenant: str, run_id: str, step: str) -> Approval:
        """Marks a request that nobody decides on as told to others; again changes nothing."""
        with self._database.begin() as connection:
            approval = _load(connection, tenant, run_id, step, lock=True)
            if approval.state is ApprovalState.PENDING and not approval.escalated_time:
                approval = msgspec.structs.replace(approval, escalated_time=self._clock.now())
                _store(connection, approval)
            return approval

    def withdraw(self, tenant: str, run_id: str) -> int:
        """Takes what a cancelled run asked for out of the inbox; gives how many requests that were."""
        return self._move(tenant, run_id, ApprovalState.PENDING, ApprovalState.WITHDRAWN)

    def reopen(self, tenant: str, run_id: str) -> int:
        """Asks again what was withdrawn: its run goes on. Deadlines stay."""
        return self._move(tenant, run_id, ApprovalState.WITHDRAWN, ApprovalState.PENDING)

    def _move(self, tenant: str, run_id: str, before: ApprovalState, after: ApprovalState) -> int:
        here = (_APPROVAL.c.tenant == tenant) & (_APPROVAL.c.run_id == run_id) & (_APPROVAL.c.state == str(before))
        with self._database.begin() as connection:
            bodies = connection.execute(sa.select(_APPROVAL.c.body).where(here).with_for_update()).scalars().all()
            for body in bodies:
                approval = msgspec.json.decode(body, type=Approval)
                _store(connection, msgspec.structs.replace(approval, state=after))
        return len(bodies)

    def settle(self, tenant: str, run_id: str, step: str) -> Approval:
        """What the waiting run reads: the decision; a request whose deadline has passed becomes expired."""
        with self._database.begin() as connection:
            approval = _load(connection, tenant, run_id, step, lock=True)
            if approval.state is ApprovalState.PENDING and self._clock.now() > approval.deadline:
                approval = msgspec.structs.replace(approval, state=ApprovalState.EXPIRED)
                _store(connection, approval)
            return approval


def _check(approval: Approval, *, by: str, seen: str) -> None:
    person = by.strip().casefold()
    if not person or person in {each.strip().casefold() for each in (approval.requester, *approval.authors)}:
        raise DeniedError(
            "approvals.approver.involved",
            "the approver must be neither the requester nor an author of the rule or playbook",
            hint="ask somebody else",
            at=approval.run_id,
        )
    if seen != approval.hash:
        raise ConflictError(
            "approvals.hash.changed",
            "what was looked at is not what would be done",
            hint="look at the request again",
            at=approval.run_id,
        )


def _columns(approval: Approval) -> dict[str, Any]:
    body = msgspec.json.encode(approval).decode()
    return {"state": str(approval.state), "deadline": approval.deadline, "body": body}


def _where(tenant: str, run_id: str, step: str) -> Any:
    return (_APPROVAL.c.tenant == tenant) & (_APPROVAL.c.run_id == run_id) & (_APPROVAL.c.step == step)


def _store(connection: Connection, approval: Approval) -> None:
    here = _where(approval.tenant, approval.run_id, approval.step)
    connection.execute(_APPROVAL.update().where(here).values(**_columns(approval)))


def _load(connection: Connection, tenant: str, run_id: str, step: str, *, lock: bool = False) -> Approval:
    query = sa.select(_APPROVAL.c.body).where(_where(tenant, run_id, step))
    body = connection.execute(query.with_for_update() if lock else query).scalar()
    if body is None:
        raise NotFoundError("approvals.approval.unknown", "no such approval", at=run_id)
    return msgspec.json.decode(body, type=Approval)
