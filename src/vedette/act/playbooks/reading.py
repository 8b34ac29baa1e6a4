"""Runs looked at: one with its steps, or many, the newest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vedette.act.approvals import Approval, Approvals
from vedette.act.playbooks.pulses import Overdue, Pulses
from vedette.act.playbooks.stored import MIGRATIONS, RUN, book_of, load_row, request_of
from vedette.act.playbooks.views import GOING, RunDetail, RunView, make_view
from vedette.core.db import Database
from vedette.core.execute import Runs, StepRecord

MAX_LIST = 1_000

_FORKS = frozenset({"vedette.run"})
"""What the executor records when a branch begins."""


class Reading:
    """Shows runs.

    Args:
        runs: The durable executor, or its remote view.
        database: state.db, or its PostgreSQL schema.
        approvals: What runs ask for.
        pulses: Until when each run is to be heard of.
    """

    def __init__(
        self,
        *,
        runs: Runs,
        database: Database,
        approvals: Approvals,
        pulses: Pulses,
    ) -> None:
        self._pulses = pulses
        self._runs = runs
        self._database = database
        self._approvals = approvals
        database.migrate("playbooks", MIGRATIONS)

    def show(self, tenant: str, run_id: str) -> RunView:
        """One run with its recorded steps.

        Raises:
            NotFoundError: `playbook.run.unknown`, also for another tenant's.
        """
        with self._database.read() as connection:
            row = load_row(connection, tenant, run_id)
        own = [*self._runs.history(run_id)] if self._runs.find([run_id]) else []
        for branch in self._runs.branches(run_id) if any(step.name in _FORKS for step in own) else ():
            own += self._runs.history(branch.id)
        steps = [step for step in own if not step.name.startswith("DBOS.") and step.name not in _FORKS]
        return self._views([row], {row.id: tuple(sorted(steps, key=lambda step: step.ended_time))})[0]

    def detail(self, tenant: str, run_id: str) -> RunDetail:
        """One run with what it was started with.

        Raises:
            NotFoundError: `playbook.run.unknown`, also for another tenant's.
        """
        view = self.show(tenant, run_id)
        with self._database.read() as connection:
            row = load_row(connection, tenant, run_id)
        doing = frozenset(self._pulses.at(tenant, run_id)) if view.state in GOING else frozenset()
        return RunDetail(view=view, playbook=book_of(row), request=request_of(row), doing=doing)

    def find(
        self,
        tenant: str,
        *,
        alerts: Sequence[str] | None = None,
        playbook: str = "",
        states: Sequence[str] = (),
        limit: int = 100,
    ) -> list[RunView]:
        """Newest first.

        Args:
            tenant: Whose.
            alerts: Only the runs that answer one of them.
            playbook: Only its runs.
            states: Only those in one of these states, `overdue` among them, of the newest `MAX_LIST`.
            limit: At most so many, at most `MAX_LIST`.
        """
        query = RUN.select().where(RUN.c.tenant == tenant)
        if alerts is not None:
            query = query.where(RUN.c.alert_id.in_(alerts))
        if playbook:
            query = query.where(RUN.c.playbook == playbook)
        limit = min(limit, MAX_LIST)
        query = query.order_by(RUN.c.created_time.desc(), RUN.c.id).limit(MAX_LIST if states else limit)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        views = self._views(rows, {})
        if states:
            views = [view for view in views if view.state in states or ("overdue" in states and view.overdue)]
        return views[:limit]

    def _views(self, rows: Sequence[Any], steps: Mapping[str, tuple[StepRecord, ...]]) -> list[RunView]:
        if not rows:
            return []
        tenant = rows[0].tenant
        runs = self._runs.find([row.id for row in rows])
        late = {each.run_id: each.step for each in self.overdue(tenant)}
        asked: dict[str, list[Approval]] = {}
        going = [row.id for row in rows if row.id in runs and not runs[row.id].state.finished]
        for each in self._approvals.find(tenant, pending=True, limit=MAX_LIST) if going else ():
            asked.setdefault(each.run_id, []).append(each)
        return [
            make_view(row, runs.get(row.id), tuple(asked.get(row.id, ())), late.get(row.id, ""), steps.get(row.id, ()))
            for row in rows
        ]

    def overdue(self, tenant: str = "") -> list[Overdue]:
        """Runs that were not heard of in time; of every tenant when none is named."""
        return self._pulses.overdue(tenant=tenant)
