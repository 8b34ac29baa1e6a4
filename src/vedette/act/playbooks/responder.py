"""Runs of playbooks: started, shown, decided upon, stopped and begun again from a step.

An alert and a playbook version have one run, and so has each occasion of another kind: an interval of a schedule, a
delivery of a webhook, a key that a person gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from vedette.act.alerts import Alerts
from vedette.act.approvals import Approval, Approvals, ApprovalState
from vedette.act.cases import Cases
from vedette.act.playbooks.asking import topic
from vedette.act.playbooks.carried import carry
from vedette.act.playbooks.inputs import alert_scope, bind_inputs
from vedette.act.playbooks.playbook import Playbook, is_drastic, owners
from vedette.act.playbooks.pulses import Pulses
from vedette.act.playbooks.reading import Reading
from vedette.act.playbooks.stored import (
    FIRED,
    RUN,
    book_of,
    find_row,
    load_row,
    request_of,
    run_identity,
    store,
)
from vedette.act.playbooks.views import GOING, RunView
from vedette.act.playbooks.world import KIND, Request
from vedette.core.clock import Clock
from vedette.core.db import Database, sa
from vedette.core.errors import ConflictError, DataError, NotFoundError
from vedette.core.execute import Runs
from vedette.core.signal import Level

__all__ = ["Responder", "RunView", "alert_scope", "bind", "run_identity"]

MAX_LIST = 1_000

START_S = 60.0
"""How long a run may be queued before it is overdue."""


class Occasion(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is about, when it is no alert."""

    key: str
    """The same key has one run of a playbook version: `schedule:<start>`, `case:<id>`, `webhook:<delivery>`."""
    trigger: dict[str, Any]
    """`type`, and what came with it, as `${trigger...}` reads it."""
    case_id: str = ""
    """The case it works on; empty: one is opened if there is a title, or if the playbook does something drastic."""
    title: str = ""
    level: Level = Level.MEDIUM


