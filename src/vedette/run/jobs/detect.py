"""The job `detect`: plans its parts, and works on them until none is left."""

from __future__ import annotations

import fcntl
import hashlib
import heapq
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from vedette.act.alerts import Alerts
from vedette.core.errors import ConflictError, DataError
from vedette.core.log import Log
from vedette.core.signal import Signal
from vedette.judge.correlation.correlator import Contribution
from vedette.judge.sigma.history import Engine
from vedette.judge.sigma.load import all_of
from vedette.run.jobs.ledger import CORRELATIONS, Job, Ledger, Part, Spec
from vedette.run.pipeline.detecting import SIGNALS
from vedette.run.pipeline.rollout import Edition
from vedette.run.rules.history import Staged, reach, widened
from vedette.sense.history import stored_days
from vedette.sense.store import Store

_SUFFIX = ".contributions"
_PIECE = 5_000
"""Contributions of one line of a file."""
_LENGTH = 8
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Contribution]).decode

Report = Callable[[Part], None]
"""Told of each part that was done."""


def digest_of(edition: Edition) -> str:
    """A hash of the versions of all rules that can match, and of the stages of those on trial."""
    versions = [[one.id, one.version] for each in edition.sets for one in all_of(each.rules)]
    versions += [[one.id, one.version] for each in edition.sets for one in each.rules.detectors]
    stages = [[name, str(gate.standing.percent)] for name, gate in edition.gates.items()]
    return hashlib.sha256(msgspec.json.encode([sorted(versions), sorted(stages)])).hexdigest()


def job_id_of(spec: Spec) -> str:
    """The id of a job: the same work is the same job, whatever engine does it."""
    same = msgspec.structs.replace(spec, engine=Engine.MATCHER, rules=(), only="", change=0)
    return "job_" + hashlib.sha256(msgspec.json.encode(same, order="sorted")).hexdigest()[:24]


def plan(store: Store, edition: Edition, spec: Spec) -> list[Part]:
    """The parts: each source and day of the span and its reach that has events, then the correlations."""
    whole = widened(spec.span, reach(*edition.sets))
    found: list[Part] = []
    for source in spec.sources:
        for day in stored_days(store, spec.tenant, source):
            cut = day.both(whole)
            if not cut.empty:
                found.append(Part(number=len(found), source=source, start=cut.start, end=cut.end))
    if any(one.rules.correlations for one in edition.sets):
        found.append(Part(number=len(found), source=CORRELATIONS, start=whole.start, end=whole.end))
    return found


class Worker:
    """Works on the parts of jobs. Any number of them may, in as many processes.

    Args:
        folder: Where contributions and locks are kept; one folder for each job.
        ledger: What is done.
        history: The rules over the store.
        log: Where signals go.
        alerts: Which signals are known.
    """

    def __init__(self, folder: Path, *, ledger: Ledger, history: Staged, log: Log, alerts: Alerts) -> None:
        self._folder = folder
        self._ledger = ledger
        self._history = history
        self._log = log
        self._alerts = alerts

    def work(self, job: Job, report: Report = lambda _part: None, *, alive: Callable[[], bool] = lambda: True) -> bool:
        """Takes parts that nobody works on until there is none.

        Args:
            job: Which.
            report: Told of each part.
            alive: False stops it after the part in hand.

        Returns:
            True when every part is done; false when others still work on parts, or `alive` said no.
        """
        folder = self._folder / job.id
        parts = self._ledger.parts(job.id)
        for part in parts:
            if not alive():
                return False
            if not part.done and part.source != CORRELATIONS:
                self._once(job, part, folder, report)
        parts = self._ledger.parts(job.id)
        if any(not part.done and part.source != CORRELATIONS for part in parts):
            return False
        for part in parts:
            if not part.done:
                self._once(job, part, folder, report)
        return all(part.done for part in self._ledger.parts(job.id))

    def close(self, job: Job) -> None:
        """Tidies up after the last part, and notes that the job is done."""
        shutil.rmtree(self._folder / job.id, ignore_errors=True)
        self._ledger.close(job.id)

    def _once(self, job: Job, part: Part, folder: Path, report: Report) -> None:
        with _alone(folder / f"{part.number}.lock") as mine:
            # Another one may have done it between the look at the ledger and the lock.
            if mine and not self._ledger.parts(job.id)[part.number].done:
                done = (
                    self._correlations(job, part, folder)
                    if part.source == CORRELATIONS
                    else self._part(job, part, folder)
                )
                self._ledger.finish(job.id, done)
                report(done)

    def _part(self, job: Job, part: Part, folder: Path) -> Part:
        spec = job.spec
        judged = self._history.judge(spec.tenant, part.source, part.span)
        signals = [one for one in judged.signals if spec.start <= one.event_time < spec.end]
        if judged.contributions:
            write_contributions(folder / f"{part.number}{_SUFFIX}", judged.contributions)
        fresh = self._tell(spec.tenant, signals)
        brought = len(judged.contributions)
        told = {"events": judged.events, "signals": len(signals), "fresh": fresh, "contributions": brought}
        return msgspec.structs.replace(part, **told)

    def _correlations(self, job: Job, part: Part, folder: Path) -> Part:
        spec = job.spec
        brought = [one.number for one in self._ledger.parts(job.id) if one.contributions]
        files = [folder / f"{number}{_SUFFIX}" for number in brought]
        if missing := [path.name for path in files if not path.exists()]:
            hint = "`--again` judges everything anew"
            raise DataError("jobs.contributions.missing", f"{missing[0]} is gone", hint=hint, at=job.id)
        merged = heapq.merge(*map(read_contributions, files), key=lambda one: one.moment[:3])
        signals = list(self._history.correlate(spec.tenant, merged, spec.span))
        return msgspec.structs.replace(part, signals=len(signals), fresh=self._tell(spec.tenant, signals))

    def _tell(self, tenant: str, signals: Sequence[Signal]) -> int:
        """Appends the signals that no alert has counted yet; gives how many."""
        known = self._alerts.known(tenant, [one.id for one in signals])
        fresh = [msgspec.json.encode(one) for one in signals if one.id not in known]
        if fresh:
            self._log.append(SIGNALS, tenant, fresh)
        return len(fresh)


def check(job: Job, edition: Edition) -> None:
    """Refuses to go on with other rules than a job began with.

    Raises:
        ConflictError: `jobs.rules.changed`.
    """
    if digest_of(edition) != job.spec.digest:
        raise ConflictError("jobs.rules.changed", "the rules are not those that the job began with", at=job.id)


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """True for the one process that works on a part; the lock ends with the process, however it ends."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def write_contributions(path: Path, contributions: Sequence[Contribution]) -> None:
    """Keeps contributions, which are in order; the file is there whole or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        for start in range(0, len(contributions), _PIECE):
            piece = _encode(contributions[start : start + _PIECE])
            file.write(len(piece).to_bytes(_LENGTH) + piece)
    fresh.replace(path)


def read_contributions(path: Path) -> Iterator[Contribution]:
    """The contributions of a file, in order.

    Raises:
        DataError: `jobs.contributions.damaged`.
    """
    with path.open("rb") as file:
        while head := file.read(_LENGTH):
            body = file.read(int.from_bytes(head))
            try:
                yield from _decode(body)
            except msgspec.DecodeError as error:
                raise DataError("jobs.contributions.damaged", "not what was written", at=path.name) from error
