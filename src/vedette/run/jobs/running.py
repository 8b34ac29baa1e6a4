"""Runs jobs in this process, or in several."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

from vedette.core.clock import SystemClock, to_datetime
from vedette.core.errors import TransientError
from vedette.core.settings import Settings
from vedette.judge.sigma.history import Engine
from vedette.judge.sigma.load import all_of
from vedette.run.jobs.detect import Worker, check, digest_of, job_id_of, plan
from vedette.run.jobs.ledger import Job, Ledger, Spec
from vedette.run.parts import Parts
from vedette.run.pipeline.detection import Detection, load_detection
from vedette.run.pipeline.rollout import Edition, Rollout
from vedette.run.rules.history import Staged
from vedette.sense.history import Span
from vedette.sense.store import Store

POLL_S = 0.2
"""How often the parent looks how far its workers are."""

Progress = Callable[[int, int], None]
"""Told how many parts are done, of how many."""


def jobs_folder(settings: Settings) -> Path:
    """Where jobs keep contributions and locks."""
    return settings.home / "jobs"


def load_rules(settings: Settings, paths: Sequence[str], only: str, today: date | None) -> Detection:
    """The rules of a job."""
    return load_detection(map(Path, paths), only=only, cache=settings.home / "cache", today=today)


def load_edition(parts: Parts, paths: Sequence[str], only: str, today: date, change: int) -> Edition:
    """The rules of a job at the stages that they had after a change: what was shipped stands in for what is given.

    What was shipped that is not among the rules given is none of the job's.
    """
    given = load_rules(parts.settings, paths, only, today)
    ids = {one.id for one in (*all_of(given.rules), *given.rules.detectors)}
    rollout = Rollout(given, parts.shipments, parts.clock, given.sources, parts.cards)
    return rollout.edition(change, today.isoformat(), ids)


class Jobs:
    """Jobs of one installation.

    Args:
        parts: The installation.
        store: Its event store.
        workers: Processes that judge; 1: this one.
        progress: Told of parts.
    """

    def __init__(
        self,
        parts: Parts,
        store: Store,
        *,
        workers: int = 1,
        progress: Progress = lambda _done, _all: None,
    ) -> None:
        self.ledger = Ledger(parts.state, parts.clock)
        self._parts = parts
        self._store = store
        self._workers = workers
        self._progress = progress

    def today(self) -> date:
        """The day by which filters expire."""
        return to_datetime(self._parts.clock.now()).date()

    def spec(
        self,
        paths: Sequence[str],
        span: Span,
        *,
        tenant: str,
        only: str = "",
        sources: Sequence[str] = (),
        engine: Engine = Engine.MATCHER,
        cause: str = "",
    ) -> tuple[Spec, Edition]:
        """What a job over a span would do, and its rules. Sources that are not named: all with a table and rules."""
        whole = [str(Path(path).absolute()) for path in paths]
        change = self._parts.shipments.newest()
        edition = load_edition(self._parts, whole, only, self.today(), change)
        there = [name for name in self._store.names() if name in edition.live.sources and edition.reads(name)]
        spec = Spec(
            tenant=tenant,
            rules=tuple(whole),
            only=only,
            digest=digest_of(edition),
            change=change,
            start=span.start,
            end=span.end,
            sources=tuple(name for name in there if not sources or name in sources),
            engine=engine,
            cause=cause,
        )
        return spec, edition

    def run(self, spec: Spec, edition: Edition, *, again: bool = False) -> tuple[Job, bool]:
        """Runs a job to its end, from wherever it was left.

        Args:
            spec: From `spec`.
            edition: Its rules.
            again: Judge it anew when it is done.

        Returns:
            The job, and whether there was anything to do.

        Raises:
            UnsupportedError: `sql.rules.refused`.
            TransientError: `jobs.part.taken` when another process still works on a part of it.
        """
        job_id = job_id_of(spec)
        parts = plan(self._store, edition, spec)
        if not self.ledger.open(job_id, spec, parts) and again:
            self.ledger.reopen(job_id, parts)
        job = self.ledger.job(job_id)
        if job.finished_time:
            return job, False
        self._progress(job.parts_done, job.parts)
        if self._workers > 1:
            self._spread(job, spec.engine)
        worker = self._worker(edition, spec.engine)
        if not worker.work(job, lambda _part: self._tell(job_id)):
            raise TransientError("jobs.part.taken", "another process works on a part of this job", at=job_id)
        while self._parts.alerts.consume(self._parts.log).read:
            pass
        worker.close(job)
        return self.ledger.job(job_id), True

    def _tell(self, job_id: str) -> None:
        job = self.ledger.job(job_id)
        self._progress(job.parts_done, job.parts)

    def _worker(self, edition: Edition, engine: Engine) -> Worker:
        return Worker(
            jobs_folder(self._parts.settings),
            ledger=self.ledger,
            history=Staged(self._store, edition, engine=engine),
            log=self._parts.log,
            alerts=self._parts.alerts,
        )

    def _spread(self, job: Job, engine: Engine) -> None:
        """Lets several processes work on a job until none of them finds a part to take."""
        context = multiprocessing.get_context("spawn")
        arguments = (self._parts.settings, job.id, engine, self.today(), os.getpid())
        workers = [context.Process(target=_work, args=arguments, daemon=True) for _ in range(self._workers)]
        for worker in workers:
            worker.start()
        while any(worker.is_alive() for worker in workers):
            self._tell(job.id)
            time.sleep(POLL_S)
        for worker in workers:
            worker.join()


def _work(settings: Settings, job_id: str, engine: Engine, today: date, parent: int) -> None:
    """What a worker process does. Without its parent it stops after the part in hand."""
    with Parts(settings, clock=SystemClock()) as parts:
        ledger = Ledger(parts.state, parts.clock)
        job = ledger.job(job_id)
        edition = load_edition(parts, job.spec.rules, job.spec.only, today, job.spec.change)
        check(job, edition)
        history = Staged(Store(settings.store_folder), edition, engine=engine, threads=1)
        worker = Worker(jobs_folder(settings), ledger=ledger, history=history, log=parts.log, alerts=parts.alerts)
        worker.work(job, alive=lambda: os.getppid() == parent)