class Responder(Reading):
    """Answers alerts with playbooks.

    Args:
        runs: The durable executor, or its remote view.
        database: state.db, or its PostgreSQL schema.
        alerts: Where alerts are read.
        cases: Where the work is recorded.
        approvals: Where decisions are taken.
        clock: Times of starts.
        pulses: Until when each run is to be heard of.
    """

    def __init__(
        self,
        *,
        runs: Runs,
        database: Database,
        alerts: Alerts,
        cases: Cases,
        approvals: Approvals,
        clock: Clock,
        pulses: Pulses,
    ) -> None:
        super().__init__(runs=runs, database=database, approvals=approvals, pulses=pulses)
        self._alerts = alerts
        self._cases = cases
        self._clock = clock

    def start(
        self,
        tenant: str,
        playbook: Playbook,
        alert_id: str,
        *,
        requester: str,
        inputs: Mapping[str, Any] | None = None,
        authors: tuple[str, ...] = (),
        trigger: Mapping[str, Any] | None = None,
        once: str = "",
    ) -> RunView:
        """Starts the run of this alert and playbook version; a second start gives the first one's run.

        Args:
            tenant: Whose alert.
            playbook: Loaded and checked.
            alert_id: What it answers.
            requester: Who wants it; may not approve it.
            inputs: Values given by hand; the others are taken from the alert.
            authors: Owners of the rule that raised the alert; may not approve. Owners of playbooks are added.
            trigger: What started it, when it was no person.
            once: Under this name the playbook is started once, whatever its version; empty: once a version.

        Raises:
            NotFoundError: `alerts.alert.unknown`.
            Problems: inputs are missing or of another type.
            ConflictError: `playbook.version.changed`: this version ran for this alert with another content.
        """
        alert = self._alerts.get(tenant, alert_id)
        given = bind(playbook, alert_scope(alert), inputs or {})
        run_id = run_identity(tenant, alert_id, playbook)
        case = self._cases.open(tenant, alert.title, operator=requester, level=alert.level, alert_id=alert_id)
        request = Request(
            tenant=tenant,
            alert_id=alert_id,
            case_id=case.id,
            requester=requester,
            authors=_authors(playbook, authors),
            alert=alert_scope(alert),
            inputs=given,
            trigger=dict(trigger or {}),
        )
        self._begin(run_id, playbook, request, once)
        return self.show(tenant, run_id)

    def launch(
        self,
        tenant: str,
        playbook: Playbook,
        occasion: Occasion,
        *,
        requester: str,
        inputs: Mapping[str, Any] | None = None,
        once: str = "",
    ) -> RunView:
        """Starts the run of an occasion that is no alert; the same occasion again gives the first one's run.

        Args:
            tenant: Whose.
            playbook: Loaded and checked.
            occasion: What it is about.
            requester: Who wants it; may not approve it.
            inputs: Values given by hand; the others are taken from what triggered it.
            once: Under this name the playbook is started once, whatever its version; empty: once a version.

        Raises:
            Problems: inputs are missing or of another type.
            ConflictError: `playbook.version.changed`.
        """
        given = bind_inputs(playbook.inputs, {"trigger": occasion.trigger, "alert": {}}, inputs or {})
        run_id = run_identity(tenant, occasion.key, playbook)
        case_id, title = occasion.case_id, occasion.title or (playbook.title if is_drastic(playbook.steps) else "")
        if not case_id and title and not self._known(tenant, run_id):
            case_id = self._cases.open(tenant, title, operator=requester, level=occasion.level).id
        request = Request(
            tenant=tenant,
            alert_id="",
            case_id=case_id,
            requester=requester,
            authors=_authors(playbook, ()),
            alert={},
            inputs=given,
            trigger=occasion.trigger,
        )
        self._begin(run_id, playbook, request, once)
        return self.show(tenant, run_id)

    def fired(self, tenant: str, playbook: str, occasion: str) -> bool:
        """Whether a trigger has started a playbook for an occasion already."""
        here = (FIRED.c.tenant == tenant) & (FIRED.c.playbook == playbook) & (FIRED.c.occasion == occasion)
        with self._database.read() as connection:
            return connection.execute(sa.select(FIRED.c.run_id).where(here)).first() is not None

    def _begin(self, run_id: str, playbook: Playbook, request: Request, once: str = "") -> None:
        with self._database.begin() as connection:
            held = store(connection, run_id, playbook, request, now=self._clock.now(), once=once)
        # Not by digest: a run that an older program began knows nothing of newer fields.
        if book_of(held) != playbook:
            raise ConflictError(
                "playbook.version.changed",
                f"version {playbook.version} of `{playbook.id}` ran for this with another content",
                hint="raise the playbook's version",
                at=run_id,
            )
        self._hand_over(held)

    def _hand_over(self, held: Any) -> None:
        """Gives a stored run to the executor; again changes nothing."""
        try:
            self._runs.status(held.id)
        except NotFoundError:
            self._pulses.beat(held.tenant, held.id, "", "run.start", START_S)
        # The stored request, not a new one: the alert may have grown since the first start.
        self._runs.start(held.id, KIND, msgspec.json.decode(held.definition), msgspec.json.decode(held.request))

    def recover(self) -> int:
        """Hands over the runs whose process died between storing them and handing them over; gives how many.

        Looks at the newest `MAX_LIST` of each tenant.
        """
        with self._database.read() as connection:
            rows = connection.execute(RUN.select().order_by(RUN.c.created_time.desc()).limit(MAX_LIST)).all()
        known = self._runs.find([row.id for row in rows])
        lost = [row for row in rows if row.id not in known]
        for row in lost:
            self._hand_over(row)
        return len(lost)

    def cancel(self, tenant: str, run_id: str) -> RunView:
        """Stops a run before its next step, in all its branches; what it asked for is withdrawn. `resume` goes on.

        Raises:
            NotFoundError: `playbook.run.unknown`.
            ConflictError: `playbook.run.over`.
        """
        view = self.show(tenant, run_id)
        if view.state not in GOING:
            raise ConflictError("playbook.run.over", f"the run is {view.state} already", at=run_id)
        self._runs.cancel(run_id)
        self._approvals.withdraw(tenant, run_id)
        self._pulses.end(tenant, run_id)
        return self.show(tenant, run_id)

    def resume(self, tenant: str, run_id: str) -> RunView:
        """Lets a cancelled or stuck run go on after its last finished step; one that is going is left as it is.

        Raises:
            NotFoundError: `playbook.run.unknown`.
            ConflictError: `playbook.run.over`.
        """
        view = self.show(tenant, run_id)
        if view.state in GOING:
            return view
        if view.state not in ("cancelled", "stuck"):
            hint = "begin it again from a step"
            raise ConflictError("playbook.run.over", f"the run is {view.state}", hint=hint, at=run_id)
        self._pulses.beat(tenant, run_id, "", "resume", START_S)
        self._approvals.reopen(tenant, run_id)
        self._runs.resume(run_id)
        return self.show(tenant, run_id)

    def rerun(
        self, tenant: str, run_id: str, *, step: str, requester: str, playbook: Playbook | None = None
    ) -> RunView:
        """Begins a finished run again from a step, as a new run: what steps before it did is carried, not done again.

        Approvals are asked for again unless everything they cover is carried.

        Args:
            tenant: Whose run.
            run_id: The run before; it must be over.
            step: Id of the step to begin at.
            requester: Who wants it; may not approve it.
            playbook: A newer version; None: the one of the run before.

        Raises:
            NotFoundError: `playbook.run.unknown`, `playbook.step.unknown`.
            ConflictError: `playbook.run.going`: it is not over.
        """
        with self._database.read() as connection:
            row = load_row(connection, tenant, run_id)
        view = self.show(tenant, run_id)
        if view.state in GOING:
            raise ConflictError("playbook.run.going", f"the run is {view.state}", hint="cancel it first", at=run_id)
        book, held = playbook or book_of(row), request_of(row)
        trigger = {"type": "rerun", "run": run_id, "step": step}
        carried = carry(book, view.steps, held.carried, step)
        request = msgspec.structs.replace(held, requester=requester, carried=carried, trigger=held.trigger | trigger)
        fresh = run_identity(tenant, f"rerun:{run_id}:{step}:{self._clock.now()}", book)
        self._begin(fresh, book, request)
        return self.show(tenant, fresh)

    def decide(
        self, tenant: str, run_id: str, *, by: str, approve: bool, seen: str = "", step: str = "", reason: str = ""
    ) -> Approval:
        """Takes a person's decision and wakes the run. Works while no process executes it.

        Args:
            tenant: Whose run.
            run_id: The run.
            by: The person, proven by the caller.
            approve: False to deny.
            seen: Hash of the request they looked at; empty: the one that is pending now.
            step: Approval step; empty: the one it waits for, or the last one decided.
            reason: Their own words.

        Raises:
            NotFoundError: `playbook.run.unknown`, `approvals.approval.unknown`.
            DeniedError, ConflictError: see `Approvals.decide`.
        """
        with self._database.read() as connection:
            load_row(connection, tenant, run_id)
        asked = [each for each in self._approvals.find(tenant, run_id=run_id) if step in ("", each.step)]
        if not asked:
            raise NotFoundError("approvals.approval.unknown", "the run waits for no approval", at=run_id)
        open_ones = [each for each in asked if each.state is ApprovalState.PENDING]
        if not step and not seen and len(open_ones) > 1:
            names = ", ".join(each.step for each in open_ones)
            raise DataError(
                "playbook.approval.several", "the run asks for several decisions", hint=f"name one: {names}"
            )
        matching = [each for each in open_ones if not seen or each.hash == seen]
        chosen = next(iter(matching or open_ones), asked[-1])
        decided = self._approvals.decide(
            tenant, run_id, chosen.step, by=by, seen=seen or chosen.hash, approve=approve, reason=reason
        )
        # A bell rung twice is heard once: a repeated decision may find that the first bell was lost with its process.
        key = f"{run_id}:{chosen.step}:{decided.state}"
        self._runs.send(chosen.listener or run_id, topic(chosen.step), {"decided": True}, key=key)
        return decided

    def _known(self, tenant: str, run_id: str) -> bool:
        with self._database.read() as connection:
            return find_row(connection, tenant, run_id) is not None


def bind(playbook: Playbook, alert: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of a run for an alert; see `bind_inputs`."""
    return bind_inputs(playbook.inputs, {"alert": alert, "trigger": {}}, given)


def _authors(playbook: Playbook, authors: Sequence[str]) -> tuple[str, ...]:
    """Who may not approve: authors of the rule, owners of the playbook and of those inside it."""
    return tuple(sorted({*authors, *owners(playbook)}))
